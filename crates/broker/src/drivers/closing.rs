//! The end of a log directory: its threads end, and its logs are flushed, closed and marked as closed, so that the next
//! start reads nothing.
//!
//! Each directory is closed by itself: one that is stalled or has failed holds up no other.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};

use ottla_replica::stalls::Task;

use super::disk_work::LOOK;
use super::opening::{LogsError, StepError, Threads};
use super::worker::caught;
use crate::replicas::Replicas;
use crate::replicas::directories::Working;

/// Closes all directories at the same time. The first failure counts.
pub(crate) fn close_all(replicas: &Replicas, broker_epoch: i64) -> Result<(), LogsError> {
    let (say_closed, closed) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut open = BTreeSet::new();
        let mut outcome = Ok(());
        for number in 0..replicas.directories.all().len() {
            let say_closed = say_closed.clone();
            let close = move || {
                let closed = caught(|| close(replicas, number, broker_epoch));
                let closed = closed.unwrap_or(Err(StepError::Panicked));
                say_closed
                    .send((number, closed))
                    .expect("the receiver lives until all threads have ended");
            };
            let name = format!("close-{number}");
            match std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, close)
            {
                Ok(_) => _ = open.insert(number),
                Err(error) => outcome = Err(LogsError::Thread(error)),
            }
        }
        drop(say_closed);
        outcome.and(wait(replicas, &closed, open))
    })
}

/// Waits until those of `open` are closed, and logs which do not answer once they are the last.
fn wait(
    replicas: &Replicas,
    closed: &mpsc::Receiver<(usize, Result<(), StepError>)>,
    mut open: BTreeSet<usize>,
) -> Result<(), LogsError> {
    let mut outcome = Ok(());
    let mut is_logged = false;
    loop {
        match closed.recv_timeout(LOOK) {
            Ok((number, closed)) => {
                open.remove(&number);
                if let Err(error) = &closed {
                    let directory = replicas.directories.all()[number].log.path().display();
                    tracing::error!(%directory, %error, "a log directory is not closed");
                }
                outcome = outcome.and(closed.map_err(LogsError::from));
            }
            Err(RecvTimeoutError::Disconnected) => return outcome,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = replicas.clock.monotonic();
        let directories = open
            .iter()
            .map(|number| &replicas.directories.all()[*number]);
        let still: Vec<_> = directories
            .filter(|directory| directory.stalls.is_stalled(now))
            .collect();
        if !is_logged && !still.is_empty() && still.len() == open.len() {
            is_logged = true;
            let directories: Vec<_> = still.iter().map(|directory| directory.log.path()).collect();
            tracing::error!(
                ?directories,
                "log directories do not answer, and are not closed. They are waited for; a second signal ends the process, \
                 and the next start recovers them"
            );
        }
    }
}

/// Ends the threads of a directory and closes its logs.
fn close(replicas: &Replicas, number: usize, broker_epoch: i64) -> Result<(), StepError> {
    let directory = &replicas.directories.all()[number];
    let work = Working::begin(directory, Task::Close, replicas.clock);
    replicas.applier.stop(number);
    work.goes_on();
    replicas.housekeeping.join(number);
    work.goes_on();
    replicas.directories.stop_flusher(number);
    work.goes_on();
    let threads = Threads {
        working: &work,
        // Nothing to close where nothing was loaded.
        count: replicas.directories.recovery_threads(|| 1),
    };
    replicas
        .node
        .close_directory(directory, &threads, broker_epoch)
}
