//! Where the leader of the metadata quorum is: from the bootstrap servers, and from what their answers say of it.
//!
//! Epochs never go back, and one epoch has one leader; a server that says otherwise is not believed.

use std::collections::BTreeMap;

use ottla_protocol::address;
use ottla_protocol::ids::{LeaderEpoch, NodeId};

/// The search for the leader, and what it has found.
#[derive(Debug)]
pub struct LeaderSearch {
    /// `host:port` of controllers, asked in turn while no leader is known.
    bootstrap: Vec<String>,
    turn: usize,
    epoch: LeaderEpoch,
    leader: Option<NodeId>,
    /// The addresses of controllers, as answers have told them.
    addresses: BTreeMap<NodeId, String>,
}

/// The epoch in the answer is older than one that is known, or the same epoch has two leaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "leader {leader} of epoch {epoch} contradicts what is known: {known:?} of epoch {known_epoch}"
)]
pub struct Contradiction {
    leader: NodeId,
    epoch: LeaderEpoch,
    known: Option<NodeId>,
    known_epoch: LeaderEpoch,
}

impl LeaderSearch {
    /// A search that begins at these servers, of which there must be one.
    pub fn new(bootstrap: Vec<String>) -> Self {
        assert!(!bootstrap.is_empty(), "some controller is known");
        Self {
            bootstrap,
            turn: 0,
            epoch: LeaderEpoch(0),
            leader: None,
            addresses: BTreeMap::new(),
        }
    }

    /// Whom to ask next.
    pub fn address(&self) -> &str {
        let server = || self.bootstrap.get(self.turn % self.bootstrap.len());
        self.leader_address()
            .or_else(|| server().map(String::as_str))
            .expect("some controller is known")
    }

    /// Where the leader is reached, if an answer has told.
    pub fn leader_address(&self) -> Option<&str> {
        let address = self.addresses.get(&self.leader?)?;
        Some(address)
    }

    /// The highest epoch that is known.
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// An answer names the leader of an epoch; a negative id means that none is known. A server that refused and names no
    /// other leader is not asked again at once.
    pub fn on_answer(
        &mut self,
        leader: NodeId,
        epoch: LeaderEpoch,
        is_refused: bool,
    ) -> Result<(), Contradiction> {
        let before = (self.epoch, self.leader);
        self.on_leader(leader, epoch)?;
        if is_refused && before == (self.epoch, self.leader) {
            self.on_failure();
        }
        Ok(())
    }

    fn on_leader(&mut self, leader: NodeId, epoch: LeaderEpoch) -> Result<(), Contradiction> {
        let named = (leader.0 >= 0).then_some(leader);
        let contradicts = epoch < self.epoch
            || (epoch == self.epoch
                && named.is_some()
                && self.leader.is_some()
                && named != self.leader);
        if contradicts {
            return Err(Contradiction {
                leader,
                epoch,
                known: self.leader,
                known_epoch: self.epoch,
            });
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.leader = None;
        }
        self.leader = named.or(self.leader);
        Ok(())
    }

    /// An answer tells where a controller is reached.
    pub fn on_endpoint(&mut self, node: NodeId, host: &str, port: i32) {
        self.addresses.insert(node, address::dialled(host, port));
    }

    /// The asked controller does not answer, or does not lead: the next server is asked.
    pub fn on_failure(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.addresses.remove(&leader);
        }
        self.turn = self.turn.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::LeaderSearch;
    use ottla_protocol::ids::{LeaderEpoch, NodeId};

    fn search() -> LeaderSearch {
        LeaderSearch::new(vec!["a:1".to_owned(), "b:2".to_owned()])
    }

    #[test]
    fn bootstrap_servers_are_asked_in_turn_until_one_names_the_leader() {
        let mut search = search();
        assert_eq!(search.address(), "a:1");
        search.on_failure();
        assert_eq!(search.address(), "b:2");
        search.on_leader(NodeId(-1), LeaderEpoch(4)).unwrap();
        assert_eq!((search.epoch(), search.leader()), (LeaderEpoch(4), None));
        search.on_leader(NodeId(7), LeaderEpoch(4)).unwrap();
        assert_eq!(search.address(), "b:2", "nobody has told where it is");
        search.on_endpoint(NodeId(7), "::1", 93);
        assert_eq!(search.address(), "[::1]:93");
        search.on_failure();
        assert_eq!(search.address(), "a:1");
        assert_eq!(search.epoch(), LeaderEpoch(4), "epochs do not go back");
    }

    #[test]
    fn a_server_that_refuses_and_names_no_other_leader_is_not_asked_again_at_once() {
        let mut search = search();
        let (none, epoch) = (NodeId(-1), LeaderEpoch(4));
        search.on_answer(none, epoch, true).unwrap();
        assert_eq!(search.address(), "a:1", "the epoch is news");
        search.on_answer(none, epoch, true).unwrap();
        assert_eq!(search.address(), "b:2");
        search.on_endpoint(NodeId(7), "c", 3);
        search.on_answer(NodeId(7), epoch, true).unwrap();
        assert_eq!(search.address(), "c:3", "the leader is news");
        search.on_answer(NodeId(7), epoch, false).unwrap();
        assert_eq!(search.address(), "c:3", "it was not refused");
        search.on_answer(NodeId(8), epoch, true).unwrap_err();
        assert_eq!(search.address(), "c:3", "it is not believed");
        search.on_answer(NodeId(7), epoch, true).unwrap();
        assert_eq!(search.address(), "a:1");
    }

    #[test]
    fn an_older_epoch_or_a_second_leader_is_not_believed() {
        let mut search = search();
        search.on_leader(NodeId(7), LeaderEpoch(4)).unwrap();
        assert!(search.on_leader(NodeId(8), LeaderEpoch(4)).is_err());
        assert!(search.on_leader(NodeId(7), LeaderEpoch(3)).is_err());
        assert_eq!(search.leader(), Some(NodeId(7)));
        search.on_leader(NodeId(8), LeaderEpoch(5)).unwrap();
        assert_eq!(search.leader(), Some(NodeId(8)));
        search.on_leader(NodeId(-1), LeaderEpoch(5)).unwrap();
        assert_eq!(search.leader(), Some(NodeId(8)), "it is known already");
    }
}
