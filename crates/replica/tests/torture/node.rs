//! A node on the simulated disk: the log directories and partitions of `ottla_replica`, on one thread.
//!
//! It calls what the broker's threads call, in the same order, one step at a time. It decides nothing and checks
//! nothing.

use ottla_log::checkpoint::PartitionOffsets;
use ottla_log::compaction::{BYTES_PER_KEY, CompactionError, MapLimits, OffsetMap};
use ottla_log::files::simulated::{Simulated, SimulatedFile};
use ottla_log::files::{FileError, Files};
use ottla_log::{Flush, LogDirectory, OpenError, OpenFiles, PartitionLog, StorageError};
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, ConfigResource, MetadataImage, Topic};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::logs::{self, LogsError};
use ottla_replica::node::Found;
use ottla_replica::{CompactionPass, FlushPass, Host, InOrder, Unavailable, checkpoints};
use std::collections::BTreeMap;
use std::hash::RandomState;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

pub(super) type Log = PartitionLog<Simulated>;
pub(super) type Partition = ottla_replica::Partition<Simulated, World>;
type Directory = ottla_replica::Directory<Simulated, World>;

/// Answers producers by messages. Consumers and flushers do not wait.
#[derive(Debug)]
pub(super) struct World;

impl Host for World {
    type Producer = Producer;
    type Consumer = ();
    type Flusher = ();

    fn answer(producer: Producer, outcome: Result<(), Unavailable>) {
        let Producer { waits_for, answers } = producer;
        // The node may be gone.
        let _ = answers.send((waits_for, outcome));
    }

    fn wake((): &()) {}
    fn pass_is_due((): &()) {}
}

/// The only node.
const NODE: NodeId = NodeId(1);

/// A partition's number, its topic's id, and the offset that its records end at.
pub(super) type WaitsFor = (usize, Uuid, i64);

/// The answer to a waiting producer.
type Answer = (WaitsFor, Result<(), Unavailable>);

/// A producer that waits.
#[derive(Debug)]
pub(super) struct Producer {
    waits_for: WaitsFor,
    answers: Sender<Answer>,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("two logs are the same partition's")]
    Twice,
}

impl From<LogsError> for Failed {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::Open { source, .. } => source.into(),
            LogsError::Storage(error) => error.into(),
            LogsError::File(error) => error.into(),
            LogsError::Twice { .. } => Self::Twice,
            LogsError::Panicked => panic!("{error}"),
        }
    }
}

/// The topics of a world, each of one partition; a partition's number is its topic's place here.
pub(super) const TOPICS: [&str; 4] = ["plain", "simple", "keyed", "mixed"];
const INDEX: PartitionIndex = PartitionIndex(0);

/// A partition as the metadata has it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) topic: &'static str,
    /// The number of its log directory.
    pub(super) directory: usize,
    /// `None` while it is deleted.
    pub(super) id: Option<Uuid>,
    pub(super) config: Config,
    pub(super) leader_epoch: i32,
}

/// The configs of a topic, by name.
pub(super) type Config = BTreeMap<&'static str, String>;

impl Wanted {
    pub(super) fn name(&self) -> String {
        format!("{}-{INDEX}", self.topic)
    }

    fn metadata(&self) -> ottla_metadata::Partition {
        ottla_metadata::Partition {
            replicas: vec![NODE],
            directories: vec![directory_id(self.directory)],
            isr: vec![NODE],
            removing: Vec::new(),
            adding: Vec::new(),
            leader: Some(NODE),
            recovering: false,
            leader_epoch: LeaderEpoch(self.leader_epoch),
            partition_epoch: 0,
            eligible_leaders: Vec::new(),
            last_known_eligible_leaders: Vec::new(),
        }
    }
}

fn image(wanted: &[Wanted]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for partition in wanted {
        let Some(id) = partition.id else { continue };
        let name = partition.topic.to_owned();
        let configs = partition.config.iter();
        let configs = configs.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let topic = ConfigResource::topic(partition.topic);
        image.configs.insert(topic, configs.collect());
        image.topic_ids.insert(name.clone(), id);
        let topic = Topic {
            name,
            id,
            partitions: [(INDEX, partition.metadata())].into_iter().collect(),
        };
        image.topics.insert(id, Arc::new(topic));
    }
    image
}

fn directory_id(number: usize) -> Uuid {
    Uuid::from_parts(5, u64::try_from(number).unwrap())
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) directory: Arc<Directory>,
    pub(super) pass: Option<FlushPass<Simulated, World>>,
}

/// A pass of the cleaner, and the number of its partition.
#[derive(Debug)]
pub(super) struct Cleaning {
    pub(super) number: usize,
    pass: CompactionPass<Simulated>,
}

/// The outcome of a step of the cleaner.
#[derive(Debug)]
pub(super) enum Cleaned {
    /// Nothing is due.
    Nothing,
    /// A pass over a partition, up to this offset, has begun.
    Began(usize, i64),
    /// A segment was written, or has replaced its sources.
    Went,
    /// A pass has ended: the partition is compacted up to here.
    Ended(usize, i64),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) disks: Vec<Disk>,
    pub(super) open_files: Arc<OpenFiles<SimulatedFile>>,
    /// A running checkpoint of a partition's log.
    pub(super) checkpoint: Option<(Arc<Partition>, Flush<Simulated>)>,
    pub(super) cleaning: Option<Cleaning>,
    replicas: ottla_replica::Node<Simulated, World>,
    answers: (Sender<Answer>, Receiver<Answer>),
}

/// The log directories of a node.
pub(super) fn paths(count: usize) -> Vec<PathBuf> {
    let all = ["/one", "/two"];
    all.iter().take(count).map(PathBuf::from).collect()
}

impl Node {
    /// A node without open logs. It has no disk reserve, so that its disk can be full.
    pub(super) fn new(disk: &Simulated, directories: usize, open_files: usize) -> Self {
        let open_files = Arc::new(OpenFiles::new(open_files));
        let paths = paths(directories).into_iter().enumerate();
        let disks: Vec<_> = paths
            .map(|(number, path)| {
                let log = LogDirectory::sharing(disk.clone(), path, Arc::clone(&open_files));
                let directory = Directory::new(log, Some(0), Duration::from_millis(20), ());
                directory.id.get_or_init(|| directory_id(number));
                Disk {
                    directory,
                    pass: None,
                }
            })
            .collect();
        let directories = disks.iter().map(|disk| Arc::clone(&disk.directory));
        let statics = StaticConfigs {
            node: NODE,
            ..StaticConfigs::default()
        };
        Self {
            replicas: ottla_replica::Node::new(statics, directories.collect()),
            disks,
            open_files,
            checkpoint: None,
            cleaning: None,
            answers: mpsc::channel(),
        }
    }

    /// The first half of a start: opens the logs that are `wanted`, and sets others aside.
    pub(super) fn open_existing(&mut self, wanted: &[Wanted], now: Now) -> Result<(), Failed> {
        let existing = self.replicas.find_logs(&image(wanted), now.monotonic)?;
        let mut opened = Vec::new();
        for existing in existing.into_iter().flatten() {
            opened.push(existing.open(now.wall, &mut |_| {})?);
        }
        self.replicas.hold(opened)?;
        // A write of the start may have failed.
        for disk in &self.disks {
            disk.directory.log.ensure_online()?;
        }
        Ok(())
    }

    /// The second half of a start: creates missing partitions, and becomes leader of all.
    pub(super) fn take_over(&mut self, wanted: &[Wanted], now: Now) -> Result<(), Failed> {
        let everything = self.replicas.everything_in(&image(wanted));
        self.apply(wanted, &everything, now)
    }

    /// Creates a new partition and becomes its leader.
    pub(super) fn lead(&mut self, topic: Uuid, wanted: &[Wanted], now: Now) -> Result<(), Failed> {
        let changes = Changes {
            partitions: [(topic, INDEX)].into(),
            ..Changes::default()
        };
        self.apply(wanted, &changes, now)
    }

    /// Applies changed configs of a partition.
    pub(super) fn configure(
        &mut self,
        number: usize,
        wanted: &[Wanted],
        now: Now,
    ) -> Result<(), Failed> {
        let changes = Changes {
            configs: [ConfigResource::topic(TOPICS[number])].into(),
            ..Changes::default()
        };
        self.apply(wanted, &changes, now)
    }

    /// Deletes the partition of a topic that is not `wanted` any more. Its files are removed later.
    pub(super) fn delete(
        &mut self,
        (number, topic): (usize, Uuid),
        wanted: &[Wanted],
        now: Now,
    ) -> Result<(), Failed> {
        let is_it = |cleaning: &Cleaning| cleaning.number == number;
        if self.cleaning.as_ref().is_some_and(is_it) {
            self.cleaning = None;
        }
        let changes = Changes {
            deleted_topics: [(topic, TOPICS[number].to_owned())].into(),
            ..Changes::default()
        };
        self.apply(wanted, &changes, now)
    }

    /// The first failure counts.
    fn apply(&self, wanted: &[Wanted], changes: &Changes, now: Now) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for job in self.replicas.plan(&image(wanted), changes, now.monotonic) {
            for error in self.replicas.perform(&job, &InOrder, now) {
                outcome = outcome.and(Err(Failed::from(error)));
            }
        }
        outcome
    }

    /// A partition, if it is here.
    pub(super) fn partition(&self, number: usize) -> Option<Arc<Partition>> {
        match self.replicas.by_name(TOPICS[number], INDEX) {
            Found::Here(partition) => Some(partition),
            _ => None,
        }
    }

    /// All partitions that are here, by their numbers.
    pub(super) fn partitions(&self) -> Vec<(usize, Arc<Partition>)> {
        let all = 0..TOPICS.len();
        all.filter_map(|number| Some((number, self.partition(number)?)))
            .collect()
    }

    /// Runs `ask` on the log of a partition, if it is here.
    pub(super) fn with_log<T>(&self, number: usize, ask: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.partition(number)?.with_log(ask)
    }

    /// Whether a partition's records up to `end` are acknowledged; if not, an answer will come.
    pub(super) fn is_acknowledged(&self, (number, topic, end): WaitsFor) -> bool {
        let partition = self.partition(number).expect("a partition that is here");
        partition.replicated(Offset(end), || Producer {
            waits_for: (number, topic, end),
            answers: self.answers.0.clone(),
        })
    }

    /// The answers since the last call.
    pub(super) fn answers(&self) -> Vec<Answer> {
        self.answers.1.try_iter().collect()
    }

    /// Begins a pass in a directory, if one is due.
    pub(super) fn begin_pass(&mut self, directory: usize, now: MonotonicTime) -> bool {
        let disk = &mut self.disks[directory];
        disk.pass = disk.directory.begin_pass(now);
        disk.pass.is_some()
    }

    /// Removes the directories of deleted partitions.
    pub(super) fn remove_deleted(&mut self) -> Result<(), Failed> {
        for Disk { directory, .. } in &self.disks {
            let due = MonotonicTime(Duration::MAX);
            for path in self.replicas.take_removals(directory, due) {
                logs::remove_directory(directory.log.files(), &path, || {})?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint file of every log directory; the first failure counts.
    fn write_all<T>(
        &self,
        write: impl Fn(&Arc<Directory>, Vec<Arc<Partition>>) -> Result<T, StorageError>,
    ) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for Disk { directory, .. } in &self.disks {
            let written = write(directory, self.replicas.all_in(directory));
            outcome = outcome.and(written.map(|_| ()).map_err(Failed::from));
        }
        outcome
    }

    pub(super) fn write_high_watermarks(&self) -> Result<(), Failed> {
        self.write_all(|directory, here| {
            checkpoints::write_high_watermarks(directory, || here, None::<&PartitionOffsets>)
        })
    }

    pub(super) fn write_log_starts(&self) -> Result<(), Failed> {
        self.write_all(|directory, here| checkpoints::write_log_starts(directory, || here))
    }

    pub(super) fn write_recovery_points(&self) -> Result<(), Failed> {
        self.write_all(|directory, here| checkpoints::write_recovery_points(directory, || here))
    }

    pub(super) fn write_compacted(&self) -> Result<(), Failed> {
        self.write_all(|directory, here| checkpoints::write_compacted(directory, || here))
    }

    /// The cleaner's next step, over partition `number` if none is under way.
    pub(super) fn clean(
        &mut self,
        number: usize,
        keys: usize,
        now: i64,
    ) -> Result<Cleaned, CompactionError> {
        let mut pace = |_| ControlFlow::Continue(());
        let Some(mut cleaning) = self.cleaning.take() else {
            return self.begin_cleaning(number, keys, Timestamp(now));
        };
        let partition = self.partition(cleaning.number);
        let partition = partition.ok_or(CompactionError::Changed)?;
        if let Some(outcome) = cleaning.pass.step(&partition, &mut pace)? {
            return Ok(Cleaned::Ended(cleaning.number, outcome.end.0));
        }
        self.cleaning = Some(cleaning);
        Ok(Cleaned::Went)
    }

    fn begin_cleaning(
        &mut self,
        number: usize,
        keys: usize,
        now: Timestamp,
    ) -> Result<Cleaned, CompactionError> {
        let Some(partition) = self.partition(number) else {
            return Ok(Cleaned::Nothing);
        };
        if partition.with_log(|log| log.compaction_needs_checkpoint()) == Some(true) {
            partition.checkpoint()?;
            match self.write_recovery_points() {
                // Compaction needs the recovery points on disk.
                Err(Failed::Storage(error)) => return Err(error.into()),
                Err(_) => return Ok(Cleaned::Nothing),
                Ok(()) => {}
            }
        }
        let plan = partition.with_log(|log| log.plan_compaction(now));
        let plan = plan.ok_or(CompactionError::Changed)??;
        if !plan.is_due() {
            return Ok(Cleaned::Nothing);
        }
        let limits = MapLimits {
            bytes: keys * BYTES_PER_KEY,
            load_factor: 0.9,
        };
        let map = OffsetMap::new(limits, [RandomState::new(), RandomState::new()]);
        let mut pace = |_| ControlFlow::Continue(());
        let pass = CompactionPass::begin(&partition, map, now, &mut pace)?;
        self.cleaning = Some(Cleaning { number, pass });
        Ok(Cleaned::Began(number, plan.first_uncleanable.0))
    }

    /// Closes all log directories; returns the numbers of those without a failure.
    pub(super) fn close(&mut self) -> (Vec<usize>, Result<(), Failed>) {
        let mut closed = Vec::new();
        let mut outcome = Ok(());
        for (number, disk) in std::mem::take(&mut self.disks).iter().enumerate() {
            match self.replicas.close_directory(&disk.directory, &InOrder, 1) {
                Ok(()) => closed.push(number),
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        (closed, outcome)
    }

    pub(super) fn has_failed(&self, directory: usize) -> bool {
        self.disks[directory].directory.log.failure().is_some()
    }
}

impl Drop for Node {
    /// Breaks the cycle of references between a dirty partition and its directory.
    fn drop(&mut self) {
        for partition in self.replicas.all() {
            drop(partition.take_log());
        }
    }
}

/// Makes the log directories of a new disk.
pub(super) fn format(disk: &Simulated, directories: usize) {
    for path in paths(directories) {
        disk.create_directory(&path).unwrap();
    }
    disk.sync_directory(Path::new("/")).unwrap();
}
