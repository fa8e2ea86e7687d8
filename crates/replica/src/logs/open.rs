//! Opens the logs that a start finds, and creates those of new partitions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::files::Files;
use ottla_log::{Left, OpenLog, PartitionLog, Progress, Recovery, sync_recovered};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::time::Timestamp;

use super::LogsError;
use super::left::LeftOf;
use super::names::{directory_name, is_deleted_partition, is_partition, set_aside, topic_id_of};
use crate::{Directory, Host, LiveBrokers, Partition, PartitionId, TopicSettings};

/// The partition of a log.
#[derive(Debug, Clone)]
pub struct WhoseLog {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: PartitionIndex,
    pub settings: Arc<TopicSettings>,
    pub brokers: Arc<LiveBrokers>,
}

impl WhoseLog {
    fn id(&self) -> PartitionId {
        (self.topic_id, self.index)
    }
}

/// A log on disk whose partition is in the metadata.
#[derive(Debug)]
pub struct Existing<F: Files, H: Host> {
    directory: Arc<Directory<F, H>>,
    name: String,
    /// Whether it has `partition.metadata`, which is written last when a log is created.
    has_id: bool,
    of: WhoseLog,
    left: Left,
}

#[derive(Debug)]
pub struct Found<F: Files, H: Host> {
    /// The logs of partitions in the metadata.
    pub existing: Vec<Existing<F, H>>,
    /// The directories of deleted partitions that were not removed before the last stop.
    pub deleted: Vec<PathBuf>,
}

/// Finds the logs of a directory. `wanted` returns the partition of a directory name, if it is in the metadata. Other
/// directories are renamed to `-stray`.
pub fn find<F: Files, H: Host>(
    directory: &Arc<Directory<F, H>>,
    mut wanted: impl FnMut(&str) -> Option<WhoseLog>,
) -> Result<Found<F, H>, LogsError> {
    let path = directory.log.path();
    let left = LeftOf::read(directory)?;
    let mut found = Found {
        existing: Vec::new(),
        deleted: Vec::new(),
    };
    for entry in directory.log.files().list(path)? {
        if entry.is_directory && is_deleted_partition(&entry.name) {
            found.deleted.push(path.join(&entry.name));
        }
        if !entry.is_directory || !is_partition(&entry.name) {
            continue;
        }
        let id = topic_id_of(directory, &entry.name)?;
        match wanted(&entry.name) {
            Some(of) if id.is_none_or(|id| id == of.topic_id) => found.existing.push(Existing {
                directory: Arc::clone(directory),
                left: left.of(&of.topic, of.index),
                name: entry.name,
                has_id: id.is_some(),
                of,
            }),
            _ => set_aside(directory, &entry.name)?,
        }
    }
    Ok(found)
}

/// Keeps one log of each partition. A second log without a topic id has no records: a crash interrupted its creation,
/// and the partition was then created in another directory. It is renamed to `-stray`.
pub fn keep_one_of_each<F: Files, H: Host>(
    of_directories: &mut [Vec<Existing<F, H>>],
) -> Result<(), LogsError> {
    let mut kept: BTreeMap<PartitionId, (Arc<Directory<F, H>>, bool)> = BTreeMap::new();
    for existing in of_directories.iter().flatten() {
        let this = (Arc::clone(&existing.directory), existing.has_id);
        match kept.get(&existing.of.id()) {
            Some((one, true)) if existing.has_id => {
                return Err(LogsError::Twice {
                    name: existing.name.clone(),
                    one: one.log.path().to_path_buf(),
                    other: existing.directory.log.path().to_path_buf(),
                });
            }
            Some(_) if !existing.has_id => {}
            _ => drop(kept.insert(existing.of.id(), this)),
        }
    }
    for queue in of_directories {
        let is_kept = |existing: &Existing<F, H>| {
            let (directory, _) = &kept[&existing.of.id()];
            Arc::ptr_eq(directory, &existing.directory)
        };
        let others: Vec<_> = queue
            .extract_if(.., |existing| !is_kept(existing))
            .collect();
        for other in others {
            set_aside(&other.directory, &other.name)?;
        }
    }
    Ok(())
}

/// An open log that is not synced yet, and the outcome of its recovery.
#[derive(Debug)]
pub struct Opened<F: Files, H: Host> {
    existing: Existing<F, H>,
    log: PartitionLog<F>,
    recovery: Recovery,
}

impl<F: Files, H: Host> Existing<F, H> {
    /// Its partition.
    pub fn id(&self) -> PartitionId {
        self.of.id()
    }

    /// Opens the log without syncing recovery's changes. Blocks on the disk.
    pub fn open(
        self,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened<F, H>, LogsError> {
        let name = &self.name;
        let open = OpenLog {
            directory: Arc::clone(&self.directory.log),
            name: name.clone(),
            config: self.of.settings.log.clone(),
            topic_id: Some(self.of.topic_id),
            left: self.left,
        };
        let opened = PartitionLog::open_unsynced(open, now, progress);
        let (log, recovery) = opened.map_err(|source| LogsError::Open {
            name: name.clone(),
            source,
        })?;
        if let Some(cut_off) = &recovery.cut_off {
            tracing::warn!(
                partition = name,
                ?cut_off,
                "recovery cut off the end of a log"
            );
        }
        if !self.left.is_clean {
            tracing::debug!(
                partition = name,
                bytes_read = recovery.bytes_read,
                "recovered a log"
            );
        }
        if recovery.epochs_rebuilt {
            tracing::warn!(
                partition = name,
                "leader-epoch-checkpoint was missing or unreadable; leader epochs rebuilt from the batches"
            );
        }
        Ok(Opened {
            existing: self,
            log,
            recovery,
        })
    }
}

/// A new partition, whose log will be created.
#[derive(Debug)]
pub struct NewLog<'a, F: Files, H: Host> {
    /// The log directory for it.
    pub directory: &'a Arc<Directory<F, H>>,
    pub of: WhoseLog,
}

impl<F: Files, H: Host> NewLog<'_, F, H> {
    /// Creates the log, unsynced. A log of an earlier topic with this name is renamed to `-stray`. Blocks on the disk.
    pub fn create(self, now: Timestamp) -> Result<Opened<F, H>, LogsError> {
        let existing = Existing {
            directory: Arc::clone(self.directory),
            name: directory_name(&self.of.topic, self.of.index),
            has_id: false,
            of: self.of,
            left: Left {
                is_clean: true,
                ..Left::default()
            },
        };
        let id = topic_id_of(&existing.directory, &existing.name)?;
        if id.is_some_and(|id| id != existing.of.topic_id) {
            set_aside(&existing.directory, &existing.name)?;
        }
        existing.open(now, &mut |_| {})
    }
}

impl<F: Files, H: Host> Opened<F, H> {
    pub fn directory(&self) -> &Arc<Directory<F, H>> {
        &self.existing.directory
    }

    /// Whether the log ends before its recovery point, which is then logged: bytes on stable storage were lost, or a
    /// truncation was interrupted.
    pub fn is_shorter(&self) -> bool {
        let (end, was) = (self.log.log_end_offset(), self.existing.left.recovery_point);
        if end < was {
            tracing::error!(
                partition = self.existing.name,
                end = end.0,
                recovery_point = was.0,
                "a log ends before its recovery point: the records between are lost, and their offsets will be used again; \
                 if that must not happen, stop the broker and restore the partition from a copy"
            );
        }
        end < was
    }
}

/// Logs how much a start after a crash recovered in a directory: one line, because a node may have
/// thousands of logs.
fn log_recovered<F: Files, H: Host>(directory: &Path, opened: &[(Existing<F, H>, Recovery)]) {
    let recovered = opened
        .iter()
        .filter(|(existing, _)| !existing.left.is_clean);
    let (logs, bytes_read) = recovered.fold((0_usize, 0), |(logs, bytes), (_, recovery)| {
        (logs + 1, bytes + recovery.bytes_read)
    });
    if logs > 0 {
        tracing::info!(
            directory = %directory.display(),
            logs,
            bytes_read,
            "recovered the logs of a directory that was not closed properly"
        );
    }
}

/// The partitions of the logs that could be opened, and the first error of the others.
pub type Held<F, H> = (Vec<Arc<Partition<F, H>>>, Result<(), LogsError>);

/// Syncs the logs, those of one directory together, and makes partitions of them. Returns the first error; a failed
/// directory does not affect others.
pub fn sync_and_hold<F: Files, H: Host>(opened: Vec<Opened<F, H>>) -> Held<F, H> {
    type OfDirectory<F, H> = (Vec<(Existing<F, H>, Recovery)>, Vec<PartitionLog<F>>);
    let mut by_directory: BTreeMap<PathBuf, OfDirectory<F, H>> = BTreeMap::new();
    for one in opened {
        let path = one.existing.directory.log.path().to_path_buf();
        let (existing, logs) = by_directory.entry(path).or_default();
        existing.push((one.existing, one.recovery));
        logs.push(one.log);
    }
    let mut partitions = Vec::new();
    let mut outcome = Ok(());
    for (path, (existing, mut logs)) in by_directory {
        if let Err(error) = sync_recovered(&mut logs) {
            outcome = outcome.and(Err(error.into()));
            continue;
        }
        log_recovered(&path, &existing);
        for ((existing, recovery), log) in existing.into_iter().zip(logs) {
            let directory = &existing.directory;
            let partition = Partition::new(existing.of, log, directory);
            partition.log_damage_found(&recovery.damage, &directory.log);
            partitions.push(partition);
        }
    }
    (partitions, outcome)
}
