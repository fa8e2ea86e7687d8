//! The partitions that this node holds: found by id or name, made and unmade as the metadata says.
//!
//! [`Partition`] is one of them; [`Replicas`] knows all topics of the cluster, and holds the partitions that are
//! here. Opening and closing logs, retention and checkpoints block on the disk: they run on threads of their own or
//! where nobody waits, never on the runtime's workers.

mod applier;
mod cleaner;
mod closing;
pub mod damage;
mod directories;
pub mod ends;
pub mod flusher;
mod housekeeping;
mod logs;
pub mod partition;
mod pause;
mod recovery_progress;
mod scrubber;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ottla_log::files::FileError;
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, MetadataImage, Topic};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::time::MonotonicTime;
use tokio::sync::watch;

pub use self::applier::say;
pub use self::cleaner::CleanerSettings;
pub use self::cleaner::report::CompactionReport;
pub use self::directories::{Directories, Directory, distinct};
pub use self::housekeeping::Intervals;
pub use self::logs::LogsError;
pub use self::partition::Partition;
use self::partition::Role;
pub use self::scrubber::{ScrubReport, ScrubSettings};
use crate::clock::Clock;
use crate::disk_work::DiskWork;
use ottla_replica::{TopicSettings, checkpoints};
pub use ottla_replica::{topic_settings as settings, traffic};

/// Where a partition is.
#[derive(Debug, Clone)]
pub enum Found {
    /// On this node.
    Here(Arc<Partition>),
    /// On other nodes only, or not made here yet.
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
    applier: applier::Applier,
    /// How often a directory has done what it was not waited for.
    late: watch::Sender<u64>,
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
    /// Where those are being made that are not here yet.
    being_made: HashMap<PartitionIndex, Arc<Directory>>,
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
            applier: applier::Applier::default(),
            late: watch::Sender::new(0),
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

    /// The time of its clock.
    pub fn now(&self) -> MonotonicTime {
        self.clock.monotonic()
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
        self.applier.start(self).map_err(LogsError::Thread)?;
        let wanted = self.wanted(image);
        self.learn_topics(image);
        let loaded = logs::open_existing(self, &wanted, image)?;
        for partition in &loaded.partitions {
            self.insert(partition);
        }
        for directory in &loaded.with_shorter {
            self.lower_recovery_points(directory);
        }
        let everything = Changes {
            partitions: wanted
                .iter()
                .map(|(topic, index, _)| (topic.id, *index))
                .collect(),
            ..Changes::default()
        };
        let mut errors = self.apply(image, &everything);
        if let Some(first) = errors.pop() {
            say(&errors);
            return Err(first);
        }
        self.housekeeping
            .start(self, intervals)
            .map_err(LogsError::Thread)?;
        self.configure_cleaner(image);
        self.configure_scrub(image);
        Ok(())
    }

    /// Lets no recovery point in the checkpoint be beyond the end of its log. What is appended must not lie before it:
    /// torn, it would be taken for damage, and stay. A directory where that cannot be written takes no more.
    fn lower_recovery_points(&self, directory: &Arc<Directory>) {
        if let Err(error) = checkpoints::write_recovery_points(directory, || self.all_in(directory))
        {
            let error = directory.log.take_offline(error);
            tracing::error!(%error, "the recovery point of a log that became shorter cannot be written; start the broker again when it can");
        }
    }

    /// Logs which directories are stalled, and which answer again, and has other workers do what is held up there.
    pub fn watch_directories(self: &Arc<Self>) {
        self.directories.log_stalls(self.clock.monotonic());
        self.cleaner.relieve(self);
    }

    /// Tells when a directory has done what it was not waited for: see [`Replicas::apply`].
    pub fn follow_late(&self) -> watch::Receiver<u64> {
        self.late.subscribe()
    }

    /// Writes down where each log of `directory` starts, so that deleted records stay deleted. Blocks on the disk.
    pub fn write_log_starts(&self, directory: &Arc<Directory>) -> Result<(), FileError> {
        checkpoints::write_log_starts(directory, || self.all_in(directory))
    }

    /// Flushes and closes every log, so that the next start reads nothing, and each directory by itself. Blocks on the
    /// disks.
    pub fn close(&self, broker_epoch: i64) -> Result<(), LogsError> {
        self.cleaner.stop();
        self.scrubber.stop();
        self.housekeeping.stop();
        let closed = closing::close_all(self, broker_epoch);
        self.cleaner.join();
        self.scrubber.join();
        closed
    }

    /// What is known of the compaction of each partition that `asks` is true for; one whose disk has failed is left
    /// out.
    pub fn compaction(&self, asks: impl Fn(&Partition) -> bool) -> Vec<CompactionReport> {
        let now = self.clock.now().wall;
        let mut reports: Vec<_> = self
            .all()
            .iter()
            .filter(|partition| asks(partition))
            .filter_map(|partition| self.cleaner.report(self, partition, now)?.ok())
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
                being_made: HashMap::new(),
            });
            known.partitions = topic.partitions.len();
        }
    }

    /// Lets a partition be found, unless its topic is gone.
    fn insert(&self, partition: &Arc<Partition>) -> bool {
        let mut topics = self.write();
        let Some(known) = topics.by_id.get_mut(&partition.topic_id) else {
            return false;
        };
        known.being_made.remove(&partition.index);
        known.here.insert(partition.index, Arc::clone(partition));
        true
    }

    /// Where a partition's log is, or is being made.
    fn directory_of(&self, id: Uuid, index: PartitionIndex) -> Option<Arc<Directory>> {
        let topics = self.read();
        let known = topics.by_id.get(&id)?;
        let here = known
            .here
            .get(&index)
            .map(|partition| partition.directory());
        here.or_else(|| known.being_made.get(&index)).cloned()
    }

    /// The directory of each partition that is here or being made.
    fn directories_in_use(&self) -> Vec<Arc<Directory>> {
        let topics = self.read();
        let in_use = topics.by_id.values().flat_map(|known| {
            let here = known.here.values().map(|partition| partition.directory());
            here.chain(known.being_made.values()).cloned()
        });
        in_use.collect()
    }

    fn note_made_in(&self, id: Uuid, index: PartitionIndex, directory: &Arc<Directory>) {
        if let Some(known) = self.write().by_id.get_mut(&id) {
            known.being_made.insert(index, Arc::clone(directory));
        }
    }

    fn is_being_made_in(
        &self,
        id: Uuid,
        index: PartitionIndex,
        directory: &Arc<Directory>,
    ) -> bool {
        let topics = self.read();
        let known = topics.by_id.get(&id);
        let place = known.and_then(|known| known.being_made.get(&index));
        place.is_some_and(|place| Arc::ptr_eq(place, directory))
    }

    /// Whoever comes next may choose another directory.
    fn note_not_made(&self, id: Uuid, index: PartitionIndex) {
        if let Some(known) = self.write().by_id.get_mut(&id) {
            known.being_made.remove(&index);
        }
    }

    fn resolve(&self, image: &MetadataImage, topic: &str) -> Arc<TopicSettings> {
        Arc::new(TopicSettings::resolve(image, &self.statics, topic))
    }

    /// What the scrub has done since the start.
    pub fn scrub(&self) -> ScrubReport {
        self.scrubber.report()
    }

    /// What the scrub obeys now; nothing before the logs are open.
    pub fn scrub_settings(&self) -> Option<ScrubSettings> {
        self.scrubber.settings()
    }

    /// What the cleaner obeys now; nothing before the logs are open.
    pub fn cleaner_settings(&self) -> Option<CleanerSettings> {
        self.cleaner.settings()
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

    /// Lets a topic be found no more; returns its partitions, which are still on disk.
    fn forget_topic(&self, id: Uuid) -> Vec<Arc<Partition>> {
        let mut topics = self.write();
        let known = topics.by_id.remove(&id);
        if let Some(known) = &known
            && topics.ids.get(&known.name) == Some(&id)
        {
            topics.ids.remove(&known.name);
        }
        let here = known.into_iter().flat_map(|known| known.here.into_values());
        here.collect()
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
        node,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
    })
}
