//! The partitions that this node holds: found by id or name, made and unmade as the metadata says.
//!
//! [`Partition`] is one of them; [`Replicas`] knows all topics of the cluster, and holds the partitions that are
//! here. Opening and closing logs, retention and checkpoints block on the disk: they run on threads of their own or
//! where nobody waits, never on the runtime's workers.

mod checkpoints;
mod cleaner;
pub mod damage;
mod directories;
pub mod disk_reserve;
pub mod flusher;
mod housekeeping;
mod logs;
pub mod partition;
mod pause;
mod recovery_progress;
mod refusals;
mod scrubber;
pub mod settings;
pub mod traffic;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ottla_log::files::FileError;
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, MetadataImage, Topic};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};

pub use self::cleaner::CleanerSettings;
pub use self::cleaner::report::CompactionReport;
pub use self::directories::{Directories, Directory, distinct};
pub use self::housekeeping::Intervals;
pub use self::logs::LogsError;
pub use self::partition::Partition;
use self::partition::Role;
pub use self::scrubber::{ScrubReport, ScrubSettings};
use self::settings::TopicSettings;
use crate::clock::Clock;
use crate::disk_work::DiskWork;

/// Where a partition is.
#[derive(Debug, Clone)]
pub enum Found {
    /// On this node.
    Here(Arc<Partition>),
    /// On other nodes only.
    Elsewhere,
    /// There is no such topic.
    UnknownTopic,
    /// The topic has no such partition.
    UnknownPartition,
}

/// All partitions of this node.
#[derive(Debug)]
pub struct Replicas {
    node: NodeId,
    statics: StaticConfigs,
    clock: Clock,
    directories: Directories,
    disk_work: Arc<DiskWork>,
    topics: RwLock<Topics>,
    housekeeping: housekeeping::Housekeeping,
    cleaner: cleaner::Cleaner,
    scrubber: scrubber::Scrubber,
}

#[derive(Debug, Default)]
struct Topics {
    by_id: HashMap<Uuid, Known>,
    ids: HashMap<Arc<str>, Uuid>,
}

/// A topic of the cluster.
#[derive(Debug)]
struct Known {
    name: Arc<str>,
    /// The number of its partitions, wherever they are.
    partitions: usize,
    here: HashMap<PartitionIndex, Arc<Partition>>,
}

impl Replicas {
    /// No partitions yet: the metadata says which. The log directories must exist.
    pub fn new(statics: StaticConfigs, clock: Clock, directories: Directories) -> Arc<Self> {
        Arc::new(Self {
            node: statics.node,
            statics,
            clock,
            directories,
            disk_work: DiskWork::of_runtime(),
            topics: RwLock::default(),
            housekeeping: housekeeping::Housekeeping::default(),
            cleaner: cleaner::Cleaner::default(),
            scrubber: scrubber::Scrubber::default(),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Topics> {
        // Held for lookups and insertions only.
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Topics> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition by its topic's id.
    pub fn by_id(&self, topic: Uuid, index: PartitionIndex) -> Found {
        let topics = self.read();
        topics
            .by_id
            .get(&topic)
            .map_or(Found::UnknownTopic, |known| known.find(index))
    }

    /// A partition by its topic's name.
    pub fn by_name(&self, topic: &str, index: PartitionIndex) -> Found {
        let topics = self.read();
        let known = topics.ids.get(topic).and_then(|id| topics.by_id.get(id));
        known.map_or(Found::UnknownTopic, |known| known.find(index))
    }

    /// The name of a topic.
    pub fn topic_name(&self, topic: Uuid) -> Option<Arc<str>> {
        self.read()
            .by_id
            .get(&topic)
            .map(|known| Arc::clone(&known.name))
    }

    /// All partitions of this node.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let topics = self.read();
        topics
            .by_id
            .values()
            .flat_map(|known| known.here.values().cloned())
            .collect()
    }

    /// All partitions of this node in one of its log directories.
    pub fn all_in(&self, directory: &Arc<Directory>) -> Vec<Arc<Partition>> {
        let mut partitions = self.all();
        partitions.retain(|partition| Arc::ptr_eq(partition.directory(), directory));
        partitions
    }

    /// Through which the runtime's threads come here.
    pub fn disk_work(&self) -> &Arc<DiskWork> {
        &self.disk_work
    }

    /// The log directories.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Opens what the directories hold and the metadata knows, makes what is missing, sets aside what nobody knows,
    /// and starts the threads. Blocks on the disk.
    pub fn load(
        self: &Arc<Self>,
        image: &MetadataImage,
        intervals: Intervals,
    ) -> Result<(), LogsError> {
        self.directories
            .start_flushers()
            .map_err(LogsError::Thread)?;
        let wanted = self.wanted(image);
        let (opened, has_shorter) = logs::open_existing(self, &wanted, image)?;
        for partition in opened {
            self.insert(&partition);
        }
        // What is appended now must not lie before an old recovery point: torn, it would be taken for damage, and stay.
        if has_shorter {
            self.write_recovery_points();
        }
        let everything = Changes {
            partitions: wanted
                .iter()
                .map(|(topic, index, _)| (topic.id, *index))
                .collect(),
            ..Changes::default()
        };
        self.learn_topics(image);
        self.apply_partitions(image, &everything)?;
        self.housekeeping
            .start(self, intervals)
            .map_err(LogsError::Thread)?;
        self.configure_cleaner(image);
        self.configure_scrub(image);
        Ok(())
    }

    fn write_recovery_points(&self) {
        for directory in self.directories.all() {
            if let Err(error) = checkpoints::write_recovery_points(self, directory) {
                tracing::warn!(%error, "cannot write recovery points");
            }
        }
    }

    /// Takes over what a stretch of metadata changed. Blocks on the disk.
    pub fn apply(
        self: &Arc<Self>,
        image: &MetadataImage,
        changes: &Changes,
    ) -> Result<(), LogsError> {
        for id in changes.deleted_topics.keys() {
            self.delete_topic(*id)?;
        }
        if !changes.partitions.is_empty() {
            self.learn_topics(image);
        }
        if !changes.configs.is_empty() {
            self.refresh_settings(image);
        }
        self.apply_partitions(image, changes)?;
        if !changes.configs.is_empty() {
            self.configure_cleaner(image);
            self.configure_scrub(image);
        }
        Ok(())
    }

    /// Writes down where each log of `directory` starts, so that deleted records stay deleted. Blocks on the disk.
    pub fn write_log_starts(&self, directory: &Arc<Directory>) -> Result<(), FileError> {
        checkpoints::write_log_starts(self, directory)
    }

    /// Flushes and closes every log, so that the next start reads nothing. Blocks on the disk.
    pub fn close(&self, broker_epoch: i64) -> Result<(), LogsError> {
        self.cleaner.stop();
        self.scrubber.stop();
        self.housekeeping.stop();
        self.directories.stop_flushers();
        logs::close_all(self, broker_epoch)
    }

    /// What is known of the compaction of each partition that `asks` is true for; one whose disk has failed is left
    /// out.
    pub fn compaction(&self, asks: impl Fn(&Partition) -> bool) -> Vec<CompactionReport> {
        let now = self.clock.now().wall;
        let mut reports: Vec<_> = self
            .all()
            .iter()
            .filter(|partition| asks(partition))
            .filter_map(|partition| self.cleaner.report(partition, now)?.ok())
            .collect();
        reports.sort_by(|one, other| {
            (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
        });
        reports
    }

    /// The partitions that belong here, with their topics.
    fn wanted<'a>(&self, image: &'a MetadataImage) -> Vec<(&'a Topic, PartitionIndex, Role)> {
        let topics = image.topics.values();
        let partitions = topics.flat_map(|topic| {
            topic.partitions.iter().filter_map(|(index, partition)| {
                Some((topic.as_ref(), *index, role(self.node, partition)?))
            })
        });
        partitions.collect()
    }

    fn learn_topics(&self, image: &MetadataImage) {
        let mut topics = self.write();
        for (id, topic) in &image.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            topics.ids.insert(Arc::clone(&name), *id);
            let known = topics.by_id.entry(*id).or_insert_with(|| Known {
                name,
                partitions: 0,
                here: HashMap::new(),
            });
            known.partitions = topic.partitions.len();
        }
    }

    fn insert(&self, partition: &Arc<Partition>) {
        let mut topics = self.write();
        topics
            .ids
            .insert(Arc::clone(&partition.topic), partition.topic_id);
        let known = topics
            .by_id
            .entry(partition.topic_id)
            .or_insert_with(|| Known {
                name: Arc::clone(&partition.topic),
                partitions: 0,
                here: HashMap::new(),
            });
        known.here.insert(partition.index, Arc::clone(partition));
    }

    fn apply_partitions(
        self: &Arc<Self>,
        image: &MetadataImage,
        changes: &Changes,
    ) -> Result<(), LogsError> {
        let mut chooser = logs::Chooser::new(self);
        let mut settings: HashMap<Uuid, Arc<TopicSettings>> = HashMap::new();
        let mut roles = Vec::with_capacity(changes.partitions.len());
        let mut new = Vec::new();
        for (id, index) in &changes.partitions {
            let Some(topic) = image.topics.get(id) else {
                continue;
            };
            let Some(state) = topic.partitions.get(index) else {
                continue;
            };
            let Some(role) = role(self.node, state) else {
                continue;
            };
            roles.push((*id, *index, role));
            let is_here = matches!(self.by_id(*id, *index), Found::Here(_));
            // Where its log is in a directory that is away, nobody makes another, empty one.
            if is_here || self.directories.lack(state.directory_of(self.node)) {
                continue;
            }
            let settings = settings
                .entry(*id)
                .or_insert_with(|| self.resolve(image, &topic.name));
            new.push(logs::New {
                topic: topic.as_ref(),
                index: *index,
                directory: chooser.choose(state),
                settings: Arc::clone(settings),
            });
        }
        let names = new.iter().map(|new| (new.topic.name.clone(), new.index.0));
        let names = names.collect();
        for directory in self.directories.all() {
            checkpoints::forget(directory, &names)?;
        }
        let (made, outcome) = logs::create(self, new);
        for partition in made {
            self.insert(&partition);
        }
        logs::at_once(roles, |(id, index, role)| match self.by_id(id, index) {
            Found::Here(partition) => partition.set_role(role).map_err(LogsError::from),
            _ => Ok(()),
        })?;
        outcome
    }

    fn resolve(&self, image: &MetadataImage, topic: &str) -> Arc<TopicSettings> {
        Arc::new(TopicSettings::resolve(image, &self.statics, topic))
    }

    /// What the scrub has done since the start.
    pub fn scrub(&self) -> ScrubReport {
        self.scrubber.report()
    }

    fn configure_scrub(self: &Arc<Self>, image: &MetadataImage) {
        let settings = ScrubSettings::resolve(image, &self.statics);
        if let Err(error) = self.scrubber.configure(self, settings) {
            tracing::error!(%error, "cannot start the scrub; it is tried again when its configs change");
        }
    }

    /// Records are served without the cleaner too: a worker that cannot be started is said, not refused.
    fn configure_cleaner(self: &Arc<Self>, image: &MetadataImage) {
        let settings = CleanerSettings::resolve(image, &self.statics);
        if let Err(error) = self.cleaner.configure(self, settings) {
            tracing::error!(%error, "cannot start a worker of the cleaner; it is tried again when a config changes");
        }
    }

    fn refresh_settings(&self, image: &MetadataImage) {
        let mut by_topic: HashMap<Uuid, Arc<TopicSettings>> = HashMap::new();
        for partition in self.all() {
            let settings = by_topic
                .entry(partition.topic_id)
                .or_insert_with(|| self.resolve(image, &partition.topic));
            partition.set_settings(Arc::clone(settings));
        }
    }

    fn delete_topic(&self, id: Uuid) -> Result<(), LogsError> {
        let known = {
            let mut topics = self.write();
            let known = topics.by_id.remove(&id);
            if let Some(known) = &known
                && topics.ids.get(&known.name) == Some(&id)
            {
                topics.ids.remove(&known.name);
            }
            known
        };
        for partition in known.into_iter().flat_map(|known| known.here.into_values()) {
            logs::delete(self, &partition)?;
        }
        Ok(())
    }
}

impl Known {
    fn find(&self, index: PartitionIndex) -> Found {
        match self.here.get(&index) {
            Some(partition) => Found::Here(Arc::clone(partition)),
            None if usize::try_from(index.0).is_ok_and(|index| index < self.partitions) => {
                Found::Elsewhere
            }
            None => Found::UnknownPartition,
        }
    }
}

/// What `partition` is to `node`; nothing when it has no replica there.
fn role(node: NodeId, partition: &ottla_metadata::Partition) -> Option<Role> {
    partition.replicas.contains(&node).then(|| Role {
        is_leader: partition.leader == Some(node),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.len(),
        in_sync: partition.isr.len(),
    })
}
