//! The partitions of this node, driven by threads.
//!
//! What a partition and a node do is decided in `ottla_replica`; [`Replicas`] has the threads that do it. Opening and
//! closing logs, retention and checkpoints block on the disk: they run on threads of their own, never on the runtime's
//! workers.

pub mod damage;
pub(crate) mod directories;
pub mod ends;
pub mod partition;

use std::sync::Arc;

use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_metadata::MetadataImage;
use ottla_metadata::effective::StaticConfigs;
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::time::MonotonicTime;
use tokio::sync::watch;

pub use self::directories::{Directories, Directory, distinct};
pub use self::partition::Partition;
use self::partition::Tasks;
pub use crate::drivers::applier::log_failures;
use crate::drivers::cleaner;
pub use crate::drivers::cleaner::CleanerSettings;
pub use crate::drivers::cleaner::report::CompactionReport;
use crate::drivers::disk_work::DiskWork;
pub use crate::drivers::housekeeper::Intervals;
pub use crate::drivers::opening::LogsError;
pub use crate::drivers::scrubber::{ScrubReport, ScrubSettings};
use crate::drivers::{applier, closing, housekeeper, opening, scrubber};
use crate::process::clock::Clock;
use ottla_replica::{Node, checkpoints};
pub use ottla_replica::{topic_settings as settings, traffic};

/// Where a partition is.
pub type Found = ottla_replica::node::Found<Disk, Tasks>;

/// All partitions of this node.
#[derive(Debug)]
pub struct Replicas {
    pub(crate) node: Node<Disk, Tasks>,
    pub(crate) clock: Clock,
    pub(crate) directories: Directories,
    disk_work: Arc<DiskWork>,
    pub(crate) applier: applier::Applier,
    /// How often a directory has done what it was not waited for.
    pub(crate) late: watch::Sender<u64>,
    pub(crate) housekeeping: housekeeper::Housekeeping,
    cleaner: cleaner::Cleaner,
    scrubber: scrubber::Scrubber,
}

impl Replicas {
    /// No partitions yet: the metadata says which. The log directories must exist.
    pub fn new(statics: StaticConfigs, clock: Clock, directories: Directories) -> Arc<Self> {
        Arc::new(Self {
            node: Node::new(statics, directories.all().to_vec()),
            clock,
            directories,
            disk_work: DiskWork::of_runtime(),
            applier: applier::Applier::default(),
            late: watch::Sender::new(0),
            housekeeping: housekeeper::Housekeeping::default(),
            cleaner: cleaner::Cleaner::default(),
            scrubber: scrubber::Scrubber::default(),
        })
    }

    /// A partition by its topic's id.
    pub fn by_id(&self, topic: Uuid, index: PartitionIndex) -> Found {
        self.node.by_id(topic, index)
    }

    /// A partition by its topic's name.
    pub fn by_name(&self, topic: &str, index: PartitionIndex) -> Found {
        self.node.by_name(topic, index)
    }

    /// The name of a topic.
    pub fn topic_name(&self, topic: Uuid) -> Option<Arc<str>> {
        self.node.topic_name(topic)
    }

    /// All partitions of this node.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.node.all()
    }

    /// All partitions of this node in one of its log directories.
    pub fn all_in(&self, directory: &Arc<Directory>) -> Vec<Arc<Partition>> {
        self.node.all_in(directory)
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
        opening::open_existing(self, image)?;
        let mut errors = self.apply(image, &self.node.everything_in(image));
        if let Some(first) = errors.pop() {
            log_failures(&errors);
            return Err(first.into());
        }
        self.housekeeping
            .start(self, intervals)
            .map_err(LogsError::Thread)?;
        self.configure_cleaner(image);
        self.configure_scrub(image);
        Ok(())
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

    /// What the scrub has done since the start.
    pub fn scrub(&self) -> ScrubReport {
        self.scrubber.report()
    }

    /// The settings of the scrub; nothing before the logs are open.
    pub fn scrub_settings(&self) -> Option<ScrubSettings> {
        self.scrubber.settings()
    }

    /// The settings of the cleaner; nothing before the logs are open.
    pub fn cleaner_settings(&self) -> Option<CleanerSettings> {
        self.cleaner.settings()
    }

    pub(crate) fn configure_scrub(self: &Arc<Self>, image: &MetadataImage) {
        let settings = ScrubSettings::resolve(image, self.node.statics());
        if let Err(error) = self.scrubber.configure(self, settings) {
            tracing::error!(%error, "cannot start the scrub; it is tried again when its configs change");
        }
    }

    /// Records are served without the cleaner too: a worker that cannot be started is logged.
    pub(crate) fn configure_cleaner(self: &Arc<Self>, image: &MetadataImage) {
        let settings = CleanerSettings::resolve(image, self.node.statics());
        if let Err(error) = self.cleaner.configure(self, settings) {
            tracing::error!(%error, "cannot start a worker of the cleaner; it is tried again when a config changes");
        }
    }
}
