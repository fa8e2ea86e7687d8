//! Closes the log directories: their threads end, and their logs are flushed, closed and marked as closed, so that the next
//! start need not read them.
//!
//! Each directory is closed by a thread of its own: one that is stalled or has failed delays no other.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};

use ottla_replica::stalls::Task;

use super::disk_work::LOOK;
use super::opening::{DirectoryWorkers, LogsError, StepError};
use super::threads::caught;
use super::working::Working;
use crate::replicas::Replicas;

/// How the directories of a node are closed.
pub(super) struct Closing<'a> {
    pub(super) replicas: &'a Replicas,
    /// Ends the threads of the directory of this number; calls back whenever its disk has answered.
    pub(super) end_threads: &'a (dyn Fn(usize, &dyn Fn()) + Sync),
    /// Threads that close logs of one directory.
    pub(super) threads: usize,
    pub(super) broker_epoch: i64,
}

impl Closing<'_> {
    /// Closes all directories at the same time. The first failure counts.
    pub(super) fn close_all(&self) -> Result<(), LogsError> {
        let (say_closed, closed) = mpsc::channel();
        std::thread::scope(|scope| {
            let mut open = BTreeSet::new();
            let mut outcome = Ok(());
            for number in 0..self.replicas.directories().len() {
                let say_closed = say_closed.clone();
                let close = move || {
                    let closed = caught(|| self.close(number));
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
            outcome.and(self.wait(&closed, open))
        })
    }

    /// Waits until those of `open` are closed, and logs it once only stalled ones are left.
    fn wait(
        &self,
        closed: &mpsc::Receiver<(usize, Result<(), StepError>)>,
        mut open: BTreeSet<usize>,
    ) -> Result<(), LogsError> {
        let mut outcome = Ok(());
        let mut is_logged = false;
        let all = self.replicas.directories();
        loop {
            match closed.recv_timeout(LOOK) {
                Ok((number, closed)) => {
                    open.remove(&number);
                    if let Err(error) = &closed {
                        let directory = all[number].log.path().display();
                        tracing::error!(%directory, %error, "a log directory is not closed");
                    }
                    outcome = outcome.and(closed.map_err(LogsError::from));
                }
                Err(RecvTimeoutError::Disconnected) => return outcome,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.replicas.now();
            let directories = open.iter().map(|number| &all[*number]);
            let stalled: Vec<_> = directories
                .filter(|directory| directory.stalls.is_stalled(now))
                .collect();
            if !is_logged && !stalled.is_empty() && stalled.len() == open.len() {
                is_logged = true;
                let directories: Vec<_> = stalled
                    .iter()
                    .map(|directory| directory.log.path())
                    .collect();
                tracing::error!(
                    ?directories,
                    "log directories do not answer, and are not closed. They are waited for; a second signal ends the process, \
                     and the next start recovers them"
                );
            }
        }
    }

    /// Ends the threads of a directory and closes its logs.
    fn close(&self, number: usize) -> Result<(), StepError> {
        let directory = &self.replicas.directories()[number];
        let working = Working::begin(directory, Task::Close, self.replicas.clock());
        (self.end_threads)(number, &|| working.disk_answered());
        let workers = DirectoryWorkers {
            working: &working,
            threads: self.threads,
        };
        let node = self.replicas.node();
        node.close_directory(directory, &workers, self.broker_epoch)
    }
}
