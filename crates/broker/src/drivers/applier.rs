//! Applies changes of metadata in each log directory, by a thread of its own: a stalled directory delays no other.
//!
//! The thread that follows the metadata plans what each directory has to do, without a disk, and waits for the
//! directories that answer. It does not wait for a stalled directory: its jobs are merged, and are done when its disk
//! answers again, according to the newest metadata. [`Replicas::follow_late_changes`] notifies of it. After a crash the
//! next start redoes what a stalled directory missed. Deletions are not recorded, so those logs become `-stray`.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ottla_log::files::disk::Disk;
use ottla_metadata::{Changes, MetadataImage};
use ottla_replica::node;
use ottla_replica::stalls::Task;

use super::disk_work::LOOK;
use super::monitor::Monitor;
use super::opening::{CREATING_THREADS, DirectoryWorkers, StepError};
use super::threads::Threads;
use super::working::Working;
use crate::replicas::partition::Tasks;
use crate::replicas::{Directory, Replicas};

/// The threads, one for each log directory.
#[derive(Debug, Default)]
pub(super) struct Applier {
    /// One for each directory, by number.
    queues: Mutex<Vec<Arc<Queue>>>,
    threads: Threads,
}

/// The job that waits for one directory.
#[derive(Debug, Default)]
struct Queue {
    job: Monitor<Option<Job>>,
}

/// A job of one directory, and the callers that wait for it.
#[derive(Debug)]
struct Job {
    work: node::Job<Disk, Tasks>,
    /// Where callers wait for the outcome; some may have given up.
    answers: Vec<Arc<Answer>>,
    /// Whether a caller has stopped waiting.
    is_late: bool,
}

impl Job {
    /// Merges a later job of the directory into this one.
    fn add(&mut self, later: Self) {
        self.work.add(later.work);
        let asked = self.answers.len();
        self.answers
            .retain(|answer| !matches!(*answer.lock(), Outcome::Late));
        self.is_late |= later.is_late || self.answers.len() < asked;
        self.answers.extend(later.answers);
    }

    /// Ends the job. Returns the errors that no caller has received, and whether a caller had stopped waiting.
    fn end(&self, errors: Vec<StepError>) -> (Vec<StepError>, bool) {
        let (mut errors, mut was_late) = (errors, self.is_late);
        for answer in &self.answers {
            match answer.end(errors) {
                Some(untold) => (errors, was_late) = (untold, true),
                None => errors = Vec::new(),
            }
        }
        (errors, was_late)
    }
}

/// How a job ended, for the caller that waits for it.
#[derive(Debug, Default)]
struct Answer {
    outcome: Monitor<Outcome>,
}

#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Awaited,
    Ended(Vec<StepError>),
    /// The caller has stopped waiting.
    Late,
}

impl Applier {
    pub(super) fn start(&self, replicas: &Arc<Replicas>) -> io::Result<()> {
        for (number, directory) in replicas.directories().iter().enumerate() {
            let queue = Arc::new(Queue::default());
            let of_thread = Arc::clone(&queue);
            let (replicas, directory) = (Arc::downgrade(replicas), Arc::clone(directory));
            let work = move || run(&replicas, &directory, &of_thread);
            self.threads.start("apply", number, work)?;
            self.lock().push(queue);
        }
        Ok(())
    }

    /// Ends the thread of the directory of this number, once it has done what is queued.
    pub(super) fn stop(&self, number: usize) {
        if let Some(queue) = self.lock().get(number) {
            queue.job.stop();
        }
        self.threads.join(number);
    }

    /// Applies changes of metadata, and returns the errors. Blocks on the disks, except on stalled ones.
    pub(super) fn apply(
        &self,
        replicas: &Replicas,
        image: &MetadataImage,
        changes: &Changes,
    ) -> Vec<StepError> {
        let mut sent = Vec::new();
        for work in replicas.node().plan(image, changes, replicas.now()) {
            let directory = Arc::clone(work.directory());
            let answer = Arc::<Answer>::default();
            let job = Job {
                work,
                answers: vec![Arc::clone(&answer)],
                is_late: false,
            };
            self.send(replicas.node().number_of(&directory), job);
            sent.push((directory, answer));
        }
        let waited = sent
            .iter()
            .flat_map(|(directory, answer)| answer.wait(replicas, directory));
        waited.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        // Held for finding a queue only.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, number: usize, job: Job) {
        let queue = self.lock().get(number).map(Arc::clone);
        // Once the directory is closed its metadata is taken over by the next start.
        let refused = match queue {
            Some(queue) => queue.add(job),
            None => Some(job),
        };
        if let Some(job) = refused {
            job.end(Vec::new());
        }
    }
}

impl Queue {
    /// Adds a job; returns it where the queue is stopped.
    fn add(&self, job: Job) -> Option<Job> {
        self.job.change(|waiting| {
            if self.job.is_stopping() {
                return Some(job);
            }
            match waiting {
                Some(earlier) => earlier.add(job),
                none => *none = Some(job),
            }
            None
        })
    }

    /// Waits for a job; nothing once the queue is stopped and all jobs are done.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.job.lock();
        loop {
            let job = waiting.take();
            if job.is_some() || self.job.is_stopping() {
                return job;
            }
            waiting = self.job.wait(waiting, None);
        }
    }
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock()
    }

    /// Tells the caller the errors; returns them if it does not wait any more.
    fn end(&self, errors: Vec<StepError>) -> Option<Vec<StepError>> {
        self.outcome.change(|outcome| {
            if matches!(outcome, Outcome::Late) {
                return Some(errors);
            }
            *outcome = Outcome::Ended(errors);
            None
        })
    }

    /// Waits for the end of the job, but not for a stalled directory.
    fn wait(&self, replicas: &Replicas, directory: &Directory) -> Vec<StepError> {
        let mut outcome = self.lock();
        loop {
            if let Outcome::Ended(errors) = &mut *outcome {
                return std::mem::take(errors);
            }
            if directory.stalls.is_stalled(replicas.clock().monotonic()) {
                *outcome = Outcome::Late;
                let directory = directory.log.path().display();
                tracing::error!(%directory, "a change of metadata goes on without waiting for a stalled log directory");
                return Vec::new();
            }
            outcome = self.outcome.wait(outcome, Some(LOOK));
        }
    }
}

fn run(replicas: &Weak<Replicas>, directory: &Arc<Directory>, queue: &Queue) {
    while let Some(job) = queue.next() {
        let Some(replicas) = replicas.upgrade() else {
            return;
        };
        let working = Working::begin(directory, Task::Metadata, replicas.clock());
        let workers = DirectoryWorkers {
            working: &working,
            threads: CREATING_THREADS,
        };
        let errors = replicas
            .node()
            .perform(&job.work, &workers, replicas.clock().now());
        drop(working);
        let (untold, was_late) = job.end(errors);
        log_failures(&untold);
        if was_late {
            replicas.notify_late_change();
        }
    }
}

/// Logs the changes of metadata that could not be applied.
pub fn log_failures(errors: &[StepError]) {
    for error in errors {
        tracing::error!(%error, "cannot apply a change of metadata to a partition");
    }
}

#[cfg(test)]
mod tests {
    use crate::replicas::partition::FlusherThread;

    use super::{Answer, Changes, Directory, Job, MetadataImage, Outcome, Queue, StepError};
    use ottla_log::LogDirectory;
    use ottla_log::files::disk::Disk;
    use ottla_metadata::ConfigResource;
    use ottla_metadata::effective::StaticConfigs;
    use ottla_protocol::time::MonotonicTime;
    use ottla_replica::Node;
    use std::sync::Arc;
    use std::time::Duration;

    fn job(answer: &Arc<Answer>) -> Job {
        let log = LogDirectory::new(Disk, "not-used");
        let directory = Directory::new(log, Some(0), Duration::ZERO, FlusherThread::default());
        let node = Node::new(StaticConfigs::default(), vec![directory]);
        let changes = Changes {
            configs: [ConfigResource::topic("t")].into(),
            ..Changes::default()
        };
        let now = MonotonicTime(Duration::ZERO);
        let mut planned = node.plan(&MetadataImage::default(), &changes, now);
        Job {
            work: planned.pop().unwrap(),
            answers: vec![Arc::clone(answer)],
            is_late: false,
        }
    }

    #[test]
    fn changes_during_a_stall_are_one_job_that_answers_each_caller_that_still_waits() {
        let queue = Queue::default();
        let answers: Vec<Arc<Answer>> = (0..3000).map(|_| Arc::default()).collect();
        let last = answers.last().unwrap();
        for answer in &answers {
            assert!(queue.add(job(answer)).is_none(), "nobody waits for room");
            if !Arc::ptr_eq(answer, last) {
                *answer.lock() = Outcome::Late;
            }
        }
        let merged = queue.next().unwrap();
        assert_eq!(merged.answers.len(), 1, "those that gave up are not kept");
        let (untold, was_late) = merged.end(vec![StepError::Panicked]);
        assert!(untold.is_empty() && was_late);
        assert!(matches!(&*last.lock(), Outcome::Ended(errors) if errors.len() == 1));
        queue.job.stop();
        assert!(queue.next().is_none());
        assert!(queue.add(job(last)).is_some());
    }
}
