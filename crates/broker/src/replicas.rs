//! The partitions of this node, as requests and threads reach them.
//!
//! What a partition and a node do is decided in `ottla_replica`. The threads that open, flush, clean and close logs stand
//! above, in `drivers/`.

pub mod damage;
pub mod ends;
pub mod partition;
pub mod quotas;

use std::sync::Arc;

use ottla_log::files::disk::Disk;
use ottla_log::{LogDirectory, OpenFiles, StorageError};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::time::MonotonicTime;
pub use ottla_replica::directory::distinct;
use ottla_replica::{Node, checkpoints};
pub use ottla_replica::{topic_settings as settings, traffic};
use tokio::sync::watch;

pub use self::partition::Partition;
use self::partition::Tasks;
use self::quotas::ReplicationQuotas;
use crate::cluster::losses::Losses;
use crate::config::BrokerConfig;
use crate::drivers::disk_work::DiskWork;
use crate::process::clock::Clock;

/// Where a partition is.
pub type Found = ottla_replica::node::Found<Disk, Tasks>;
/// One of `log.dirs`.
pub type Directory = ottla_replica::Directory<Disk, Tasks>;

/// All partitions of this node.
#[derive(Debug)]
pub struct Replicas {
    node: Node<Disk, Tasks>,
    clock: Clock,
    disk_work: Arc<DiskWork>,
    losses: Losses,
    quotas: Arc<ReplicationQuotas>,
    /// The number of late changes, see [`Replicas::follow_late_changes`].
    late_changes: watch::Sender<u64>,
}

impl Replicas {
    /// A node without partitions; the metadata adds them. The log directories must exist; `open_files` of their files
    /// stay open.
    pub fn new(config: &BrokerConfig, open_files: usize, clock: Clock) -> Arc<Self> {
        let open_files = Arc::new(OpenFiles::new(open_files));
        let storage = &config.storage;
        let directories = storage.log_dirs.iter().map(|path| {
            let log = LogDirectory::sharing(Disk, path, Arc::clone(&open_files));
            let delay = storage.flush_max_delay;
            Directory::new(
                log,
                storage.disk_reserve,
                delay,
                partition::FlusherThread::default(),
            )
        });
        let node = Node::new(config.statics.clone(), directories.collect());
        Arc::new(Self {
            node: node.lacking_directories(!storage.offline_log_dirs.is_empty()),
            clock,
            losses: Losses::new(config, clock),
            quotas: Arc::default(),
            disk_work: DiskWork::of_runtime(),
            late_changes: watch::Sender::new(0),
        })
    }

    /// The partitions, as `ottla_replica` opens, changes and deletes them.
    pub(crate) fn node(&self) -> &Node<Disk, Tasks> {
        &self.node
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

    /// The clocks that its threads go by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The monotonic time.
    pub fn now(&self) -> MonotonicTime {
        self.clock.monotonic()
    }

    /// Runs what may wait for a disk on the threads of the runtime.
    pub fn disk_work(&self) -> &Arc<DiskWork> {
        &self.disk_work
    }

    /// The records that this node has seen to be lost.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// The rates of throttled replicas.
    pub fn quotas(&self) -> &Arc<ReplicationQuotas> {
        &self.quotas
    }

    /// The log directories.
    pub fn directories(&self) -> &[Arc<Directory>] {
        self.node.directories()
    }

    /// Notifies of late changes: a stalled directory has finished a change of metadata after its caller stopped waiting.
    pub fn follow_late_changes(&self) -> watch::Receiver<u64> {
        self.late_changes.subscribe()
    }

    /// Notifies the followers of [`Replicas::follow_late_changes`].
    pub(crate) fn notify_late_change(&self) {
        self.late_changes.send_modify(|times| *times += 1);
    }

    /// Writes down where each log of `directory` starts, so that deleted records stay deleted. Blocks on the disk.
    pub fn write_log_starts(&self, directory: &Arc<Directory>) -> Result<(), StorageError> {
        checkpoints::write_log_starts(directory, || self.all_in(directory))
    }

    /// Writes the log start offsets of a directory for a caller that answers for them.
    pub fn ensure_log_starts(&self, directory: &Arc<Directory>) -> Result<(), StorageError> {
        checkpoints::ensure_log_starts(directory, || self.all_in(directory))
    }
}
