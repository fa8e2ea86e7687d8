//! The partitions of one node: looks them up by topic, and opens, creates and deletes them as the metadata says.
//!
//! A start finds the logs on disk ([`Node::find_logs`]), opens them, and hands them over ([`Node::hold`]). It then
//! applies a change with all partitions ([`Node::everything_in`]), which creates the missing ones. A change of metadata
//! is planned without the disk ([`Node::plan`]) as one [`Job`] for each log directory, which [`Node::perform`] does.
//! Invariants:
//!
//! - a partition has one log, in one directory, which is known from the moment it is chosen;
//! - a directory does one job at a time, in the order in which they were planned;
//! - a failure affects one partition: the others continue.

mod job;
mod missing;
mod removals;
mod topics;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ottla_log::checkpoint;
use ottla_log::files::Files;
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::time::{MonotonicTime, Now};

pub use self::job::Job;
use self::removals::Removals;
pub use self::topics::Found;
use self::topics::Topics;
use crate::directory::distinct;
use crate::logs::names::directory_name;
use crate::logs::{self, Existing, LogsError, Opened, WhoseLog, sync_and_hold};
use crate::partition::{Next, NextFetch, Role};
use crate::{Directory, Host, LiveBrokers, Partition, TopicSettings, Workers, checkpoints};

/// All topics of the cluster, and the partitions of one node.
#[derive(Debug)]
pub struct Node<F: Files, H: Host> {
    statics: StaticConfigs,
    directories: Vec<Arc<Directory<F, H>>>,
    /// Whether some of its log directories are not there.
    lacks_directories: bool,
    topics: RwLock<Topics<F, H>>,
    removals: Removals,
    brokers: Arc<LiveBrokers>,
}

impl<F: Files, H: Host> Node<F, H> {
    /// A node without partitions. The log directories must exist.
    pub fn new(statics: StaticConfigs, directories: Vec<Arc<Directory<F, H>>>) -> Self {
        Self {
            statics,
            directories,
            lacks_directories: false,
            topics: RwLock::default(),
            removals: Removals::default(),
            brokers: Arc::default(),
        }
    }

    /// Says whether some of its log directories cannot be used, and are not among the given ones.
    #[must_use]
    pub fn lacking_directories(mut self, lacks: bool) -> Self {
        self.lacks_directories = lacks;
        self
    }

    fn read(&self) -> RwLockReadGuard<'_, Topics<F, H>> {
        // Held only for lookups and insertions.
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Topics<F, H>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn directories(&self) -> &[Arc<Directory<F, H>>] {
        &self.directories
    }

    pub fn statics(&self) -> &StaticConfigs {
        &self.statics
    }

    /// A partition by its topic's id.
    pub fn by_id(&self, topic: Uuid, index: PartitionIndex) -> Found<F, H> {
        self.read().by_id(topic, index)
    }

    /// A partition by its topic's name.
    pub fn by_name(&self, topic: &str, index: PartitionIndex) -> Found<F, H> {
        self.read().by_name(topic, index)
    }

    pub fn topic_name(&self, topic: Uuid) -> Option<Arc<str>> {
        self.read().name(topic)
    }

    /// All partitions of this node.
    pub fn all(&self) -> Vec<Arc<Partition<F, H>>> {
        self.read().partitions().cloned().collect()
    }

    /// All partitions of this node in one of its log directories.
    pub fn all_in(&self, directory: &Arc<Directory<F, H>>) -> Vec<Arc<Partition<F, H>>> {
        let topics = self.read();
        let here = topics
            .partitions()
            .filter(|partition| Arc::ptr_eq(partition.directory(), directory));
        here.cloned().collect()
    }

    /// The settings of a topic.
    pub fn settings(&self, image: &MetadataImage, topic: &str) -> Arc<TopicSettings> {
        Arc::new(TopicSettings::resolve(image, &self.statics, topic))
    }

    /// The epoch of the broker that closed all log directories cleanly; -1 if there is none. A start asks before it finds
    /// the logs, which ends the marks.
    pub fn previous_epoch(&self) -> Result<i64, LogsError> {
        let mut directories = self.directories.iter();
        let epoch = |directory: &Arc<Directory<F, H>>| {
            let (files, path) = (directory.log.files(), directory.log.path());
            checkpoint::clean_shutdown_epoch(files, path)
        };
        let Some(first) = directories.next() else {
            return Ok(-1);
        };
        let first = epoch(first)?;
        for directory in directories {
            if epoch(directory)? != first {
                return Ok(-1);
            }
        }
        Ok(first.unwrap_or(-1))
    }

    /// Finds the logs that a start must open, grouped by directory, and takes over all topics from `image`. Directories
    /// of partitions that are not in it are renamed to `-stray`. Blocks on the disks.
    pub fn find_logs(
        &self,
        image: &MetadataImage,
        now: MonotonicTime,
    ) -> Result<Vec<Vec<Existing<F, H>>>, LogsError> {
        self.write().learn(image);
        let mut by_name = self.known_logs(image);
        let delete_delay = self.settings(image, "").delete_delay;
        let mut existing = Vec::new();
        for directory in &self.directories {
            let found = logs::find(directory, |name| by_name(name))?;
            for path in found.deleted {
                self.removals.add(now.after(delete_delay), path);
            }
            existing.push(found.existing);
        }
        logs::keep_one_of_each(&mut existing)?;
        self.withhold_missing(image, &existing);
        for directory in &self.directories {
            checkpoint::remove_clean_shutdown(directory.log.files(), directory.log.path())?;
        }
        Ok(existing)
    }

    /// A function that returns the partition of a directory's name.
    fn known_logs<'a>(
        &'a self,
        image: &'a MetadataImage,
    ) -> impl FnMut(&str) -> Option<WhoseLog> + 'a {
        let mut by_name = BTreeMap::new();
        for (id, index) in self.everything_in(image).partitions {
            let topic = &image.topics[&id];
            by_name.insert(directory_name(&topic.name, index), (topic, index));
        }
        let mut settings = BTreeMap::new();
        move |name| {
            let (topic, index) = by_name.get(name)?;
            let settings = settings.entry(topic.id);
            let settings = settings.or_insert_with(|| self.settings(image, &topic.name));
            Some(WhoseLog {
                topic: Arc::from(topic.name.as_str()),
                topic_id: topic.id,
                index: *index,
                settings: Arc::clone(settings),
                brokers: Arc::clone(&self.brokers),
            })
        }
    }

    /// Syncs the logs that a start has opened, and adds their partitions. Blocks on the disks.
    pub fn hold(&self, opened: Vec<Opened<F, H>>) -> Result<(), LogsError> {
        let shorter = opened.iter().filter(|opened| opened.is_shorter());
        let with_shorter = distinct(shorter.map(Opened::directory));
        let (partitions, outcome) = sync_and_hold(opened);
        outcome?;
        {
            let mut topics = self.write();
            for partition in &partitions {
                topics.insert(partition);
            }
        }
        for directory in &with_shorter {
            self.lower_recovery_points(directory);
        }
        Ok(())
    }

    /// Flushes and closes the logs of one directory and marks it as closed by the broker with `broker_epoch`, so that
    /// the next start reads nothing. Nobody else may work in the directory any more. A second call does nothing. Blocks
    /// on the disk.
    pub fn close_directory(
        &self,
        directory: &Arc<Directory<F, H>>,
        workers: &impl Workers,
        broker_epoch: i64,
    ) -> Result<(), LogsError> {
        logs::close(directory, || self.all_in(directory), workers, broker_epoch)
    }

    /// Writes the recovery points of a directory, because one of them is after the end of its log. Appends must not lie
    /// before a recovery point: a start would take a torn batch there for damage and keep it. If the write fails, the
    /// directory is taken offline.
    fn lower_recovery_points(&self, directory: &Arc<Directory<F, H>>) {
        if let Err(error) = checkpoints::write_recovery_points(directory, || self.all_in(directory))
        {
            let error = directory.log.give_up(error);
            tracing::error!(%error, "cannot write the recovery point of a log that became shorter; its log directory is offline until the broker is started again");
        }
    }

    /// What `partition` asks of its leader next; `None` if it does not follow, or waits after an error. After a truncation
    /// this writes checkpoints, and blocks on the disk.
    pub fn next_fetch(&self, partition: &Partition<F, H>, now: Now) -> Option<NextFetch> {
        if let Next::Fetch(next) = partition.next_step(now)? {
            return Some(next);
        }
        let directory = partition.directory();
        let here = || self.all_in(directory);
        let written = checkpoints::write_recovery_points(directory, here)
            .and_then(|()| checkpoints::write_log_starts(directory, here));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the checkpoints of a log that was truncated; its partition does not fetch until they are");
            return None;
        }
        partition.checkpoints_written();
        match partition.next_step(now)? {
            Next::Fetch(next) => Some(next),
            Next::WriteCheckpoints => None,
        }
    }

    /// The change that creates all partitions of this node in `image`, and sets the role of each.
    pub fn everything_in(&self, image: &MetadataImage) -> Changes {
        let partitions = image.topics.iter().flat_map(|(id, topic)| {
            let here = topic.partitions.iter();
            let here = here.filter(|(_, partition)| self.role(partition).is_some());
            here.map(|(index, _)| (*id, *index))
        });
        Changes {
            partitions: partitions.collect(),
            brokers: image.brokers.keys().copied().collect(),
            ..Changes::default()
        }
    }

    /// This node's role in `partition`; `None` if it has no replica.
    fn role(&self, partition: &ottla_metadata::Partition) -> Option<Role> {
        let node = self.statics.node;
        partition.replicas.contains(&node).then(|| Role {
            node,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            recovering: partition.recovering,
        })
    }
}
