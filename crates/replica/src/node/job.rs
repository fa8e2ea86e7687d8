//! The work of a metadata change in one log directory: planned without the disk, then done.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ottla_log::files::Files;
use ottla_metadata::{Changes, ConfigResource, MetadataImage, ResourceKind};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::{MonotonicTime, Now};

use super::{Found, Node};
use crate::logs::{self, Chooser, LogsError, NewLog, WhoseLog, sync_and_hold};
use crate::workers::Workers;
use crate::{Directory, Host, Partition, PartitionId, TopicSettings, checkpoints};

/// The work for one log directory.
#[derive(Debug)]
#[must_use = "a job that is planned must be done"]
pub struct Job<F: Files, H: Host> {
    directory: Arc<Directory<F, H>>,
    image: MetadataImage,
    deleted: Vec<Arc<Partition<F, H>>>,
    /// The resources whose configs differ.
    configs: BTreeSet<ConfigResource>,
    /// The changed partitions that are in the directory, or will be created there.
    partitions: BTreeSet<PartitionId>,
}

impl<F: Files, H: Host> Job<F, H> {
    fn new(directory: &Arc<Directory<F, H>>, image: &MetadataImage, changes: &Changes) -> Self {
        Self {
            directory: Arc::clone(directory),
            image: image.clone(),
            deleted: Vec::new(),
            configs: changes.configs.clone(),
            partitions: BTreeSet::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.partitions.is_empty() && self.configs.is_empty()
    }

    /// Whether the settings of a topic may differ: by configs of its own, or of brokers, which are its defaults.
    fn configures(&self, topic: &str) -> bool {
        self.configs.iter().any(|resource| match resource.kind {
            ResourceKind::Topic => resource.name == topic,
            ResourceKind::Broker => true,
            _ => false,
        })
    }

    pub fn directory(&self) -> &Arc<Directory<F, H>> {
        &self.directory
    }

    /// The partitions that it deletes. Requests do not find them any more.
    pub fn deleted(&self) -> &[Arc<Partition<F, H>>] {
        &self.deleted
    }

    /// Adds the work of a later change in the same directory. Both are done with the later metadata.
    pub fn add(&mut self, later: Self) {
        self.image = later.image;
        self.deleted.extend(later.deleted);
        self.configs.extend(later.configs);
        self.partitions.extend(later.partitions);
    }
}

impl<F: Files, H: Host> Node<F, H> {
    /// Applies `changes` as far as no disk is needed: removes deleted topics from the lookup, and chooses directories
    /// for new partitions. Returns the job of each directory. The jobs of one directory must be done in order.
    pub fn plan(
        &self,
        image: &MetadataImage,
        changes: &Changes,
        now: MonotonicTime,
    ) -> Vec<Job<F, H>> {
        if !changes.brokers.is_empty() {
            self.brokers.set(image);
        }
        let mut topics = self.write();
        let directories = self.directories.iter();
        let mut jobs: Vec<_> = directories
            .map(|directory| Job::new(directory, image, changes))
            .collect();
        for id in changes.deleted_topics.keys() {
            for partition in topics.forget(*id) {
                jobs[self.number_of(partition.directory())]
                    .deleted
                    .push(partition);
            }
        }
        if !changes.partitions.is_empty() {
            topics.learn(image);
        }
        let mut chooser = Chooser::new(&self.directories, topics.directories_in_use(), now);
        for (id, index) in &changes.partitions {
            let topic = image.topics.get(id);
            let Some(state) = topic.and_then(|topic| topic.partitions.get(index)) else {
                continue;
            };
            if self.role(state).is_none() {
                // The replica was moved to other nodes.
                if let Some(partition) = topics.remove((*id, *index)) {
                    let number = self.number_of(partition.directory());
                    jobs[number].deleted.push(partition);
                }
                continue;
            }
            let number = match topics.directory_of((*id, *index)) {
                Some(directory) => self.number_of(directory),
                None if topics.withheld.contains(&(*id, *index)) => continue,
                None if self.is_elsewhere(state) => continue,
                None => {
                    let number = chooser.choose(state);
                    topics.choose((*id, *index), &self.directories[number]);
                    number
                }
            };
            jobs[number].partitions.insert((*id, *index));
        }
        jobs.retain(|job| !job.is_empty());
        jobs
    }

    /// The number of a directory.
    pub fn number_of(&self, directory: &Arc<Directory<F, H>>) -> usize {
        let mut directories = self.directories.iter();
        let place = directories.position(|known| Arc::ptr_eq(known, directory));
        place.expect("a partition is in a log directory of its node")
    }

    /// Does a job; returns its failures. Blocks on the disk.
    pub fn perform(&self, job: &Job<F, H>, workers: &impl Workers, now: Now) -> Vec<LogsError> {
        let done = guarded(|| Ok(self.perform_all(job, workers, now)));
        done.unwrap_or_else(|panicked| vec![panicked])
    }

    fn perform_all(&self, job: &Job<F, H>, workers: &impl Workers, now: Now) -> Vec<LogsError> {
        let mut errors = Vec::new();
        for partition in &job.deleted {
            errors.extend(guarded(|| self.delete(partition, now.monotonic)).err());
            workers.disk_answered();
        }
        let mut settings = Settings::of(self, &job.image);
        if !job.configs.is_empty() {
            let mut configured = self.all_in(&job.directory);
            configured.retain(|partition| job.configures(&partition.topic));
            for partition in configured {
                partition.set_settings(settings.of_topic(partition.topic_id, &partition.topic));
                workers.disk_answered();
            }
        }
        errors.extend(self.make_missing(job, &mut settings, workers, now));
        workers.disk_answered();
        let roles = job.partitions.iter().filter_map(|(id, index)| {
            let state = job.image.topics.get(id)?.partitions.get(index)?;
            match self.by_id(*id, *index) {
                Found::Here(partition) => Some((partition, self.role(state)?)),
                _ => None,
            }
        });
        let set = workers.each(roles.collect(), |(partition, role)| {
            let set = guarded(|| Ok(partition.set_role(role, now.monotonic)?));
            workers.disk_answered();
            set
        });
        errors.extend(set.into_iter().filter_map(Result::err));
        errors
    }

    /// Creates the partitions of a job that do not exist yet.
    fn make_missing(
        &self,
        job: &Job<F, H>,
        settings: &mut Settings<'_, F, H>,
        workers: &impl Workers,
        now: Now,
    ) -> Vec<LogsError> {
        let missing: Vec<PartitionId> = {
            let topics = self.read();
            let partitions = job.partitions.iter();
            let missing = partitions.filter(|id| topics.is_being_made_in(**id, &job.directory));
            missing.copied().collect()
        };
        let new = missing.iter().filter_map(|(id, index)| {
            let topic = job.image.topics.get(id)?;
            Some(WhoseLog {
                topic: Arc::from(topic.name.as_str()),
                topic_id: *id,
                index: *index,
                settings: settings.of_topic(*id, &topic.name),
                brokers: Arc::clone(&self.brokers),
            })
        });
        let (made, mut errors) = create(&job.directory, new.collect(), workers, now);
        for partition in made {
            if !self.write().insert_made(&partition) {
                // Its topic was deleted meanwhile, or it was moved to other nodes.
                errors.extend(self.delete(&partition, now.monotonic).err());
            }
        }
        let mut topics = self.write();
        for id in missing {
            topics.unchoose(id);
        }
        errors
    }

    /// Renames the directory of a deleted partition, and schedules its removal.
    fn delete(&self, partition: &Partition<F, H>, now: MonotonicTime) -> Result<(), LogsError> {
        let delay = partition.settings().delete_delay;
        if let Some(renamed) = logs::delete(partition)? {
            self.removals.add(now.after(delay), renamed);
        }
        Ok(())
    }
}

/// Runs `work` for one partition, and turns a panic into an error.
fn guarded<R>(work: impl FnOnce() -> Result<R, LogsError>) -> Result<R, LogsError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(LogsError::Panicked))
}

/// The partitions that were created, and the errors of the others.
type Made<F, H> = (Vec<Arc<Partition<F, H>>>, Vec<LogsError>);

/// Creates the logs of new partitions in one directory, and syncs them together.
fn create<F: Files, H: Host>(
    directory: &Arc<Directory<F, H>>,
    new: Vec<WhoseLog>,
    workers: &impl Workers,
    now: Now,
) -> Made<F, H> {
    let names = new.iter().map(|of| (of.topic.to_string(), of.index.0));
    if let Err(error) = checkpoints::forget(directory, &names.collect()) {
        return (Vec::new(), vec![error.into()]);
    }
    let made = workers.each(new, |of| {
        let made = guarded(|| NewLog { directory, of }.create(now.wall));
        workers.disk_answered();
        made
    });
    let (mut opened, mut errors) = (Vec::new(), Vec::new());
    for made in made {
        match made {
            Ok(made) => opened.push(made),
            Err(error) => errors.push(error),
        }
    }
    let (partitions, synced) = sync_and_hold(opened);
    errors.extend(synced.err());
    (partitions, errors)
}

/// The settings of topics; each topic's are resolved once.
struct Settings<'a, F: Files, H: Host> {
    node: &'a Node<F, H>,
    image: &'a MetadataImage,
    resolved: BTreeMap<Uuid, Arc<TopicSettings>>,
}

impl<'a, F: Files, H: Host> Settings<'a, F, H> {
    fn of(node: &'a Node<F, H>, image: &'a MetadataImage) -> Self {
        Self {
            node,
            image,
            resolved: BTreeMap::new(),
        }
    }

    fn of_topic(&mut self, id: Uuid, name: &str) -> Arc<TopicSettings> {
        let resolved = self.resolved.entry(id);
        let resolved = resolved.or_insert_with(|| self.node.settings(self.image, name));
        Arc::clone(resolved)
    }
}
