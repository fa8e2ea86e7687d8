//! A broker's storage on the simulated disk: the log directories and partitions of `ottla_replica`, on one thread.
//!
//! It calls what the broker's threads call, in the same order, one step at a time. It decides nothing and checks nothing.

use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::compaction::{BYTES_PER_KEY, CompactionError, MapLimits, OffsetMap};
use ottla_log::files::simulated::{Simulated, SimulatedFile};
use ottla_log::files::{FileError, Files};
use ottla_log::{Flush, LogConfig, LogDirectory, OpenError, OpenFiles, PartitionLog, StorageError};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::logs::{self, LogsError, NewLog, WhoseLog, sync_and_hold};
use ottla_replica::partition::Role;
use ottla_replica::{
    CompactionPass, Durability, FlushPass, Host, TopicSettings, Unavailable, checkpoints,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

pub(super) type Log = PartitionLog<Simulated>;
pub(super) type Partition = ottla_replica::Partition<Simulated, World>;
type Directory = ottla_replica::Directory<Simulated, World>;

/// Those that wait are answered by messages, and nobody sleeps.
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

/// What a producer that waited is told.
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

/// A partition as the metadata has it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) topic: &'static str,
    pub(super) index: i32,
    /// The number of its log directory.
    pub(super) directory: usize,
    /// None while it is deleted.
    pub(super) id: Option<Uuid>,
    pub(super) config: LogConfig,
    pub(super) leader_epoch: i32,
}

impl Wanted {
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.topic, self.index)
    }

    fn whose(&self) -> Option<WhoseLog> {
        Some(WhoseLog {
            topic: Arc::from(self.topic),
            topic_id: self.id?,
            index: PartitionIndex(self.index),
            settings: self.settings(),
        })
    }

    fn settings(&self) -> Arc<TopicSettings> {
        Arc::new(TopicSettings {
            log: self.config.clone(),
            durability: Durability::Fsync,
            ..TopicSettings::default()
        })
    }

    fn role(&self) -> Role {
        Role {
            node: NODE,
            leader: Some(NODE),
            leader_epoch: LeaderEpoch(self.leader_epoch),
            partition_epoch: 0,
            replicas: vec![NODE],
            isr: vec![NODE],
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) directory: Arc<Directory>,
    pub(super) pass: Option<FlushPass<Simulated, World>>,
}

/// A pass of the cleaner over the partition of a number.
#[derive(Debug)]
pub(super) struct Cleaning {
    pub(super) number: usize,
    pass: CompactionPass<Simulated>,
}

/// What a step of the cleaner came to.
#[derive(Debug)]
pub(super) enum Cleaned {
    /// Nothing is due.
    Nothing,
    /// A pass has begun over all before this offset.
    Began(usize, i64),
    /// A segment is written, or has replaced its sources.
    Went,
    /// A pass has ended: the partition is compacted up to here.
    Ended(usize, i64),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) disks: Vec<Disk>,
    pub(super) open_files: Arc<OpenFiles<SimulatedFile>>,
    /// By the number of their partition.
    pub(super) partitions: BTreeMap<usize, Arc<Partition>>,
    /// A checkpoint of a partition's log that was begun.
    pub(super) checkpoint: Option<(Arc<Partition>, Flush<Simulated>)>,
    pub(super) cleaning: Option<Cleaning>,
    to_remove: Vec<PathBuf>,
    answers: (Sender<Answer>, Receiver<Answer>),
}

/// The log directories of a node.
pub(super) fn paths(count: usize) -> Vec<PathBuf> {
    let all = ["/one", "/two"];
    all.iter().take(count).map(PathBuf::from).collect()
}

impl Node {
    /// A node that has opened nothing yet. It keeps nothing in reserve, so that its disk can be full.
    pub(super) fn new(disk: &Simulated, directories: usize, open_files: usize) -> Self {
        let open_files = Arc::new(OpenFiles::new(open_files));
        let disks = paths(directories).into_iter().map(|path| {
            let log = LogDirectory::sharing(disk.clone(), path, Arc::clone(&open_files));
            Disk {
                directory: Directory::new(log, Some(0), Duration::from_millis(20), ()),
                pass: None,
            }
        });
        Self {
            disks: disks.collect(),
            open_files,
            partitions: BTreeMap::new(),
            checkpoint: None,
            cleaning: None,
            to_remove: Vec::new(),
            answers: mpsc::channel(),
        }
    }

    /// Opens what is there and wanted, and sets the rest aside; the first half of a start.
    pub(super) fn open_existing(&mut self, wanted: &[Wanted], now: i64) -> Result<(), Failed> {
        let mut found = Vec::new();
        for (number, disk) in self.disks.iter().enumerate() {
            let of = |name: &str| {
                let mut here = wanted
                    .iter()
                    .filter(|partition| partition.directory == number);
                here.find(|partition| partition.name() == name)?.whose()
            };
            let here = logs::find(&disk.directory, of)?;
            self.to_remove.extend(here.deleted);
            found.push(here.existing);
        }
        logs::keep_one_of_each(&mut found)?;
        for disk in &self.disks {
            let log = &disk.directory.log;
            checkpoint::remove_clean_shutdown(log.files(), log.path())?;
        }
        let mut opened = Vec::new();
        for existing in found.into_iter().flatten() {
            opened.push(existing.open(Timestamp(now), &mut |_| {})?);
        }
        let is_shorter = opened.iter().fold(false, |is, one| one.is_shorter() | is);
        let (partitions, outcome) = sync_and_hold(opened);
        self.insert(partitions, wanted);
        outcome?;
        if is_shorter {
            // A truncation was cut short: what is appended now must not lie before an old recovery point.
            self.write_recovery_points()?;
        }
        Ok(())
    }

    /// Makes what is missing, and takes over as leader of all.
    pub(super) fn take_over(&mut self, wanted: &[Wanted], now: Now) -> Result<(), Failed> {
        for (number, of) in wanted.iter().enumerate() {
            if of.id.is_some() && !self.partitions.contains_key(&number) {
                self.create(of, wanted, now)?;
            }
            if let Some(partition) = self.partitions.get(&number) {
                partition.set_role(of.role(), now.monotonic)?;
            }
        }
        Ok(())
    }

    /// Leads a partition as the metadata has it, if it is here.
    pub(super) fn lead(
        &self,
        number: usize,
        wanted: &Wanted,
        now: MonotonicTime,
    ) -> Option<Result<(), Failed>> {
        let partition = self.partitions.get(&number)?;
        Some(partition.set_role(wanted.role(), now).map_err(Failed::from))
    }

    /// Makes the log of a new partition, and leads it.
    pub(super) fn create(
        &mut self,
        new: &Wanted,
        wanted: &[Wanted],
        now: Now,
    ) -> Result<(), Failed> {
        let name = BTreeSet::from([(new.topic.to_owned(), new.index)]);
        for disk in &self.disks {
            checkpoints::forget(&disk.directory, &name)?;
        }
        let log = NewLog {
            directory: &self.disks[new.directory].directory,
            of: new.whose().expect("a partition that is wanted"),
        };
        let (partitions, outcome) = sync_and_hold(vec![log.create(now.wall)?]);
        outcome?;
        for partition in &partitions {
            partition.set_role(new.role(), now.monotonic)?;
        }
        self.insert(partitions, wanted);
        Ok(())
    }

    fn insert(&mut self, partitions: Vec<Arc<Partition>>, wanted: &[Wanted]) {
        for partition in partitions {
            let is_it = |wanted: &Wanted| {
                wanted.id == Some(partition.topic_id) && wanted.index == partition.index.0
            };
            let number = wanted.iter().position(is_it);
            let number = number.expect("a partition that is wanted");
            self.partitions.insert(number, partition);
        }
    }

    /// Runs `ask` on the log of a partition, if it is here.
    pub(super) fn with_log<T>(&self, number: usize, ask: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.partitions.get(&number)?.with_log(ask)
    }

    /// Whether a partition's records up to `end` are acknowledged; if not, an answer will come.
    pub(super) fn is_acknowledged(&self, (number, topic, end): WaitsFor) -> bool {
        let partition = &self.partitions[&number];
        partition.replicated(Offset(end), || Producer {
            waits_for: (number, topic, end),
            answers: self.answers.0.clone(),
        })
    }

    /// The answers since the last call.
    pub(super) fn answers(&self) -> Vec<Answer> {
        self.answers.1.try_iter().collect()
    }

    /// Takes what is due in a directory, if anything is.
    pub(super) fn begin_pass(&mut self, directory: usize, now: MonotonicTime) -> bool {
        let disk = &mut self.disks[directory];
        disk.pass = disk.directory.begin_pass(now);
        disk.pass.is_some()
    }

    /// Renames the directory of a deleted partition, to be removed later.
    pub(super) fn delete(&mut self, number: usize) -> Result<(), Failed> {
        let Some(partition) = self.partitions.remove(&number) else {
            return Ok(());
        };
        let is_it = |cleaning: &Cleaning| cleaning.number == number;
        if self.cleaning.as_ref().is_some_and(is_it) {
            self.cleaning = None;
        }
        self.to_remove.extend(logs::delete(&partition)?);
        Ok(())
    }

    /// Removes the directories of deleted partitions.
    pub(super) fn remove_deleted(&mut self) -> Result<(), Failed> {
        let files = self.disks[0].directory.log.files();
        for path in std::mem::take(&mut self.to_remove) {
            logs::remove_directory(files, &path, || {})?;
        }
        Ok(())
    }

    fn here(&self, directory: &Directory) -> Vec<Arc<Partition>> {
        let here = |partition: &&Arc<Partition>| {
            std::ptr::eq(Arc::as_ptr(partition.directory()), directory)
        };
        self.partitions.values().filter(here).cloned().collect()
    }

    /// Writes a checkpoint file of every log directory; the first failure counts.
    fn write_all<T>(
        &self,
        write: impl Fn(&Directory, Vec<Arc<Partition>>) -> Result<T, FileError>,
    ) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for Disk { directory, .. } in &self.disks {
            let written = write(directory, self.here(directory));
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
        (keys, now): (usize, i64),
    ) -> Result<Cleaned, CompactionError> {
        let mut pace = |_| ControlFlow::Continue(());
        let Some(mut cleaning) = self.cleaning.take() else {
            return self.begin_cleaning(number, (keys, Timestamp(now)));
        };
        let partition = self.partitions.get(&cleaning.number);
        let partition = partition.ok_or(CompactionError::Changed)?;
        if let Some(outcome) = cleaning.pass.step(partition, &mut pace)? {
            return Ok(Cleaned::Ended(cleaning.number, outcome.end.0));
        }
        self.cleaning = Some(cleaning);
        Ok(Cleaned::Went)
    }

    fn begin_cleaning(
        &mut self,
        number: usize,
        (keys, now): (usize, Timestamp),
    ) -> Result<Cleaned, CompactionError> {
        let Some(partition) = self.partitions.get(&number) else {
            return Ok(Cleaned::Nothing);
        };
        if partition.with_log(|log| log.compaction_needs_checkpoint()) == Some(true) {
            partition.checkpoint()?;
            match self.write_recovery_points() {
                // It waits for them.
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
        let pass = CompactionPass::begin(partition, map, now, &mut pace)?;
        self.cleaning = Some(Cleaning { number, pass });
        Ok(Cleaned::Began(number, plan.first_uncleanable.0))
    }

    /// Closes everything; returns the numbers of the log directories that closed whole.
    pub(super) fn close(&mut self) -> (Vec<usize>, Result<(), Failed>) {
        let mut closed = Vec::new();
        let mut outcome = Ok(());
        for (number, disk) in std::mem::take(&mut self.disks).iter().enumerate() {
            match self.close_directory(&disk.directory) {
                Ok(()) => closed.push(number),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (closed, outcome)
    }

    fn close_directory(&self, directory: &Directory) -> Result<(), Failed> {
        let taken = logs::take_all(directory, || self.here(directory), || {});
        let (logs, written) = taken.expect("a directory is closed once");
        let points = logs::close_together(logs, || {})?;
        written?;
        Ok(logs::finish(directory, &points, 1)?)
    }

    pub(super) fn has_failed(&self, directory: usize) -> bool {
        self.disks[directory].directory.log.failure().is_some()
    }
}

impl Drop for Node {
    /// A partition that waits for a flush and its directory hold each other; the process that held both is gone.
    fn drop(&mut self) {
        for partition in self.partitions.values() {
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
