//! Takes over what the metadata says, in each log directory by a thread of its own: one that stands still holds up no
//! other.
//!
//! The controller's thread says, without waiting for a disk, which directory has what to do. A directory that stands still is
//! not waited for: what comes meanwhile is put together, and it does all of that when its disk answers again, as the
//! newest metadata has it; [`Replicas::follow_late`] tells. What fails is one partition's, and the others go on.
//!
//! What a directory that stands still did not do before a crash is done by the next start, but for deletions, whose logs
//! that start sets aside: nobody remembers that they were to go.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::{PartitionIndex, Uuid};

use ottla_replica::checkpoints;
use ottla_replica::logs::WhoseLog;
use ottla_replica::stalls::Task;

use super::directories::Working;
use super::logs::{self, LogsError};
use super::pause::pause;
use super::{Directory, Found, Partition, Replicas, role};
use crate::disk_work::LOOK;
use ottla_replica::topic_settings::TopicSettings;

/// The threads, one for each log directory.
#[derive(Debug, Default)]
pub(super) struct Applier {
    queues: Mutex<Queues>,
}

/// Of each directory, with the thread until it is stopped.
type Queues = Vec<(Arc<Queue>, Option<JoinHandle<()>>)>;

/// What one directory has to do.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    job: Option<Job>,
    is_stopped: bool,
}

/// What a stretch of metadata changes in one directory.
#[derive(Debug, Default)]
struct Job {
    image: MetadataImage,
    deleted: Vec<Arc<Partition>>,
    has_configs: bool,
    /// What is there, or is to be made there.
    partitions: BTreeSet<(Uuid, PartitionIndex)>,
    /// For those who asked for it and still wait, as far as is known.
    answers: Vec<Arc<Answer>>,
    /// Whether somebody has stopped waiting.
    is_late: bool,
}

impl Job {
    /// Does what `later` asks for too, as its metadata has it.
    fn add(&mut self, later: Self) {
        self.image = later.image;
        self.deleted.extend(later.deleted);
        self.has_configs |= later.has_configs;
        self.partitions.extend(later.partitions);
        let asked = self.answers.len();
        self.answers
            .retain(|answer| !matches!(*answer.lock(), Outcome::Late));
        self.is_late |= later.is_late || self.answers.len() < asked;
        self.answers.extend(later.answers);
    }

    /// Gives back the errors, if any, when nobody waits for them any more, and whether somebody had stopped waiting.
    fn end(&self, errors: Vec<LogsError>) -> (Vec<LogsError>, bool) {
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

/// How a job ended, for who waits for it.
#[derive(Debug, Default)]
struct Answer {
    outcome: Mutex<Outcome>,
    ended: Condvar,
}

#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Awaited,
    Ended(Vec<LogsError>),
    /// Nobody waits any more.
    Late,
}

impl Applier {
    pub(super) fn start(&self, replicas: &Arc<Replicas>) -> io::Result<()> {
        for (number, directory) in replicas.directories.all().iter().enumerate() {
            let queue = Arc::new(Queue::default());
            let of_thread = Arc::clone(&queue);
            let (replicas, directory) = (Arc::downgrade(replicas), Arc::clone(directory));
            let thread = std::thread::Builder::new()
                .name(format!("apply-{number}"))
                .spawn(move || run(&replicas, &directory, &of_thread))?;
            self.lock().push((queue, Some(thread)));
        }
        Ok(())
    }

    /// Has the directory of this number do what waits, and ends its thread.
    pub(super) fn stop(&self, number: usize) {
        let thread = self.lock().get_mut(number).and_then(|(queue, thread)| {
            queue.lock().is_stopped = true;
            queue.changed.notify_one();
            thread.take()
        });
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that takes over metadata panicked");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Held for taking a queue or a thread.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, number: usize, job: Job) {
        let queue = self.lock().get(number).map(|(queue, _)| Arc::clone(queue));
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
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Held for putting jobs together.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the job back once it is stopped.
    fn add(&self, job: Job) -> Option<Job> {
        let mut waiting = self.lock();
        if waiting.is_stopped {
            return Some(job);
        }
        match &mut waiting.job {
            Some(earlier) => earlier.add(job),
            none => *none = Some(job),
        }
        self.changed.notify_one();
        None
    }

    /// Waits for what is to be done; nothing once it is stopped and all is done.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            let job = waiting.job.take();
            if job.is_some() || waiting.is_stopped {
                return job;
            }
            waiting = pause(&self.changed, waiting, None);
        }
    }
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back the errors, if any, when nobody waits for them any more.
    fn end(&self, errors: Vec<LogsError>) -> Option<Vec<LogsError>> {
        let mut outcome = self.lock();
        if matches!(*outcome, Outcome::Late) {
            return Some(errors);
        }
        *outcome = Outcome::Ended(errors);
        self.ended.notify_one();
        None
    }

    /// Waits for the end, but not for a directory that stands still.
    fn wait(&self, replicas: &Replicas, directory: &Directory) -> Vec<LogsError> {
        let mut outcome = self.lock();
        loop {
            if let Outcome::Ended(errors) = &mut *outcome {
                return std::mem::take(errors);
            }
            if directory.stalls.is_stalled(replicas.clock.monotonic()) {
                *outcome = Outcome::Late;
                let directory = directory.log.path().display();
                tracing::error!(%directory, "a change of metadata is not waited for in a log directory that does not answer");
                return Vec::new();
            }
            outcome = pause(&self.ended, outcome, Some(LOOK));
        }
    }
}

impl Replicas {
    /// Takes over what a stretch of metadata changed, and says what of it could not be done. Blocks on the disks, but for
    /// those that stand still.
    pub fn apply(self: &Arc<Self>, image: &MetadataImage, changes: &Changes) -> Vec<LogsError> {
        let mut jobs: Vec<Job> = self
            .directories
            .all()
            .iter()
            .map(|_| Job::default())
            .collect();
        for partition in changes
            .deleted_topics
            .keys()
            .flat_map(|id| self.forget_topic(*id))
        {
            let number = self.directories.number_of(partition.directory());
            jobs[number].deleted.push(partition);
        }
        if !changes.partitions.is_empty() {
            self.learn_topics(image);
        }
        self.place(image, changes, &mut jobs);
        let has_configs = !changes.configs.is_empty();
        let mut sent = Vec::new();
        for (number, mut job) in jobs.into_iter().enumerate() {
            if job.deleted.is_empty() && job.partitions.is_empty() && !has_configs {
                continue;
            }
            job.has_configs = has_configs;
            job.image = image.clone();
            let answer = Arc::<Answer>::default();
            job.answers.push(Arc::clone(&answer));
            sent.push((number, answer));
            self.applier.send(number, job);
        }
        let waited = sent
            .iter()
            .flat_map(|(number, answer)| answer.wait(self, &self.directories.all()[*number]));
        let errors = waited.collect();
        if has_configs {
            self.configure_cleaner(image);
            self.configure_scrub(image);
        }
        errors
    }

    /// Gives each changed partition of this node to the directory that has it, or is to have it.
    fn place(&self, image: &MetadataImage, changes: &Changes, jobs: &mut [Job]) {
        let mut chooser = logs::Chooser::new(self);
        for (id, index) in &changes.partitions {
            let topic = image.topics.get(id);
            let Some(state) = topic.and_then(|topic| topic.partitions.get(index)) else {
                continue;
            };
            if role(self.node, state).is_none() {
                continue;
            }
            let number = match self.directory_of(*id, *index) {
                Some(directory) => self.directories.number_of(&directory),
                // Where its log is in a directory that is away, nobody makes another, empty one.
                None if self.directories.lack(state.directory_of(self.node)) => continue,
                None => {
                    let number = chooser.choose(state);
                    self.note_made_in(*id, *index, &self.directories.all()[number]);
                    number
                }
            };
            jobs[number].partitions.insert((*id, *index));
        }
    }
}

fn run(replicas: &Weak<Replicas>, directory: &Arc<Directory>, queue: &Queue) {
    while let Some(job) = queue.next() {
        let Some(replicas) = replicas.upgrade() else {
            return;
        };
        let work = Working::begin(directory, Task::Metadata, replicas.clock);
        let errors = logs::guarded(|| Ok(perform(&replicas, directory, &job, &work)));
        let errors = errors.unwrap_or_else(|panicked| vec![panicked]);
        drop(work);
        let (untold, was_late) = job.end(errors);
        say(&untold);
        if was_late {
            replicas.late.send_modify(|times| *times += 1);
        }
    }
}

/// Says what of the metadata could not be taken over.
pub fn say(errors: &[LogsError]) {
    for error in errors {
        tracing::error!(%error, "cannot take over what the metadata says of a partition");
    }
}

fn perform(
    replicas: &Replicas,
    directory: &Arc<Directory>,
    job: &Job,
    work: &Working<'_>,
) -> Vec<LogsError> {
    let mut errors = Vec::new();
    for partition in &job.deleted {
        errors.extend(logs::guarded(|| logs::delete(replicas, partition)).err());
        work.goes_on();
    }
    let mut resolved = Resolved::new(replicas, &job.image);
    if job.has_configs {
        for partition in replicas.all_in(directory) {
            partition.set_settings(resolved.of(partition.topic_id, &partition.topic));
            work.goes_on();
        }
    }
    errors.extend(make_missing(
        replicas,
        (directory, work),
        job,
        &mut resolved,
    ));
    work.goes_on();
    let roles = job.partitions.iter().filter_map(|(id, index)| {
        let state = job.image.topics.get(id)?.partitions.get(index)?;
        match replicas.by_id(*id, *index) {
            Found::Here(partition) => Some((partition, role(replicas.node, state)?)),
            _ => None,
        }
    });
    let set = logs::at_once(roles.collect(), |(partition, role)| {
        let set = logs::guarded(|| Ok(partition.set_role(role, replicas.now())?));
        work.goes_on();
        Ok(set.err())
    });
    match set {
        Ok(failed) => errors.extend(failed.into_iter().flatten()),
        Err(error) => errors.push(error),
    }
    errors
}

/// Makes those of the partitions that are not there yet.
fn make_missing(
    replicas: &Replicas,
    (directory, work): (&Arc<Directory>, &Working<'_>),
    job: &Job,
    resolved: &mut Resolved<'_>,
) -> Vec<LogsError> {
    let is_missing =
        |(id, index): &&(Uuid, PartitionIndex)| replicas.is_being_made_in(*id, *index, directory);
    let missing: Vec<_> = job.partitions.iter().filter(is_missing).collect();
    let new = missing.iter().filter_map(|(id, index)| {
        let topic = job.image.topics.get(id)?.as_ref();
        Some(logs::NewLog {
            directory,
            of: WhoseLog {
                topic: Arc::from(topic.name.as_str()),
                topic_id: *id,
                index: *index,
                settings: resolved.of(*id, &topic.name),
            },
        })
    });
    let new: Vec<_> = new.collect();
    let names: BTreeSet<_> = new
        .iter()
        .map(|new| (new.of.topic.to_string(), new.of.index.0))
        .collect();
    let (made, mut errors) = match checkpoints::forget(directory, &names) {
        Ok(()) => logs::create(replicas, new, work),
        Err(error) => (Vec::new(), vec![error.into()]),
    };
    for partition in made {
        if !replicas.insert(&partition) {
            // Its topic has been deleted meanwhile.
            errors.extend(logs::delete(replicas, &partition).err());
        }
    }
    for (id, index) in missing {
        replicas.note_not_made(*id, *index);
    }
    errors
}

/// What topics obey, each resolved once.
struct Resolved<'a> {
    replicas: &'a Replicas,
    image: &'a MetadataImage,
    by_topic: HashMap<Uuid, Arc<TopicSettings>>,
}

impl<'a> Resolved<'a> {
    fn new(replicas: &'a Replicas, image: &'a MetadataImage) -> Self {
        Self {
            replicas,
            image,
            by_topic: HashMap::new(),
        }
    }

    fn of(&mut self, id: Uuid, topic: &str) -> Arc<TopicSettings> {
        let (replicas, image) = (self.replicas, self.image);
        let resolved = self.by_topic.entry(id);
        Arc::clone(resolved.or_insert_with(|| replicas.resolve(image, topic)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Job, LogsError, Outcome, Queue};
    use ottla_protocol::ids::{PartitionIndex, Uuid};
    use std::sync::Arc;

    #[test]
    fn what_comes_while_a_directory_stands_still_is_one_job_and_answers_each() {
        let queue = Queue::default();
        let answers: Vec<Arc<Answer>> = (0..3000).map(|_| Arc::default()).collect();
        let last = answers.last().unwrap();
        for (number, answer) in answers.iter().enumerate() {
            let index = PartitionIndex(i32::try_from(number % 10).unwrap());
            let job = Job {
                has_configs: number == 7,
                partitions: [(Uuid::from_parts(1, 1), index)].into(),
                answers: vec![Arc::clone(answer)],
                ..Job::default()
            };
            assert!(queue.add(job).is_none(), "nobody waits for room");
            if !Arc::ptr_eq(answer, last) {
                *answer.lock() = Outcome::Late;
            }
        }
        let job = queue.next().unwrap();
        assert_eq!(job.answers.len(), 1, "who waits no more is not kept");
        assert!(job.has_configs);
        assert_eq!(job.partitions.len(), 10);
        let (untold, was_late) = job.end(vec![LogsError::Panicked]);
        assert!(untold.is_empty() && was_late);
        assert!(matches!(&*last.lock(), Outcome::Ended(errors) if errors.len() == 1));
        queue.lock().is_stopped = true;
        assert!(queue.next().is_none());
        assert!(queue.add(Job::default()).is_some());
    }
}
