//! Opens the metadata log of this node: its directories are locked, formatted when they are new, and read; then this
//! node leads the log.
//!
//! A refused start leaves every directory as it was: almost everything that can refuse it is checked before anything is
//! written.

use std::path::{Path, PathBuf};

use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{Inspected, Location, METADATA_DIRECTORY, MetadataLog, Settings, activate};

use super::directories::{
    Identified, Taken, Usable, check_complete, cluster, identified, prepare, usable,
};
use super::first_records::{FirstRecords, mend_late_beginning};
use super::lock::DirectoryLock;
use super::refusals::DirectoryError;
use super::voter::voter;
use crate::config::BrokerConfig;
use crate::drivers::committed_log::CommittedLog;
use crate::process::clock::Clock;
use crate::process::random::unreserved_id;

/// The opened metadata log and its content.
#[derive(Debug)]
pub(super) struct OpenedLog {
    /// `cluster.id`.
    pub(super) cluster_id: String,
    /// The ids of those of `log.dirs` that can be used, in their order.
    pub(super) directories: Vec<Uuid>,
    /// Those of `log.dirs` that cannot be used.
    pub(super) offline: Vec<PathBuf>,
    /// Whether the directories were new.
    pub(super) is_new: bool,
    /// The metadata that was committed.
    pub(super) image: MetadataImage,
    /// What the controller commits into.
    pub(super) log: CommittedLog,
    /// Held as long as the directories are used.
    pub(super) locks: Vec<DirectoryLock>,
}

/// Opens the directories and the metadata log of this node. Blocks on the disk.
pub(super) fn open(config: &BrokerConfig, clock: Clock) -> Result<OpenedLog, DirectoryError> {
    let now = clock.now().wall;
    let mut taken = Taken::default();
    let accepted = match accept(config, &mut taken) {
        Ok(accepted) => accepted,
        Err(refused) => {
            taken.undo();
            return Err(refused);
        }
    };
    let Accepted {
        usable,
        cluster_id,
        directories,
        found,
    } = accepted;
    let is_new = found.is_none();
    if !is_new {
        let added = usable.states.iter().filter(|(_, meta)| meta.is_none());
        for (directory, _) in added {
            tracing::warn!(directory = %directory.display(), cluster_id, "formatting a log directory that was added");
        }
    }
    prepare(config, &cluster_id, (&usable.states, &directories), now)?;
    let found = match found {
        Some(found) => found,
        None => find_log(config, &cluster_id, &directories)?,
    };
    let (log, loader) = lead(config, found, now)?;
    let log = CommittedLog::new(log, clock, config.metadata.snapshot_interval);
    Ok(OpenedLog {
        cluster_id,
        directories: config
            .storage
            .log_dirs
            .iter()
            .filter_map(|path| id_of(&directories, path))
            .collect(),
        offline: usable.offline,
        is_new,
        image: loader.image().clone(),
        log,
        locks: taken.keep(),
    })
}

/// Directories on which this node may start.
struct Accepted {
    usable: Usable,
    cluster_id: String,
    /// Their ids, in the order of `usable`.
    directories: Vec<Identified>,
    /// The metadata log; none where all directories are new.
    found: Option<FoundLog>,
}

/// An inspected metadata log, and the records that its first leader must write.
struct FoundLog {
    inspected: Inspected<Disk>,
    first: Option<FirstRecords>,
}

/// Checks the directories, and refuses those that cannot be served. All that it creates is in `taken`.
fn accept(config: &BrokerConfig, taken: &mut Taken) -> Result<Accepted, DirectoryError> {
    let usable = usable(&config.storage, taken)?;
    let cluster = cluster(config, &usable.states)?;
    let is_new = cluster.is_none();
    let cluster_id = cluster.unwrap_or_else(|| unreserved_id().to_string());
    let directories = identified(&usable.states);
    let found = if is_new {
        None
    } else {
        let found = find_log(config, &cluster_id, &directories)?;
        check_complete(
            config,
            found.inspected.image(),
            (&usable.states, &directories),
        )?;
        Some(found)
    };
    Ok(Accepted {
        usable,
        cluster_id,
        directories,
        found,
    })
}

fn id_of(directories: &[Identified], path: &Path) -> Option<Uuid> {
    let known = directories.iter().find(|(known, _)| known == path);
    known.map(|(_, id)| *id)
}

/// Reads the metadata log, and determines the records that its first leader must write.
fn find_log(
    config: &BrokerConfig,
    cluster_id: &str,
    directories: &[Identified],
) -> Result<FoundLog, DirectoryError> {
    let directory = &config.storage.metadata_log_dir;
    let id = id_of(directories, directory).expect("the metadata log has a directory");
    let location = Location {
        directory: &directory.join(METADATA_DIRECTORY),
        cluster_id,
    };
    let inspected = MetadataLog::inspect(Disk, location, voter(config, id))?;
    let first = FirstRecords::of(config, &inspected)?;
    Ok(FoundLog { inspected, first })
}

/// Makes this node the leader of the metadata log.
fn lead(
    config: &BrokerConfig,
    found: FoundLog,
    now: Timestamp,
) -> Result<(MetadataLog<Disk>, Loader), DirectoryError> {
    let settings = Settings {
        snapshot_bytes: config.metadata.snapshot_bytes,
        ..Settings::default()
    };
    let begins_without_version = found.inspected.begins_without_version();
    let opened = found.inspected.lead(settings, now)?;
    if opened.cut_bytes > 0 {
        tracing::info!(
            bytes = opened.cut_bytes,
            "truncated an unfinished write at the end of the metadata log"
        );
    }
    let (mut log, mut loader) = (opened.log, opened.loader);
    let first = found.first.map(FirstRecords::into_batch);
    activate(&mut log, &mut loader, first, now)?;
    if begins_without_version {
        mend_late_beginning(&mut log, &loader, now)?;
    }
    Ok((log, loader))
}

#[cfg(test)]
mod tests;
