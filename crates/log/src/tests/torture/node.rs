//! A broker's storage on the simulated disk: log directories with their group commit, logs, checkpoint files.
//!
//! It does, on one thread and step by step, what `broker/src/replicas/{logs,housekeeping,flusher}.rs` do, with the same
//! functions of this crate and in the same order. It decides nothing and checks nothing.

use super::cleaner::Cleaning;
use super::flusher::Pass;
use crate::checkpoint::{self, PartitionOffsets};
use crate::files::simulated::{Simulated, SimulatedFile};
use crate::files::{FileError, Files};
use crate::group_commit::{GroupCommit, LogId};
use crate::planted::{Bug, is_planted};
use crate::tests::fixture::Log;
use crate::{
    Flush, Left, LogConfig, LogDirectory, OpenError, OpenFiles, OpenLog, PartitionLog,
    StorageError, run_together, sync_recovered,
};
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Open(#[from] OpenError),
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

    fn key(&self) -> (String, i32) {
        (self.topic.to_owned(), self.index)
    }
}

/// Who waits for a partition to be durable up to an offset.
pub(super) type Waiter = (usize, Uuid, i64);

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) log: Arc<LogDirectory<Simulated>>,
    pub(super) commit: GroupCommit<Waiter>,
    pub(super) pass: Option<Pass>,
}

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) id: LogId,
    pub(super) topic: Uuid,
    pub(super) directory: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) disk: Simulated,
    pub(super) directories: Vec<Directory>,
    pub(super) open_files: Arc<OpenFiles<SimulatedFile>>,
    /// By the number of their partition.
    pub(super) logs: BTreeMap<usize, Opened>,
    /// A checkpoint that was begun, of a partition's incarnation.
    pub(super) checkpoint: Option<(usize, Uuid, Flush<Simulated>)>,
    pub(super) cleaning: Option<Cleaning>,
    to_remove: Vec<PathBuf>,
    opened: u64,
}

/// The log directories of a node.
pub(super) fn paths(count: usize) -> Vec<PathBuf> {
    let all = ["/one", "/two"];
    all.iter().take(count).map(PathBuf::from).collect()
}

impl Node {
    /// A node that has opened nothing yet.
    pub(super) fn new(disk: Simulated, directories: usize, open_files: usize) -> Self {
        let open_files = Arc::new(OpenFiles::new(open_files));
        let directories = paths(directories).into_iter().map(|path| Directory {
            log: LogDirectory::sharing(disk.clone(), path, Arc::clone(&open_files)),
            commit: GroupCommit::new(Duration::from_millis(20)),
            pass: None,
        });
        Self {
            directories: directories.collect(),
            disk,
            open_files,
            logs: BTreeMap::new(),
            checkpoint: None,
            cleaning: None,
            to_remove: Vec::new(),
            opened: 0,
        }
    }

    /// Opens what is there and wanted, and sets the rest aside; the first half of a start.
    pub(super) fn open_existing(&mut self, wanted: &[Wanted], now: i64) -> Result<(), Failed> {
        let mut found = Vec::new();
        for directory in 0..self.directories.len() {
            found.extend(self.found(directory, wanted)?);
        }
        let mut opened = Vec::new();
        let mut is_shorter = false;
        for (number, left) in found {
            let log = self.open_unsynced(&wanted[number], left, now)?;
            is_shorter |= log.log_end_offset() < left.recovery_point;
            opened.push((number, log));
        }
        for directory in 0..self.directories.len() {
            let here = |(number, _): &mut (usize, Log)| wanted[*number].directory == directory;
            let (numbers, mut logs): (Vec<_>, Vec<_>) = opened.extract_if(.., here).unzip();
            sync_recovered(&mut logs)?;
            for (number, log) in numbers.into_iter().zip(logs) {
                self.insert(number, log, &wanted[number]);
            }
        }
        if is_shorter {
            // A truncation was cut short: what is appended now must not lie before an old recovery point.
            self.write_recovery_points(wanted)?;
        }
        Ok(())
    }

    /// Makes what is missing, and takes over as leader of all.
    pub(super) fn take_over(&mut self, wanted: &[Wanted], now: i64) -> Result<(), Failed> {
        for (number, partition) in wanted.iter().enumerate() {
            if partition.id.is_some() && !self.logs.contains_key(&number) {
                self.create(number, partition, now)?;
            }
            if let Some(opened) = self.logs.get_mut(&number) {
                lead(&mut opened.log, partition.leader_epoch)?;
            }
        }
        Ok(())
    }

    /// The partitions of one log directory that are wanted, and how they were left.
    fn found(&mut self, directory: usize, wanted: &[Wanted]) -> Result<Vec<(usize, Left)>, Failed> {
        let (files, path) = (self.disk.clone(), self.path(directory));
        let is_clean = checkpoint::was_clean_shutdown(&files, &path)?;
        let read = |name| checkpoint::read_offsets(&files, &path, name);
        let recovery_points = read(checkpoint::RECOVERY_POINTS)?;
        let log_starts = read(checkpoint::LOG_START_OFFSETS)?;
        let high_watermarks = read(checkpoint::HIGH_WATERMARKS)?;
        let compacted_to = read(checkpoint::CLEANER_OFFSETS)?;
        let left = |key: &(String, i32)| Left {
            is_clean,
            recovery_point: recovery_points.get(key).copied().unwrap_or_default(),
            log_start: log_starts.get(key).copied().unwrap_or_default(),
            high_watermark: Some(high_watermarks.get(key).copied().unwrap_or_default()),
            compacted_to: compacted_to.get(key).copied(),
        };
        let mut found = Vec::new();
        for entry in files
            .list(&path)?
            .into_iter()
            .filter(|entry| entry.is_directory)
        {
            if entry.name.ends_with("-delete") {
                self.to_remove.push(path.join(&entry.name));
            }
            if entry.name.contains('.') {
                continue;
            }
            let place = wanted.iter().position(|partition| {
                partition.name() == entry.name && partition.directory == directory
            });
            let place = place.filter(|place| wanted[*place].id.is_some());
            match place {
                Some(place) if self.is_of(directory, &entry.name, wanted[place].id)? => {
                    found.push((place, left(&wanted[place].key())));
                }
                _ => self.move_aside(directory, &entry.name, "stray")?,
            }
        }
        checkpoint::remove_clean_shutdown(&files, &path)?;
        Ok(found)
    }

    fn open_unsynced(&self, partition: &Wanted, left: Left, now: i64) -> Result<Log, Failed> {
        let open = OpenLog {
            directory: Arc::clone(&self.directories[partition.directory].log),
            name: partition.name(),
            config: partition.config.clone(),
            topic_id: partition.id,
            left,
        };
        Ok(PartitionLog::open_unsynced(open, Timestamp(now), &mut |_| {})?.0)
    }

    /// Makes the log of a new partition.
    pub(super) fn create(
        &mut self,
        number: usize,
        partition: &Wanted,
        now: i64,
    ) -> Result<(), Failed> {
        self.forget(partition)?;
        let (directory, name) = (partition.directory, partition.name());
        if !self.is_of(directory, &name, partition.id)? {
            self.move_aside(directory, &name, "stray")?;
        }
        let left = Left {
            is_clean: true,
            ..Left::default()
        };
        let mut log = self.open_unsynced(partition, left, now)?;
        sync_recovered(std::slice::from_mut(&mut log))?;
        lead(&mut log, partition.leader_epoch)?;
        self.insert(number, log, partition);
        Ok(())
    }

    /// Takes what an earlier partition of this name left out of the checkpoints.
    fn forget(&self, partition: &Wanted) -> Result<(), Failed> {
        if is_planted(Bug::StaleCheckpointsKept) {
            return Ok(());
        }
        for directory in self
            .directories
            .iter()
            .filter(|one| one.log.failure().is_none())
        {
            let path = directory.log.path();
            for name in [
                checkpoint::RECOVERY_POINTS,
                checkpoint::HIGH_WATERMARKS,
                checkpoint::LOG_START_OFFSETS,
                checkpoint::CLEANER_OFFSETS,
            ] {
                let mut offsets = checkpoint::read_offsets(&self.disk, path, name)?;
                if offsets.remove(&partition.key()).is_some() {
                    checkpoint::write_offsets(&self.disk, path, name, &offsets)?;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, number: usize, log: Log, partition: &Wanted) {
        self.opened += 1;
        let id = LogId(self.opened);
        let directory = partition.directory;
        let commit = &mut self.directories[directory].commit;
        commit.add(id, log.flushed_offset());
        let topic = partition.id.expect("a partition that is wanted");
        let opened = Opened {
            log,
            id,
            topic,
            directory,
        };
        self.logs.insert(number, opened);
    }

    /// Renames the directory of a deleted partition, to be removed later.
    pub(super) fn delete(&mut self, number: usize) -> Result<(), Failed> {
        let Some(opened) = self.logs.remove(&number) else {
            return Ok(());
        };
        let _ = self.directories[opened.directory].commit.remove(opened.id);
        if self
            .cleaning
            .as_ref()
            .is_some_and(|cleaning| cleaning.number == number)
        {
            self.cleaning = None;
        }
        let path = opened.log.path().to_path_buf();
        opened.log.retire();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        self.move_aside(opened.directory, &name, "delete")?;
        Ok(())
    }

    fn move_aside(&mut self, directory: usize, name: &str, suffix: &str) -> Result<(), Failed> {
        let path = self.path(directory);
        let id = checkpoint::read_topic_id(&self.disk, &path.join(name))?.unwrap_or(Uuid::ZERO);
        let aside = path.join(format!(
            "{name}.{}-{suffix}",
            id.to_string().replace('-', "")
        ));
        self.disk.rename(&path.join(name), &aside)?;
        self.disk.sync_directory(&path)?;
        if suffix == "delete" {
            self.to_remove.push(aside);
        }
        Ok(())
    }

    /// Removes the directories of deleted partitions.
    pub(super) fn remove_deleted(&mut self) -> Result<(), Failed> {
        for path in std::mem::take(&mut self.to_remove) {
            for entry in self.disk.list(&path)? {
                self.disk.remove(&path.join(entry.name))?;
            }
            self.disk.remove_directory(&path)?;
        }
        Ok(())
    }

    fn is_of(&self, directory: usize, name: &str, id: Option<Uuid>) -> Result<bool, Failed> {
        let path = self.path(directory).join(name);
        let found = match checkpoint::read_topic_id(&self.disk, &path) {
            Err(error) if error.is_not_found() => None,
            found => found?,
        };
        Ok(found.is_none() || found == id)
    }

    pub(super) fn path(&self, directory: usize) -> PathBuf {
        self.directories[directory].log.path().to_path_buf()
    }

    /// Writes a checkpoint file of every log directory that is online; the first failure counts.
    pub(super) fn write_offsets(
        &self,
        wanted: &[Wanted],
        name: &str,
        offset: impl Fn(&Log) -> Option<Offset>,
    ) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for (number, directory) in self.directories.iter().enumerate() {
            if directory.log.failure().is_some() {
                continue;
            }
            let offsets = self.offsets(number, wanted, &offset);
            let written =
                checkpoint::write_offsets(&self.disk, directory.log.path(), name, &offsets);
            outcome = outcome.and(written.map_err(Failed::from));
        }
        outcome
    }

    fn offsets(
        &self,
        directory: usize,
        wanted: &[Wanted],
        offset: &impl Fn(&Log) -> Option<Offset>,
    ) -> PartitionOffsets {
        let here = self
            .logs
            .iter()
            .filter(|(_, opened)| opened.directory == directory);
        here.filter_map(|(number, opened)| Some((wanted[*number].key(), offset(&opened.log)?)))
            .collect()
    }

    pub(super) fn write_log_starts(&self, wanted: &[Wanted]) -> Result<(), Failed> {
        let start = |log: &Log| Some(log.log_start_offset()).filter(|start| *start > Offset(0));
        self.write_offsets(wanted, checkpoint::LOG_START_OFFSETS, start)
    }

    /// Writes the recovery points down, and lets the logs know.
    pub(super) fn write_recovery_points(&mut self, wanted: &[Wanted]) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for number in 0..self.directories.len() {
            let directory = &self.directories[number].log;
            if directory.failure().is_some() {
                continue;
            }
            let name = checkpoint::RECOVERY_POINTS;
            let offsets = self.offsets(number, wanted, &|log: &Log| Some(log.recovery_point()));
            match checkpoint::write_offsets(&self.disk, directory.path(), name, &offsets) {
                Ok(()) => self.recovery_points_written(&offsets, wanted),
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        outcome
    }

    fn recovery_points_written(&mut self, offsets: &PartitionOffsets, wanted: &[Wanted]) {
        for (number, opened) in &mut self.logs {
            if let Some(offset) = offsets.get(&wanted[*number].key()) {
                opened.log.recovery_point_written(*offset);
            }
        }
    }

    /// Closes everything; returns the numbers of the log directories that closed whole.
    pub(super) fn close(mut self, wanted: &[Wanted]) -> (Vec<usize>, Result<(), Failed>) {
        let written = self
            .write_offsets(wanted, checkpoint::HIGH_WATERMARKS, |log| {
                Some(log.high_watermark())
            })
            .and_then(|()| self.write_log_starts(wanted));
        if written.is_err() {
            return (Vec::new(), written);
        }
        let mut logs = std::mem::take(&mut self.logs);
        let mut closed = Vec::new();
        let mut outcome = Ok(());
        for number in 0..self.directories.len() {
            let here = logs.extract_if(.., |_, opened| opened.directory == number);
            match self.close_directory(number, here.collect(), wanted) {
                Ok(()) => closed.push(number),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (closed, outcome)
    }

    fn close_directory(
        &self,
        directory: usize,
        logs: Vec<(usize, Opened)>,
        wanted: &[Wanted],
    ) -> Result<(), Failed> {
        let path = self.path(directory);
        let mut flushes = Vec::new();
        let mut points = PartitionOffsets::new();
        for (number, opened) in logs {
            let flush = opened.log.begin_close()?;
            points.insert(wanted[number].key(), flush.end().offset);
            flushes.push(flush);
        }
        run_together(&flushes)?;
        checkpoint::write_offsets(&self.disk, &path, checkpoint::RECOVERY_POINTS, &points)?;
        checkpoint::write_clean_shutdown(&self.disk, &path, 1)?;
        Ok(())
    }

    pub(super) fn has_failed(&self, directory: usize) -> bool {
        self.directories[directory].log.failure().is_some()
    }
}

/// Takes over as the leader of an epoch: what is durable is replicated.
fn lead(log: &mut Log, leader_epoch: i32) -> Result<(), Failed> {
    log.begin_epoch(LeaderEpoch(leader_epoch));
    log.flush()?;
    let flushed = log.flushed_offset();
    log.set_high_watermark(flushed)?;
    Ok(())
}

/// Makes the log directories of a new disk.
pub(super) fn format(disk: &Simulated, directories: usize) {
    for path in paths(directories) {
        disk.create_directory(&path).unwrap();
    }
    disk.sync_directory(Path::new("/")).unwrap();
}
