//! Opens the metadata log of this node: its directories are locked, formatted when they are new, and read; then this
//! node leads the log.
//!
//! A refused start leaves every directory as it was: almost everything that can refuse it is checked before anything is
//! written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::Uuid;
use ottla_protocol::time::Timestamp;
use ottla_quorum::{
    Inspected, Location, METADATA_DIRECTORY, MetadataLog, OpenError, RaftNode, Settings, activate,
    has_raft_log,
};

use super::directories::{
    Identified, Taken, Usable, check_complete, cluster, identified, prepare, usable,
};
use super::first_records::{FirstRecords, mend_late_beginning};
use super::lock::DirectoryLock;
use super::quorum;
use super::refusals::DirectoryError;
use super::voter::voter;
use crate::cluster::quorum_inbox::QuorumInbox;
use crate::config::BrokerConfig;
use crate::drivers::committed_log::CommittedLog;
use crate::drivers::metadata_quorum::MetadataQuorum;
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
    pub(super) log: MetadataQuorum,
    /// Where the messages of other controllers arrive, if there are others.
    pub(super) inbox: Option<Arc<QuorumInbox>>,
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
    let (image, log, inbox) = begin(config, (&cluster_id, &directories), found, clock)?;
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
        image,
        log,
        inbox,
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
pub(super) struct FoundLog {
    pub(super) inspected: Inspected<Disk>,
    pub(super) first: Option<FirstRecords>,
    /// Whether other controllers vote too.
    is_of_several: bool,
}

/// Checks the directories, and refuses those that cannot be served. All that it creates is in `taken`.
fn accept(config: &BrokerConfig, taken: &mut Taken) -> Result<Accepted, DirectoryError> {
    let usable = usable(&config.storage, taken)?;
    let cluster = cluster(config, &usable.states)?;
    let is_new = cluster.is_none();
    let cluster_id = match (cluster, &config.quorum.cluster_id) {
        (None, _) => quorum::new_cluster_id(config, unreserved_id())?,
        (Some(found), Some(set)) if found != *set => {
            let set = set.clone();
            return Err(DirectoryError::OtherClusterId { set, found });
        }
        (Some(found), _) => found,
    };
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
    let is_of_several = config.quorum.voters.len() > 1 || has_raft_log(&Disk, location.directory)?;
    let several = || RaftNode::inspect(Disk, location, quorum::member(config, id));
    let (inspected, is_of_several) = if is_of_several {
        (several()?, true)
    } else {
        match MetadataLog::inspect(Disk, location, voter(config, id)) {
            Err(refused @ OpenError::OtherVoters { .. }) => {
                let several = several().ok();
                let has_several =
                    |found: &Inspected<Disk>| found.voters().is_some_and(|voters| voters.len() > 1);
                match several.filter(has_several) {
                    Some(inspected) => (inspected, true),
                    None => return Err(refused.into()),
                }
            }
            inspected => (inspected?, false),
        }
    };
    let first = FirstRecords::of(config, &inspected)?;
    Ok(FoundLog {
        inspected,
        first,
        is_of_several,
    })
}

/// The committed metadata, the log from which the controller goes on, and the inbox of a controller that has others.
type Begun = (MetadataImage, MetadataQuorum, Option<Arc<QuorumInbox>>);

/// Begins to lead the log, or to take part in it.
fn begin(
    config: &BrokerConfig,
    (cluster_id, directories): (&str, &[Identified]),
    found: FoundLog,
    clock: Clock,
) -> Result<Begun, DirectoryError> {
    if !found.is_of_several {
        let (log, loader) = lead(config, found, clock.now().wall)?;
        let log = CommittedLog::new(log, clock, config.metadata.snapshot_interval);
        let image = loader.image().clone();
        return Ok((image, MetadataQuorum::One(Box::new(log)), None));
    }
    let directory = &config.storage.metadata_log_dir;
    let id = id_of(directories, directory).expect("the metadata log has a directory");
    let location = Location {
        directory: &directory.join(METADATA_DIRECTORY),
        cluster_id,
    };
    let opened = quorum::open(config, location, id, found, clock)?;
    let log = MetadataQuorum::Several(Box::new(opened.quorum));
    Ok((opened.image, log, Some(opened.inbox)))
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
