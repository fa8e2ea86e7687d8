//! The voters by their Raft ids.
//!
//! A Raft id is derived from the node id and the directory id. A controller whose disk was replaced is another voter: it
//! cannot vote away what the old disk had promised.

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};
use ottla_protocol::ids::NodeId;

use crate::voter::Voter;

/// The Raft id of a voter: its node id in the upper 31 bits, a one, and the CRC-32C of its directory id. It is never 0.
pub(in crate::raft) fn raft_id(voter: &Voter) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(voter.directory_id.to_string().as_bytes());
    let node = u64::from(voter.node_id.0.unsigned_abs());
    (node << 33) | (1 << 32) | digest.finalize()
}

/// The voters of the quorum.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(BTreeMap<u64, Voter>);

impl Peers {
    pub(super) fn of(voters: &[Voter]) -> Self {
        let by_id = voters.iter().map(|voter| (raft_id(voter), voter.clone()));
        Self(by_id.collect())
    }

    pub(super) fn voter(&self, id: u64) -> Option<&Voter> {
        self.0.get(&id)
    }

    pub(super) fn node_id(&self, id: u64) -> Option<NodeId> {
        self.voter(id).map(|voter| voter.node_id)
    }

    pub(super) fn voters(&self) -> Vec<Voter> {
        self.0.values().cloned().collect()
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::raft_id;
    use crate::voter::Voter;
    use ottla_protocol::ids::{NodeId, Uuid};

    fn voter(node: i32, directory: u64) -> Voter {
        Voter {
            node_id: NodeId(node),
            directory_id: Uuid::from_parts(7, directory),
            endpoints: Vec::new(),
        }
    }

    #[test]
    fn a_replaced_disk_is_another_voter() {
        let ids = [(0, 1), (0, 2), (1, 1), (i32::MAX, 1)]
            .map(|(node, directory)| raft_id(&voter(node, directory)));
        for (at, id) in ids.iter().enumerate() {
            assert!(*id != 0 && *id != u64::MAX);
            assert!(!ids[..at].contains(id));
        }
        assert_eq!(raft_id(&voter(3, 9)), raft_id(&voter(3, 9)));
    }
}
