//! The logs of this node, opened at a start, made and deleted as topics come and go: the steps of `ottla_replica::logs`, on
//! threads.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_log::StorageError;
use ottla_log::checkpoint;
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_metadata::Topic;
use ottla_protocol::ids::PartitionIndex;
use ottla_replica::logs::names::directory_name;
use ottla_replica::logs::{self, WhoseLog, sync_and_hold};
use ottla_replica::topic_settings::recovery_threads;

use super::Replicas;
use super::directories::{Directory, Working, distinct};
use super::partition::{Partition, Role, Tasks};
use super::recovery_progress::RecoveryProgress;

/// Logs made at a time: what takes long is waiting for the disk.
const MAKING_THREADS: usize = 8;

/// A log that is to be made.
pub(super) type NewLog<'a> = logs::NewLog<'a, Disk, Tasks>;

/// Why the logs of this node cannot be opened, changed or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A step failed.
    #[error(transparent)]
    Logs(#[from] logs::LogsError),
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The disk cannot.
    #[error(transparent)]
    File(#[from] FileError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// An invariant is broken.
    #[error("what was done in a log directory panicked")]
    Panicked,
}

type Wanted<'a> = [(&'a Topic, PartitionIndex, Role)];

/// The partitions of a start.
pub(super) struct Loaded {
    pub(super) partitions: Vec<Arc<Partition>>,
    /// The directories with a log that ends before its recovery point.
    pub(super) with_shorter: Vec<Arc<Directory>>,
}

/// Opens all logs that are on disk and `wanted`; the rest is set aside.
pub(super) fn open_existing(
    replicas: &Replicas,
    wanted: &Wanted<'_>,
    image: &ottla_metadata::MetadataImage,
) -> Result<Loaded, LogsError> {
    let mut queues = Vec::new();
    let mut whose = whose_logs(replicas, wanted, image);
    let default = replicas.resolve(image, "");
    for directory in replicas.directories.all() {
        let found = logs::find(directory, &mut whose)?;
        let at = replicas.clock.monotonic().after(default.delete_delay);
        for path in found.deleted {
            replicas.housekeeping.remove_at(at, path);
        }
        queues.push(found.existing);
    }
    logs::keep_one_of_each(&mut queues)?;
    for directory in replicas.directories.all() {
        checkpoint::remove_clean_shutdown(directory.log.files(), directory.log.path())?;
    }
    let logs = queues.iter().map(Vec::len).sum();
    let progress = RecoveryProgress::new(logs, replicas.clock.monotonic());
    let threads = replicas
        .directories
        .recovery_threads(|| recovery_threads(image, &replicas.statics));
    let opened = in_parallel(queues, threads, |existing| {
        let mut of_log = progress.begin_log();
        let clock = &replicas.clock;
        let opened = existing.open(clock.now().wall, &mut |read| {
            of_log.on_read(read, clock.monotonic());
        })?;
        of_log.on_opened(clock.monotonic());
        Ok(opened)
    })?;
    let shorter = opened.iter().filter(|opened| opened.is_shorter());
    let with_shorter = distinct(shorter.map(logs::Opened::directory));
    let (partitions, outcome) = sync_and_hold(opened);
    outcome?;
    Ok(Loaded {
        partitions,
        with_shorter,
    })
}

/// Finds the partition that a directory is of by its name.
fn whose_logs<'a>(
    replicas: &'a Replicas,
    wanted: &'a Wanted<'a>,
    image: &'a ottla_metadata::MetadataImage,
) -> impl FnMut(&str) -> Option<WhoseLog> + 'a {
    let names = wanted.iter();
    let by_name: HashMap<String, (&Topic, PartitionIndex)> = names
        .map(|(topic, index, _)| (directory_name(&topic.name, *index), (*topic, *index)))
        .collect();
    let mut settings = BTreeMap::new();
    move |name| {
        let (topic, index) = by_name.get(name)?;
        let resolved = settings
            .entry(topic.id)
            .or_insert_with(|| replicas.resolve(image, &topic.name));
        Some(WhoseLog {
            topic: Arc::from(topic.name.as_str()),
            topic_id: topic.id,
            index: *index,
            settings: Arc::clone(resolved),
        })
    }
}

/// Does something to one partition, or one directory; a panic is its failure alone.
pub(super) fn guarded<R>(work: impl FnOnce() -> Result<R, LogsError>) -> Result<R, LogsError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(LogsError::Panicked))
}

/// Does something to many partitions that may wait for the disk, several at a time.
pub(super) fn at_once<T: Send, R: Send>(
    jobs: Vec<T>,
    work: impl Fn(T) -> Result<R, LogsError> + Sync,
) -> Result<Vec<R>, LogsError> {
    in_parallel(vec![jobs], MAKING_THREADS, work)
}

/// Does `work` on `threads` threads for each queue: the waits for the disk of many logs overlap, and their syncs share
/// commits of the file system. The first failure counts; what is under way then is still finished.
pub(super) fn in_parallel<T: Send, R: Send>(
    queues: Vec<Vec<T>>,
    threads: usize,
    work: impl Fn(T) -> Result<R, LogsError> + Sync,
) -> Result<Vec<R>, LogsError> {
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

/// Makes the logs of new partitions, durable all together. Those that could be made are returned, with why others could not.
pub(super) fn create(
    replicas: &Replicas,
    new: Vec<NewLog<'_>>,
    work: &Working<'_>,
) -> (Vec<Arc<Partition>>, Vec<LogsError>) {
    let now = replicas.clock.now().wall;
    let made = at_once(new, |new| {
        let made = guarded(|| Ok(new.create(now)?));
        work.goes_on();
        Ok(made)
    });
    let mut errors = Vec::new();
    let mut opened = Vec::new();
    for made in made.unwrap_or_else(|error| vec![Err(error)]) {
        match made {
            Ok(made) => opened.push(made),
            Err(error) => errors.push(error),
        }
    }
    let (partitions, synced) = sync_and_hold(opened);
    errors.extend(synced.err().map(LogsError::from));
    (partitions, errors)
}

/// Chooses log directories for new partitions: the one that the metadata names, else the one with the fewest of those that
/// answer.
pub(super) struct Chooser<'a> {
    directories: &'a [Arc<Directory>],
    counts: Vec<usize>,
    /// Those that answer; all, when none does.
    usable: Vec<usize>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(replicas: &'a Replicas) -> Self {
        let directories = replicas.directories.all();
        let now = replicas.clock.monotonic();
        let mut usable: Vec<usize> = (0..directories.len()).collect();
        usable.retain(|number| directories[*number].answers(now));
        if usable.is_empty() {
            usable = (0..directories.len()).collect();
        }
        let mut counts = vec![0; directories.len()];
        if directories.len() > 1 {
            for directory in replicas.directories_in_use() {
                counts[replicas.directories.number_of(&directory)] += 1;
            }
        }
        Self {
            directories,
            counts,
            usable,
        }
    }

    /// The place of the directory among all.
    pub(super) fn choose(&mut self, state: &ottla_metadata::Partition) -> usize {
        let named = self.directories.iter().position(|directory| {
            let id = directory.id.get();
            id.is_some_and(|id| state.directories.contains(id))
        });
        let place = named.unwrap_or_else(|| {
            let fewest = self.usable.iter().min_by_key(|place| self.counts[**place]);
            *fewest.expect("a broker has a log directory")
        });
        self.counts[place] += 1;
        place
    }
}

/// Renames the directory of a deleted partition; housekeeping removes it later.
pub(super) fn delete(replicas: &Replicas, partition: &Partition) -> Result<(), LogsError> {
    let delay = partition.settings().delete_delay;
    if let Some(renamed) = logs::delete(partition)? {
        let at = replicas.clock.monotonic().after(delay);
        replicas.housekeeping.remove_at(at, renamed);
    }
    Ok(())
}
