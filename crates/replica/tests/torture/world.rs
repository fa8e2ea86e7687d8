//! One world: a disk, the partitions that the metadata knows, their models, and the node that serves them until it
//! dies.
//!
//! Everything follows from the seed. A failure without a fault, or a difference from a model, is a bug of the log: it
//! panics, and the trace shows the steps before.

use super::check::{self, At, Survives};
use super::model::Model;
use super::node::{self, Config, Failed, Log, Node, Wanted};
use super::trace::Trace;
use ottla_log::checkpoint;
use ottla_log::files::simulated::Random;
use ottla_log::files::simulated::Simulated;
use ottla_log::files::{File, FileError, Files, Open, Operation};
use ottla_log::{OpenError, StorageError};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::{MonotonicTime, Timestamp};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The time at the start of a world.
const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// The steps of a world, crashes included.
const STEPS: u64 = 160;

/// The faults since the last start, which may cause failures.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Troubles {
    pub(super) fault: bool,
    pub(super) full: bool,
    pub(super) handles: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) random: Random,
    pub(super) trace: Trace,
    pub(super) disk: Simulated,
    pub(super) now: i64,
    pub(super) partitions: Vec<Wanted>,
    /// Of each partition.
    pub(super) models: Vec<Model>,
    pub(super) troubles: Troubles,
    /// A power cut is pending.
    pub(super) is_power_doomed: bool,
    /// The node must end.
    pub(super) must_end: bool,
    pub(super) directories: usize,
    open_files: usize,
    /// In milliseconds.
    delete_retention: u64,
    incarnations: u64,
    pub(super) leader_epoch: i32,
}

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    PowerCut,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let directories = 1 + random.index(2);
        let disk = Simulated::new();
        node::format(&disk, directories);
        let mut world = Self {
            trace: Trace::new(),
            disk,
            now: NOW.0,
            partitions: Vec::new(),
            models: Vec::new(),
            troubles: Troubles::default(),
            is_power_doomed: false,
            must_end: false,
            directories,
            open_files: 3 + random.index(8),
            // In some worlds tombstones are removed, in others they must stay.
            delete_retention: [10_000, 1_000_000][random.index(2)],
            incarnations: 0,
            leader_epoch: 0,
            random,
        };
        for (number, topic) in node::TOPICS.into_iter().enumerate() {
            let config = world.config(topic);
            let id = Some(world.new_id());
            world.partitions.push(Wanted {
                topic,
                directory: number % directories,
                id,
                config,
                leader_epoch: 0,
            });
            world.models.push(Model::new());
        }
        world
    }

    pub(super) fn new_id(&mut self) -> Uuid {
        self.incarnations += 1;
        Uuid::from_parts(7, self.incarnations)
    }

    pub(super) fn config(&mut self, topic: &str) -> Config {
        let random = &mut self.random;
        let (policy, spread) = match topic {
            "keyed" => ("compact", 400),
            "mixed" => ("compact,delete", 400),
            _ => ("delete", 1700),
        };
        let numbers = [
            ("internal.segment.bytes", 800 + random.below(spread)),
            ("segment.ms", 5 * 60_000),
            ("segment.jitter.ms", 20_000),
            ("index.interval.bytes", 100 + random.below(200)),
            ("retention.ms", 4 * 60_000),
            ("retention.bytes", 5000 + random.below(5000)),
            ("min.cleanable.dirty.ratio", 0),
            ("delete.retention.ms", self.delete_retention),
        ];
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        let policy = ("cleanup.policy", policy.to_owned());
        numbers.into_iter().chain([policy]).collect()
    }

    fn has_policy(&self, number: usize, policy: &str) -> bool {
        self.partitions[number].config["cleanup.policy"].contains(policy)
    }

    pub(super) fn is_compacted(&self, number: usize) -> bool {
        self.has_policy(number, "compact")
    }

    pub(super) fn is_deleted_from(&self, number: usize) -> bool {
        self.has_policy(number, "delete")
    }

    pub(super) fn monotonic(&self) -> MonotonicTime {
        let since = u64::try_from(self.now - NOW.0).unwrap();
        MonotonicTime(Duration::from_millis(since))
    }

    /// Runs all steps.
    pub(super) fn run(&mut self) {
        let mut survives = Survives::Everything;
        let mut steps = 0;
        while steps < STEPS {
            let mut node = self.start(survives);
            self.troubles = Troubles::default();
            self.is_power_doomed = false;
            let end = loop {
                steps += 1;
                if let Some(end) = self.ending(&node, steps) {
                    break end;
                }
                self.step(&mut node);
                self.count_handles(&node);
            };
            survives = self.end(node, end);
        }
        let node = self.start(survives);
        let _ = self.end(node, End::Close);
    }

    /// Whether the node ends now, and how.
    fn ending(&mut self, node: &Node, steps: u64) -> Option<End> {
        if self.disk.is_power_off() {
            return Some(End::PowerCut);
        }
        if std::mem::take(&mut self.must_end) {
            return Some(End::Kill);
        }
        let has_failed = (0..self.directories).any(|directory| node.has_failed(directory));
        let chances = if has_failed { 6 } else { 40 };
        if steps < STEPS && !self.random.one_in(chances) {
            return None;
        }
        Some(match self.random.below(5) {
            0 => End::Close,
            1 | 2 => End::Kill,
            _ => End::PowerCut,
        })
    }

    /// Ends the node and sets the disk to what is left; returns what must have survived.
    fn end(&mut self, mut node: Node, end: End) -> Survives {
        self.trace
            .note(&format!("end: {end:?}, {} changes", self.disk.changes()));
        if end == End::Close {
            self.close(node);
        } else {
            node.cleaning = None;
            drop(node);
        }
        assert_eq!(self.disk.open_handles(), 0, "files are open after the end");
        self.trace.crashes += u64::from(end != End::Close);
        let is_cut = self.disk.is_power_off() || end == End::PowerCut || self.random.one_in(4);
        if !is_cut {
            self.disk = self.disk.process_killed();
            return Survives::Everything;
        }
        let seed = self.random.next();
        self.disk = self.disk.power_cut(seed);
        Survives::Acknowledged
    }

    fn close(&mut self, mut node: Node) {
        node.cleaning = None;
        self.flush_all(&mut node);
        if let Some((partition, checkpoint)) = node.checkpoint.take() {
            let ran = checkpoint.run();
            partition.end_checkpoint(&checkpoint, &ran);
        }
        let (closed, outcome) = node.close();
        drop(node);
        if let Err(error) = outcome {
            self.tolerate_failure(&error);
        }
        self.trace.note(&format!("closed {closed:?}"));
        for (partition, model) in self.partitions.iter().zip(&mut self.models) {
            if closed.contains(&partition.directory) && !self.disk.is_power_off() {
                model.acknowledged = model.end();
            }
        }
    }

    /// Starts a node, in several attempts if need be, and compares it with the models.
    fn start(&mut self, survives: Survives) -> Node {
        let mut survives = survives;
        for attempt in 0.. {
            self.leader_epoch += 1;
            for partition in &mut self.partitions {
                partition.leader_epoch = self.leader_epoch;
            }
            self.lose_what_can_be_rebuilt();
            self.disk.set_clock(self.now);
            self.troubles = Troubles::default();
            if attempt < 3 && self.random.one_in(3) {
                self.trouble_start();
            }
            match self.try_start(survives) {
                Ok(node) => return node,
                Err(error) => {
                    self.trace.note(&format!("start failed: {error}"));
                    self.tolerate_start(&error);
                }
            }
            assert_eq!(
                self.disk.open_handles(),
                0,
                "files are open after a failed start"
            );
            if self.disk.is_power_off() || self.random.one_in(2) {
                survives = Survives::Acknowledged;
                let seed = self.random.next();
                self.disk = self.disk.power_cut(seed);
            } else {
                self.disk = self.disk.process_killed();
            }
        }
        unreachable!("a start without trouble works")
    }

    fn try_start(&mut self, survives: Survives) -> Result<Node, Failed> {
        let mut node = Node::new(&self.disk, self.directories, self.open_files);
        node.open_existing(&self.partitions, self.now())?;
        self.disk.heal();
        for (number, partition) in node.partitions() {
            partition.with_log(|log| self.check(log, number, survives));
        }
        if self.random.one_in(6) {
            self.trouble_start();
        }
        node.take_over(&self.partitions, self.now())?;
        self.disk.heal();
        for model in &mut self.models {
            model.leader_epoch = self.leader_epoch;
        }
        Ok(node)
    }

    fn check(&mut self, log: &mut Log, number: usize, survives: Survives) {
        let at = At {
            now: self.now,
            delete_retention: i64::try_from(self.delete_retention).unwrap(),
        };
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let point = log.recovery_point();
        self.trace.note(&format!(
            "check {number}, from {start} to {end}, read from {point}, {survives:?}"
        ));
        check::after_start(&mut self.models[number], log, survives, at);
        self.trace.checks += 1;
    }

    /// Injects a fault into the start.
    fn trouble_start(&mut self) {
        let count = self.random.below(60);
        match self.random.below(4) {
            0 => self.disk.cut_power_after(count),
            1 => {
                self.troubles.full = true;
                self.disk.limit_space(Some(0));
            }
            2 => {
                self.troubles.handles = true;
                self.disk.limit_handles(Some(self.random.index(4)));
            }
            _ => self.break_something(),
        }
        self.trace
            .note(&format!("trouble at the start: {:?}", self.troubles));
    }

    /// Injects a failure of one operation.
    pub(super) fn break_something(&mut self) {
        const OPERATIONS: [Operation; 12] = [
            Operation::Open,
            Operation::Read,
            Operation::Write,
            Operation::Sync,
            Operation::Truncate,
            Operation::Status,
            Operation::CreateDirectory,
            Operation::List,
            Operation::Rename,
            Operation::Remove,
            Operation::SyncDirectory,
            Operation::SyncFileSystem,
        ];
        let operation = OPERATIONS[self.random.index(OPERATIONS.len())];
        let nth = 1 + self.random.below(12);
        self.troubles.fault = true;
        self.disk.fail_nth(operation, nth, ErrorKind::Other);
        self.trace.note(&format!("fail {operation} number {nth}"));
    }

    /// Removes indexes, snapshots and leader epochs, or damages snapshots: a start must rebuild them.
    fn lose_what_can_be_rebuilt(&mut self) {
        if !self.random.one_in(3) {
            return;
        }
        for number in 0..self.partitions.len() {
            let partition = &self.partitions[number];
            let name = partition.name();
            let root = &node::paths(self.directories)[partition.directory];
            let path = root.join(&name);
            for entry in self.disk.list(&path).unwrap_or_default() {
                let is_index = entry.name.contains(".index") || entry.name.contains(".timeindex");
                let is_snapshot = entry.name.contains(".snapshot");
                if !(is_index || is_snapshot) || !self.random.one_in(5) {
                    continue;
                }
                self.trace.note(&format!("lose {} of {}", entry.name, name));
                let file = path.join(&entry.name);
                if is_snapshot && self.random.one_in(2) {
                    self.damage(&file);
                } else {
                    self.disk.remove(&file).unwrap();
                }
            }
        }
    }

    fn damage(&mut self, path: &Path) {
        let file = self.disk.open(path, Open::Write).unwrap();
        let length = file.length().unwrap();
        let position = self.random.below(length);
        let mut byte = [0];
        file.read_at(&mut byte, position).unwrap();
        let flipped = [byte[0] ^ 0x10];
        file.write_at(&[std::io::IoSlice::new(&flipped)], position)
            .unwrap();
    }

    /// Between steps only the cache of open files has files open.
    fn count_handles(&self, node: &Node) {
        let is_idle = node.checkpoint.is_none()
            && node.cleaning.is_none()
            && node.disks.iter().all(|disk| disk.pass.is_none());
        let open = self.disk.open_handles();
        if is_idle {
            assert_eq!(open, node.open_files.len(), "open files that nobody keeps");
        }
        assert!(open <= self.open_files + 60, "{open} files are open");
    }

    /// Panics at an error that no fault explains.
    pub(super) fn tolerate(&self, error: &StorageError) {
        let Troubles {
            fault,
            full,
            handles,
        } = self.troubles;
        let is_excused = match error {
            // A directory whose recovery points cannot be lowered at a start is taken offline.
            StorageError::Offline { cause, .. } if is_recovery_points(&cause.path) => {
                fault || full || handles || self.disk.is_power_off()
            }
            StorageError::Offline { .. } => fault || self.disk.is_power_off(),
            StorageError::Full { .. } => full,
            StorageError::TooManyOpenFiles { .. } => handles,
            StorageError::Damaged { .. } | StorageError::DamagedTransactionIndex { .. } => false,
        };
        assert!(is_excused, "a failure without a cause: {error}");
    }

    fn tolerate_file(&self, error: &FileError) {
        let Troubles {
            fault,
            full,
            handles,
        } = self.troubles;
        let is_excused = fault || full || handles || self.disk.is_power_off();
        assert!(is_excused, "a failure without a cause: {error}");
    }

    pub(super) fn tolerate_failure(&self, error: &Failed) {
        match error {
            Failed::Storage(error) | Failed::Open(OpenError::Storage(error)) => {
                self.tolerate(error);
            }
            Failed::File(error) => self.tolerate_file(error),
            Failed::Open(error) => panic!("a log that cannot be opened: {error}"),
            Failed::Twice => panic!("{error}"),
        }
    }

    /// On a full disk every existing log must open. Only a log that is being created may fail.
    fn tolerate_start(&self, error: &Failed) {
        self.tolerate_failure(error);
        if let Failed::Open(OpenError::Storage(StorageError::Full { cause, .. })) = error {
            let is_new = cause.path.ends_with("partition.metadata.tmp");
            assert!(is_new, "a log does not open on a full disk: {error}");
        }
    }
}

fn is_recovery_points(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(checkpoint::RECOVERY_POINTS))
}
