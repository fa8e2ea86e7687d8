//! Formats new log directories. The result is byte for byte that of `kafka-storage format`.
//!
//! `meta.properties` is written last. A directory that has it is completely formatted; one that a crash left without it is
//! formatted again.

use crate::checkpoint::{self, CheckpointError, Contents, SnapshotId, WriteError};
use crate::meta_properties::{META_PROPERTIES, MetaProperties, MetaPropertiesError};
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter};
use ottla_log::files::{FileError, Files};
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use std::path::Path;

/// The file with the records that the first leader writes. As in Kafka, every log directory has one.
pub const BOOTSTRAP_CHECKPOINT: &str = "bootstrap.checkpoint";
/// The directory of the metadata log.
pub const METADATA_DIRECTORY: &str = "__cluster_metadata-0";

/// The state of a log directory that is not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryState {
    /// It does not exist, or holds only files of an unfinished formatting: it may be formatted.
    New,
    /// It is formatted, with this identity.
    Formatted(MetaProperties),
    /// It holds other files, of which this is the first: it must not be formatted.
    Foreign(String),
}

/// The state of the log directory at `path`.
pub fn directory_state<F: Files>(
    files: &F,
    path: &Path,
) -> Result<DirectoryState, MetaPropertiesError> {
    if let Some(meta) = MetaProperties::read(files, path)? {
        return Ok(DirectoryState::Formatted(meta));
    }
    let entries = match files.list(path) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(DirectoryState::New),
        Err(error) => return Err(error.into()),
    };
    let is_ours = |name: &str| {
        let name = name.trim_end_matches(".tmp").trim_end_matches(".part");
        name == BOOTSTRAP_CHECKPOINT || name == META_PROPERTIES
    };
    for entry in entries {
        let foreign = match entry.name.as_str() {
            // mkfs makes the one, and a broker locks the other.
            "lost+found" | ".lock" => false,
            METADATA_DIRECTORY => !files
                .list(&path.join(METADATA_DIRECTORY))?
                .iter()
                .all(|inner| inner.name.starts_with(&SnapshotId::BOOTSTRAP.file_name())),
            name => !is_ours(name),
        };
        if foreign {
            return Ok(DirectoryState::Foreign(entry.name));
        }
    }
    Ok(DirectoryState::New)
}

/// How to format the log directories of one node.
#[derive(Debug, Clone)]
pub struct Format<'a> {
    pub cluster_id: &'a str,
    pub node_id: NodeId,
    /// The log directories and their new ids.
    pub directories: &'a [(&'a Path, Uuid)],
    /// The one of `directories` that holds the metadata log.
    pub metadata_directory: &'a Path,
    /// The voters; none if `controller.quorum.voters` names them.
    pub voters: &'a [Voter],
    /// The records that the first leader will write.
    pub bootstrap: &'a [MetadataRecord],
    /// The `metadata.version` among them.
    pub version: MetadataVersion,
    pub now: Timestamp,
}

/// Formats the log directories; their parents must exist.
pub fn format<F: Files>(files: &F, format: &Format<'_>) -> Result<(), WriteError> {
    for (path, directory_id) in format.directories {
        files.create_directory(path)?;
        let contents = Contents {
            epoch: LeaderEpoch(0),
            last_contained: Timestamp(0),
            now: format.now,
            control: Vec::new(),
            version: format.version,
            records: format.bootstrap,
        };
        checkpoint::write(files, &path.join(BOOTSTRAP_CHECKPOINT), &contents)?;
        if !format.voters.is_empty() && *path == format.metadata_directory {
            format_metadata_log(files, &path.join(METADATA_DIRECTORY), format)?;
        }
        let meta = MetaProperties {
            cluster_id: format.cluster_id.to_owned(),
            node_id: format.node_id,
            directory_id: Some(*directory_id),
        };
        meta.write(files, path)?;
        sync_parent(files, path)?;
    }
    Ok(())
}

fn format_metadata_log<F: Files>(
    files: &F,
    directory: &Path,
    format: &Format<'_>,
) -> Result<(), WriteError> {
    files.create_directory(directory)?;
    let control = QuorumControl {
        kraft_version: DYNAMIC_VOTERS,
        voters: format.voters.to_vec(),
        voters_in_log: false,
    };
    let contents = Contents {
        epoch: LeaderEpoch(0),
        last_contained: format.now,
        now: format.now,
        control: control.to_records(),
        version: format.version,
        records: &[],
    };
    let path = directory.join(SnapshotId::BOOTSTRAP.file_name());
    checkpoint::write(files, &path, &contents)?;
    sync_parent(files, directory)?;
    Ok(())
}

fn sync_parent<F: Files>(files: &F, path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => files.sync_directory(parent),
        _ => files.sync_directory(Path::new(".")),
    }
}

/// The records in `bootstrap.checkpoint`, which the first leader writes; `None` without the file.
pub fn read_bootstrap<F: Files>(
    files: &F,
    metadata_directory: &Path,
) -> Result<Option<Vec<MetadataRecord>>, CheckpointError> {
    let path = metadata_directory.join(BOOTSTRAP_CHECKPOINT);
    if files.status(&path)?.is_none() {
        return Ok(None);
    }
    checkpoint::records(files, &path).map(Some)
}
