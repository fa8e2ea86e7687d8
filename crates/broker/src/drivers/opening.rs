//! The threads that open, create and close logs, several at a time, as the steps of `ottla_replica::logs` block on the disk.

use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, PoisonError};

use ottla_metadata::MetadataImage;
use ottla_replica::Workers;
pub use ottla_replica::logs::LogsError as StepError;

use super::recovery_progress::RecoveryProgress;
use super::working::Working;
use crate::replicas::Replicas;

/// Logs that are created at the same time: most of the time goes into waiting for the disk.
pub(super) const CREATING_THREADS: usize = 8;

/// Why the logs of this node cannot be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Opens all logs that are on disk and in `image`, `threads` of each directory at a time. Logs that are not in
/// `image` are set aside.
pub(super) fn open_existing(
    replicas: &Replicas,
    image: &MetadataImage,
    threads: usize,
) -> Result<(), StepError> {
    let clock = replicas.clock();
    let queues = replicas.node().find_logs(image, clock.monotonic())?;
    let logs = queues.iter().map(Vec::len).sum();
    let progress = RecoveryProgress::new(logs, clock.monotonic());
    let opened = in_parallel(queues, threads, |existing| {
        let mut of_log = progress.begin_log();
        let opened = existing.open(clock.now().wall, &mut |read| {
            of_log.on_read(read, clock.monotonic());
        })?;
        of_log.on_opened(clock.monotonic());
        Ok::<_, StepError>(opened)
    })?;
    replicas.node().hold(opened)
}

/// Threads that work in a log directory, for as long as one job takes.
pub(super) struct DirectoryWorkers<'a> {
    pub(super) working: &'a Working<'a>,
    /// How many may run at a time.
    pub(super) threads: usize,
}

impl Workers for DirectoryWorkers<'_> {
    fn each<T: Send, R: Send>(&self, tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let work = |task| Ok::<_, Infallible>(work(task));
        match in_parallel(vec![tasks], self.threads, work) {
            Ok(done) => done,
            Err(never) => match never {},
        }
    }

    fn disk_answered(&self) {
        self.working.disk_answered();
    }
}

/// Does `work` on `threads` threads for each queue: the waits for the disk of many logs overlap, and their syncs share
/// commits of the file system. The first failure counts; what is under way then is still finished.
fn in_parallel<T: Send, R: Send, E: Send>(
    queues: Vec<Vec<T>>,
    threads: usize,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if queues.iter().map(Vec::len).sum::<usize>() <= 1 {
        return queues.into_iter().flatten().map(work).collect();
    }
    let run = |queue: &Mutex<std::vec::IntoIter<T>>| {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::iter::from_fn(next)
            .map(&work)
            .collect::<Result<Vec<R>, _>>()
    };
    let queues: Vec<_> = queues
        .into_iter()
        .map(|jobs| (jobs.len().min(threads), Mutex::new(jobs.into_iter())))
        .collect();
    std::thread::scope(|scope| {
        let run = &run;
        let places = queues
            .iter()
            .flat_map(|(threads, queue)| (0..*threads).map(move |_| queue));
        let workers: Vec<_> = places
            .map(|queue| scope.spawn(move || run(queue)))
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.join().expect("work on a log does not panic")?);
        }
        Ok(done)
    })
}
