//! Checks the log directories at a start: which can be used, to which cluster they belong, which are new, which are missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ottla_controller::bootstrap;
use ottla_log::files::disk::Disk;
use ottla_log::files::{FileError, Files};
use ottla_metadata::{MetadataImage, MetadataVersion};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{DirectoryState, Format, MetaProperties, MetaPropertiesError};
use ottla_replica::spare;

use super::lock::{DirectoryLock, NotLocked};
use super::refusals::DirectoryError;
use super::voter::{has_static_voters, voter};
use crate::config::{BrokerConfig, Roles, StorageConfig};
use crate::process::random::unreserved_id;

/// A directory, and its `meta.properties` if it is formatted.
pub(super) type Found = (PathBuf, Option<MetaProperties>);
/// A directory and its id.
pub(super) type Identified = (PathBuf, Uuid);

/// The directories that can be used, and those that cannot.
#[derive(Default)]
pub(super) struct Usable {
    pub(super) states: Vec<Found>,
    pub(super) offline: Vec<PathBuf>,
}

/// What a start has created and locked. If it is refused later, all of it is undone.
#[derive(Default)]
pub(super) struct Taken {
    /// Created directories, parents first.
    made: Vec<PathBuf>,
    locks: Vec<DirectoryLock>,
}

impl Taken {
    /// The locks of a start that goes on.
    pub(super) fn keep(self) -> Vec<DirectoryLock> {
        self.locks
    }

    /// Releases the locks and removes the created directories, for a start that is refused.
    pub(super) fn undo(self) {
        self.locks.into_iter().for_each(DirectoryLock::undo);
        for directory in self.made.iter().rev() {
            match Disk.remove_directory(directory) {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(%error, "cannot remove a directory that this start made");
                }
                _ => {}
            }
        }
    }
}

/// Locks the directories that can be used. As in Kafka, a log directory whose disk fails is left out, unless it has
/// the metadata log.
pub(super) fn usable(storage: &StorageConfig, taken: &mut Taken) -> Result<Usable, DirectoryError> {
    let mut usable = Usable::default();
    let mut last = None;
    for path in paths(storage) {
        match lock(&path, taken) {
            Ok(meta) => usable.states.push((path, meta)),
            Err(error) if error.is_of_the_disk() && path != storage.metadata_log_dir => {
                tracing::error!(directory = %path.display(), %error, "a log directory cannot be used; its partitions are offline");
                usable.offline.push(path);
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match last {
        Some(error)
            if storage
                .log_dirs
                .iter()
                .all(|path| usable.offline.contains(path)) =>
        {
            Err(DirectoryError::AllOffline(Box::new(error)))
        }
        _ => Ok(usable),
    }
}

fn lock(path: &Path, taken: &mut Taken) -> Result<Option<MetaProperties>, DirectoryError> {
    make(path, &mut taken.made)?;
    taken.locks.push(DirectoryLock::take(path)?);
    state(path)
}

impl DirectoryError {
    /// Whether the disk failed, as opposed to a wrong configuration.
    fn is_of_the_disk(&self) -> bool {
        matches!(
            self,
            Self::File(_)
                | Self::Lock(NotLocked::File { .. })
                | Self::MetaProperties(MetaPropertiesError::File(_))
        )
    }
}

/// `log.dirs`, and `metadata.log.dir` if it is not one of them.
fn paths(storage: &StorageConfig) -> Vec<PathBuf> {
    let mut paths = storage.log_dirs.clone();
    if !paths.contains(&storage.metadata_log_dir) {
        paths.push(storage.metadata_log_dir.clone());
    }
    paths
}

/// Creates a directory and its parents, and adds the created ones to `made`.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if ancestor == Path::new("") || Disk.status(ancestor)?.is_some() {
            break;
        }
        missing.push(ancestor);
    }
    for directory in missing.into_iter().rev() {
        Disk.create_directory(directory)?;
        made.push(directory.to_owned());
    }
    Ok(())
}

fn state(path: &Path) -> Result<Option<MetaProperties>, DirectoryError> {
    match ottla_quorum::directory_state(&Disk, path)? {
        DirectoryState::New => Ok(None),
        DirectoryState::Formatted(meta) => Ok(Some(meta)),
        DirectoryState::Foreign(file) => Err(DirectoryError::Foreign {
            directory: path.to_owned(),
            file,
        }),
    }
}

/// The cluster that the directories belong to; none when all are new.
pub(super) fn cluster(
    config: &BrokerConfig,
    states: &[Found],
) -> Result<Option<String>, DirectoryError> {
    let metadata = &config.storage.metadata_log_dir;
    let ours = states
        .iter()
        .find(|(path, _)| path == metadata)
        .and_then(|(_, meta)| meta.as_ref());
    for (directory, meta) in states {
        let Some(meta) = meta else { continue };
        if meta.node_id != config.node_id {
            return Err(DirectoryError::OtherNode {
                directory: directory.clone(),
                theirs: meta.node_id.0,
                ours: config.node_id.0,
            });
        }
        let Some(ours) = ours else {
            return Err(DirectoryError::NoMetadata {
                metadata: metadata.clone(),
                other: directory.clone(),
                cluster: meta.cluster_id.clone(),
            });
        };
        if meta.cluster_id != ours.cluster_id {
            return Err(DirectoryError::OtherCluster {
                directory: directory.clone(),
                theirs: meta.cluster_id.clone(),
                ours: ours.cluster_id.clone(),
            });
        }
    }
    Ok(ours.map(|meta| meta.cluster_id.clone()))
}

/// The id of each directory: a new id where it has none.
pub(super) fn identified(states: &[Found]) -> Vec<Identified> {
    let ids = states.iter().map(|(path, meta)| {
        let known = meta.as_ref().and_then(|meta| meta.directory_id);
        (path.clone(), known.unwrap_or_else(unreserved_id))
    });
    ids.collect()
}

/// What new directories are formatted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct New<'a> {
    pub(super) cluster_id: &'a str,
    /// Whether the controllers of the cluster are others, so that this node is no voter of its own log.
    pub(super) joins: bool,
}

/// Makes room in full directories, formats new ones, and writes the ids of those that have none.
pub(super) fn prepare(
    config: &BrokerConfig,
    New { cluster_id, joins }: New<'_>,
    (states, ids): (&[Found], &[Identified]),
    now: Timestamp,
) -> Result<(), DirectoryError> {
    let version = MetadataVersion::OF_NEW_CLUSTERS;
    // Voters are in the log unless the configuration names them.
    let is_voter = config.quorum.roles != Roles::Broker && !joins && !has_static_voters(config);
    for ((path, meta), (_, id)) in states.iter().zip(ids) {
        spare::make_room(&Disk, path)?;
        if let Some(meta) = meta {
            if meta.directory_id.is_none() {
                // A directory of Kafka before 3.7 has no id yet; Kafka gives it one as well.
                let directory_id = Some(*id);
                let identified = MetaProperties {
                    directory_id,
                    ..meta.clone()
                };
                identified.write(&Disk, path)?;
            }
            continue;
        }
        let voter = voter(config, *id);
        let format = Format {
            cluster_id,
            node_id: config.node_id,
            directories: &[(path.as_path(), *id)],
            metadata_directory: &config.storage.metadata_log_dir,
            voters: if is_voter {
                std::slice::from_ref(&voter)
            } else {
                &[]
            },
            bootstrap: &bootstrap::checkpoint(version),
            version,
            now,
        };
        ottla_quorum::format(&Disk, &format)?;
    }
    Ok(())
}

/// Refuses a start that would create partitions again because their directory is missing, or that would format an empty
/// directory in the place of a missing one. Otherwise the partitions of a missing directory stay offline, as in Kafka. While
/// a disk of `log.dirs` fails, so do those that are in no other directory.
pub(super) fn check_complete(
    config: &BrokerConfig,
    image: &MetadataImage,
    (usable, ids): (&Usable, &[Identified]),
) -> Result<(), DirectoryError> {
    let formatted = || {
        let all = usable.states.iter().zip(ids);
        all.filter(|((_, meta), _)| meta.is_some())
            .map(|(_, id)| id)
    };
    let is_here = |id: &Uuid| formatted().any(|(_, known)| known == id);
    let registered = image.brokers.get(&config.node_id);
    let missing = registered
        .into_iter()
        .flat_map(|broker| &broker.directories)
        .find(|id| !is_here(id));
    let Some(missing) = missing.copied() else {
        return Ok(());
    };
    let mut found = BTreeSet::new();
    for (path, _) in formatted() {
        found.extend(Disk.list(path)?.into_iter().map(|entry| entry.name));
    }
    let (mut offline, mut unknown) = (0, 0);
    for topic in image.topics.values() {
        for (index, partition) in &topic.partitions {
            let is_ours = partition.replicas.contains(&config.node_id);
            if !is_ours || found.contains(&format!("{}-{index}", topic.name)) {
                continue;
            }
            match partition.directory_of(config.node_id) {
                Some(id) if !is_here(&id) => offline += 1,
                Some(_) | None => unknown += 1,
            }
        }
    }
    let added = usable.states.iter().find(|(_, meta)| meta.is_none());
    if !usable.offline.is_empty() {
        offline += std::mem::take(&mut unknown);
    }
    match added {
        _ if unknown > 0 => Err(DirectoryError::DirectoryMissing {
            missing,
            partitions: unknown,
        }),
        Some((empty, _)) if offline > 0 => Err(DirectoryError::DirectoryReplaced {
            missing,
            empty: empty.clone(),
            partitions: offline,
        }),
        _ => {
            if offline > 0 {
                tracing::error!(directory_id = %missing, partitions = offline, "a log directory is missing; its partitions are offline until it is back or their topics are deleted");
            }
            Ok(())
        }
    }
}
