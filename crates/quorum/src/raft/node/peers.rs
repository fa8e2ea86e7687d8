//! The other controllers by their Raft ids: the voters, and those that follow the log without a vote.
//!
//! A Raft id is derived from the node id and the directory id. A controller whose disk was replaced is another voter: it
//! cannot vote away what the old disk had promised.

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};
use ottla_protocol::ids::{NodeId, Uuid};

use crate::raft::message;
use crate::voter::Voter;

/// The Raft id of a voter.
pub(in crate::raft) fn raft_id(voter: &Voter) -> u64 {
    raft_id_of(voter.node_id, voter.directory_id)
}

/// The Raft id of a node with a directory: its node id in the upper 31 bits, a one, and the CRC-32C of its directory id.
/// It is never 0.
pub(super) fn raft_id_of(node: NodeId, directory: Uuid) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(directory.to_string().as_bytes());
    (u64::from(node.0.unsigned_abs()) << 33) | (1 << 32) | digest.finalize()
}

/// The node of a Raft id.
pub(super) fn node_of(id: u64) -> NodeId {
    NodeId(i32::try_from(id >> 33).unwrap_or(i32::MAX))
}

/// Whether a message between controllers names this one as its sender.
pub fn is_sent_by(controller: &Voter, message: &[u8]) -> bool {
    message::sender(message) == Some(raft_id(controller))
}

/// Upper bound of the observers that are remembered.
const MAX_OBSERVERS: usize = 48;

/// The controllers of the quorum.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers {
    /// The voters in their order.
    named: Vec<Voter>,
    voters: BTreeMap<u64, Voter>,
    /// Controllers that have said who they are, and are no voters as far as this node knows.
    observers: BTreeMap<u64, Voter>,
    /// The controller that has last said that it is this node.
    heard_last: BTreeMap<NodeId, u64>,
    /// Voters that are reached elsewhere than the log says, by their own word.
    moved: BTreeMap<u64, Voter>,
}

impl Peers {
    pub(super) fn of(voters: &[Voter]) -> Self {
        Self {
            named: voters.to_vec(),
            voters: by_id(voters),
            ..Self::default()
        }
    }

    /// Takes over other voters. One that leaves goes on as an observer.
    pub(super) fn set_voters(&mut self, voters: &[Voter]) {
        if self.named == voters {
            return;
        }
        self.named = voters.to_vec();
        let before = std::mem::replace(&mut self.voters, by_id(voters));
        self.observers.extend(before);
        let voters = &self.voters;
        self.observers.retain(|id, _| !voters.contains_key(id));
        self.moved
            .retain(|id, moved| voters.get(id).is_some_and(|known| known != moved));
    }

    /// A controller has said who it is, and where it is reached.
    pub(super) fn heard_of(&mut self, controller: Voter) {
        let id = raft_id(&controller);
        let node = controller.node_id;
        match self.voters.get(&id) {
            Some(known) if *known == controller => drop(self.moved.remove(&id)),
            Some(_) => drop(self.moved.insert(id, controller)),
            None if self.observers.len() < MAX_OBSERVERS || self.observers.contains_key(&id) => {
                self.observers.insert(id, controller);
            }
            None => return,
        }
        self.heard_last.insert(node, id);
    }

    /// Whether an observer is the disk that a node had before: it never comes back.
    pub(super) fn is_replaced(&self, id: u64) -> bool {
        let observer = self.observers.get(&id);
        let last = observer.and_then(|known| self.heard_last.get(&known.node_id));
        last.is_some_and(|last| *last != id)
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.observers.remove(&id);
    }

    /// A voter or an observer, where it is reached.
    pub(super) fn known(&self, id: u64) -> Option<&Voter> {
        let moved = self.moved.get(&id);
        moved.or_else(|| self.voters.get(&id).or_else(|| self.observers.get(&id)))
    }

    pub(super) fn voter(&self, id: u64) -> Option<&Voter> {
        self.voters.get(&id)
    }

    pub(super) fn node_id(&self, id: u64) -> Option<NodeId> {
        self.known(id).map(|known| known.node_id)
    }

    pub(super) fn voters(&self) -> Vec<Voter> {
        self.named.clone()
    }

    pub(super) fn observers(&self) -> &BTreeMap<u64, Voter> {
        &self.observers
    }

    /// A voter that is reached elsewhere than the log says.
    pub(super) fn moved(&self) -> Option<&Voter> {
        self.moved.values().next()
    }

    /// All of them, where they are reached.
    pub(super) fn all(&self) -> Vec<Voter> {
        let ids = self.voters.keys().chain(self.observers.keys());
        ids.filter_map(|id| self.known(*id)).cloned().collect()
    }

    /// The Raft ids of the voters.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.voters.keys().copied().collect()
    }
}

fn by_id(voters: &[Voter]) -> BTreeMap<u64, Voter> {
    let by_id = voters.iter().map(|voter| (raft_id(voter), voter.clone()));
    by_id.collect()
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
