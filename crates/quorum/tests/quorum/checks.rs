//! What must hold in a quorum, whatever happens to its machines and its network.

use std::collections::BTreeMap;

use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;

/// One committed payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    pub epoch: LeaderEpoch,
    pub end: Offset,
    pub records: Vec<MetadataRecord>,
}

/// A proposal as its leader's driver sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub decided: LeaderEpoch,
    /// The machine and its life.
    pub by: (usize, u64),
    /// Where the log ends after it, if it was taken.
    pub end: Option<Offset>,
    pub is_acknowledged: bool,
}

/// All that was ever seen, by any machine in any life.
#[derive(Debug, Default)]
pub struct Checks {
    pub leaders: BTreeMap<LeaderEpoch, NodeId>,
    pub committed: BTreeMap<Offset, Commit>,
    /// The end of what any machine has committed.
    pub high_watermark: Offset,
    pub proposals: BTreeMap<String, Proposal>,
}

impl Checks {
    /// Single leader: an epoch has one leader, whoever is asked.
    pub fn on_leader(&mut self, epoch: LeaderEpoch, leader: NodeId) {
        let known = *self.leaders.entry(epoch).or_insert(leader);
        assert_eq!(known, leader, "two leaders in epoch {epoch}");
    }

    /// All machines commit the same records at the same offsets, in epochs that do not fall.
    pub fn on_committed(&mut self, base: Offset, commit: &Commit) {
        if let Some(known) = self.committed.get(&base) {
            assert_eq!(known, commit, "two machines disagree at offset {base}");
            return;
        }
        assert_eq!(
            base, self.high_watermark,
            "a hole, or another cut of the log"
        );
        let before = self.committed.last_key_value();
        assert!(
            before.is_none_or(|(_, before)| before.epoch <= commit.epoch),
            "the epoch falls at offset {base}"
        );
        for name in names(&commit.records) {
            let proposal = self.proposals.get(&name).expect("somebody proposed it");
            assert_eq!(
                proposal.decided, commit.epoch,
                "{name} was decided in another epoch than it is committed in"
            );
        }
        self.high_watermark = commit.end;
        self.committed.insert(base, commit.clone());
    }

    /// A machine has committed up to `end` in the epoch and life in which it proposed: those proposals are answered.
    pub fn acknowledge(&mut self, by: (usize, u64), epoch: LeaderEpoch, end: Offset) {
        let answered = self.proposals.values_mut().filter(|proposal| {
            proposal.by == by
                && proposal.decided == epoch
                && proposal.end.is_some_and(|own| own <= end)
        });
        for proposal in answered {
            proposal.is_acknowledged = true;
        }
    }

    /// A proposal that was acknowledged is committed, once, where it was said to be.
    pub fn assert_acknowledged(&self) {
        let mut found: BTreeMap<String, Offset> = BTreeMap::new();
        for commit in self.committed.values() {
            for name in names(&commit.records) {
                let twice = found.insert(name.clone(), commit.end);
                assert_eq!(twice, None, "{name} is committed twice");
            }
        }
        for (name, proposal) in &self.proposals {
            if proposal.is_acknowledged {
                assert_eq!(
                    found.get(name).copied(),
                    proposal.end,
                    "{name} was acknowledged"
                );
            }
        }
    }
}

fn names(records: &[MetadataRecord]) -> Vec<String> {
    records
        .iter()
        .filter_map(|record| match record {
            MetadataRecord::Topic(topic) => Some(topic.name.clone()),
            _ => None,
        })
        .collect()
}
