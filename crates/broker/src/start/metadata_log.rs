//! Opens the metadata log of this node: its directories are locked, formatted when they are new, and read; then its
//! controller goes on with the log.
//!
//! A refused start leaves every directory as it was: almost everything that can refuse it is checked before anything is
//! written.

use std::path::{Path, PathBuf};

use ottla_log::files::disk::Disk;
use ottla_protocol::ids::Uuid;
use ottla_quorum::{InspectedNode, Location, METADATA_DIRECTORY, Voter};

use super::directories::{
    Identified, New, Taken, Usable, check_complete, cluster, identified, prepare, usable,
};
use super::first_records::FirstRecords;
use super::joining::Quorum;
use super::lock::DirectoryLock;
use super::quorum::{self, OpenedMember};
use super::refusals::DirectoryError;
use crate::config::BrokerConfig;
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
    /// The metadata log, and the metadata that is applied.
    pub(super) member: OpenedMember,
    /// Held as long as the directories are used.
    pub(super) locks: Vec<DirectoryLock>,
}

/// Opens the directories and the metadata log of this node. Blocks on the disk.
///
/// A controller without a metadata log joins the quorum `joined`, if there is one.
pub(super) fn open(
    config: &BrokerConfig,
    joined: Option<&Quorum>,
    clock: Clock,
) -> Result<OpenedLog, DirectoryError> {
    let now = clock.now().wall;
    let mut taken = Taken::default();
    let accepted = match accept(config, joined, &mut taken) {
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
    let new = New {
        cluster_id: &cluster_id,
        joins: joined.is_some(),
    };
    prepare(config, new, (&usable.states, &directories), now)?;
    let found = match found {
        Some(found) => found,
        None => find_log(config, joined, &cluster_id, &directories)?,
    };
    let directory = &config.storage.metadata_log_dir;
    let id = id_of(&directories, directory).expect("the metadata log has a directory");
    let location = Location {
        directory: &directory.join(METADATA_DIRECTORY),
        cluster_id: &cluster_id,
    };
    let member = quorum::open(config, location, id, found, clock)?;
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
        member,
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
    pub(super) inspected: InspectedNode<Disk>,
    pub(super) first: Option<FirstRecords>,
    /// The voters of a quorum that this controller joins.
    pub(super) others: Vec<Voter>,
}

/// Checks the directories, and refuses those that cannot be served. All that it creates is in `taken`.
fn accept(
    config: &BrokerConfig,
    joined: Option<&Quorum>,
    taken: &mut Taken,
) -> Result<Accepted, DirectoryError> {
    let usable = usable(&config.storage, taken)?;
    let cluster = cluster(config, &usable.states)?;
    let is_new = cluster.is_none();
    let theirs = joined.map(|joined| &joined.cluster_id);
    let cluster_id = match (cluster, theirs.or(config.quorum.cluster_id.as_ref())) {
        (None, _) if theirs.is_some() => theirs.cloned().unwrap_or_default(),
        (None, _) => quorum::new_cluster_id(config, unreserved_id())?,
        (Some(found), Some(set)) if found != *set => {
            let set = set.clone();
            if joined.is_some() {
                return Err(DirectoryError::JoinsOtherCluster { theirs: set, found });
            }
            return Err(DirectoryError::OtherClusterId { set, found });
        }
        (Some(found), _) => found,
    };
    let directories = identified(&usable.states);
    let found = if is_new {
        None
    } else {
        let found = find_log(config, joined, &cluster_id, &directories)?;
        check_complete(config, found.inspected.image(), (&usable, &directories))?;
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
    joined: Option<&Quorum>,
    cluster_id: &str,
    directories: &[Identified],
) -> Result<FoundLog, DirectoryError> {
    let directory = &config.storage.metadata_log_dir;
    let id = id_of(directories, directory).expect("the metadata log has a directory");
    let location = Location {
        directory: &directory.join(METADATA_DIRECTORY),
        cluster_id,
    };
    let others = joined.map_or_else(Vec::new, |joined| joined.voters.clone());
    let inspected = quorum::inspect(config, location, id, &others)?;
    let first = FirstRecords::of(config, &inspected)?;
    Ok(FoundLog {
        inspected,
        first,
        others,
    })
}

#[cfg(test)]
mod tests;
