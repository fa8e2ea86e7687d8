//! What the directories of a node that has run before say of it, without a configuration.

use std::path::Path;

use ottla_log::files::disk::Disk;
use ottla_protocol::ids::NodeId;
use ottla_quorum::{Location, METADATA_DIRECTORY, MetaProperties, RaftNode, Voter, has_raft_log};

use super::refusals::DirectoryError;

/// A node that has run before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub node: NodeId,
    /// The voters, if the metadata log names this node among them.
    pub voters: Option<Vec<Voter>>,
}

/// The node to which a log directory belongs; none if it is new. `metadata` is the directory that would have its metadata
/// log. Writes nothing.
pub fn known(directory: &Path, metadata: &Path) -> Result<Option<Known>, DirectoryError> {
    let Some(properties) = MetaProperties::read(&Disk, directory)? else {
        return Ok(None);
    };
    let node = properties.node_id;
    let log = metadata.join(METADATA_DIRECTORY);
    let of_metadata = MetaProperties::read(&Disk, metadata)?;
    let directory_id = of_metadata.and_then(|found| found.directory_id);
    let Some(directory_id) = directory_id.filter(|_| has_raft_log(&Disk, &log).unwrap_or(false))
    else {
        return Ok(Some(Known { node, voters: None }));
    };
    let own = Voter {
        node_id: node,
        directory_id,
        endpoints: Vec::new(),
    };
    let location = Location {
        directory: &log,
        cluster_id: &properties.cluster_id,
    };
    let inspected = RaftNode::inspect(Disk, location, own.clone())?;
    let voters = inspected.voters().unwrap_or_default();
    let is_voter = voters.iter().any(|voter| voter.is_same_voter(&own));
    Ok(Some(Known {
        node,
        voters: is_voter.then(|| voters.to_vec()),
    }))
}
