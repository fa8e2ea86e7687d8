//! The invariants of the controllers, seen from outside. The message of a check has its name.
//!
//! An epoch has one leader, and the epoch that a controller knows does not fall. All controllers commit the same records,
//! cut at the same offsets. A controller that begins to lead has everything that was ever committed. The metadata at an
//! offset is the same in every controller and broker, whether it came from the log, from a snapshot, or from a start.

use std::collections::BTreeMap;
use std::ops::Bound;

use ottla_controller::QuorumEvent;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_quorum::QuorumStatus;

use crate::node::event::ProcessId;

/// What was seen of the controllers so far.
#[derive(Debug, Default)]
pub struct SeenQuorum {
    leaders: BTreeMap<LeaderEpoch, NodeId>,
    /// The newest epoch that each controller knew.
    epochs: BTreeMap<NodeId, LeaderEpoch>,
    /// All that any controller has committed, by its end. `None`: a turn ended with a failure after its controller had
    /// committed, so nobody heard the records; a start found them.
    commits: BTreeMap<Offset, Option<Vec<MetadataRecord>>>,
    /// The metadata after all of it, and after each commit.
    loader: Loader,
    images: BTreeMap<Offset, MetadataImage>,
    /// How far each process has come.
    positions: BTreeMap<u64, Offset>,
    pub checks: u64,
}

/// What an event of a controller means for the world.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    Nothing,
    /// Nobody has committed this before.
    NewCommit,
    /// The controller leads.
    Leads,
}

impl SeenQuorum {
    /// The metadata after all that was committed.
    pub fn image(&self) -> &MetadataImage {
        self.loader.image()
    }

    fn end(&self) -> Offset {
        let last = self.commits.last_key_value();
        last.map_or(Offset(0), |(end, _)| *end)
    }

    /// A controller tells who leads.
    pub fn status(&mut self, node: NodeId, status: &QuorumStatus) {
        let QuorumStatus { leader, epoch, .. } = status;
        let known = self.epochs.entry(node).or_insert(*epoch);
        assert!(
            *epoch >= *known,
            "check: the epoch of a controller does not fall: {epoch} of {node} after {known}"
        );
        *known = *epoch;
        if let Some(leader) = leader {
            let first = *self.leaders.entry(*epoch).or_insert(*leader);
            assert_eq!(
                first, *leader,
                "check: an epoch of the quorum has one leader: {epoch}"
            );
        }
    }

    /// A controller starts with this metadata, which it had committed before.
    pub fn starts(&mut self, process: ProcessId, end: Offset, image: &MetadataImage) -> Meaning {
        self.positions.insert(process.number, end);
        if end <= self.end() {
            self.same(process.node, end, image);
            return Meaning::Nothing;
        }
        self.commits.insert(end, None);
        self.loader = Loader::new(image.clone());
        self.images.insert(end, image.clone());
        Meaning::NewCommit
    }

    /// Something happens in a controller.
    pub fn hears(&mut self, process: ProcessId, event: &QuorumEvent) -> Meaning {
        match event {
            QuorumEvent::Committed { end, records } => {
                let position = self.positions.insert(process.number, *end);
                let position = position.expect("it has started");
                self.committed(process.node, (position, *end), records)
            }
            QuorumEvent::Restored { end, image } => {
                self.positions.insert(process.number, *end);
                assert!(
                    self.images.contains_key(end),
                    "check: a snapshot is of what was committed: {end} in {}",
                    process.node
                );
                self.same(process.node, *end, image);
                Meaning::Nothing
            }
            QuorumEvent::LeadershipGained => {
                assert_eq!(
                    self.positions.get(&process.number),
                    Some(&self.end()),
                    "check: a leader has everything that is committed: {}",
                    process.node
                );
                Meaning::Leads
            }
            QuorumEvent::LeadershipLost => Meaning::Nothing,
        }
    }

    fn committed(
        &mut self,
        node: NodeId,
        (position, end): (Offset, Offset),
        records: &[MetadataRecord],
    ) -> Meaning {
        self.checks += 1;
        if position < self.end() {
            let after = (Bound::Excluded(position), Bound::Unbounded);
            match self.commits.range(after).next() {
                Some((known, None)) => assert!(
                    end <= *known,
                    "check: controllers cut the log at the same offsets: {node} at {end}, not {known}"
                ),
                Some((known, Some(same))) => assert_eq!(
                    (known, same.as_slice()),
                    (&end, records),
                    "check: controllers commit the same: {node} from {position} on"
                ),
                None => unreachable!("it is before the end"),
            }
            return Meaning::Nothing;
        }
        assert_eq!(
            position,
            self.end(),
            "check: controllers commit without a gap: {node}"
        );
        self.commits.insert(end, Some(records.to_vec()));
        self.loader.load(records);
        self.images.insert(end, self.loader.image().clone());
        Meaning::NewCommit
    }

    /// The metadata of a node, if it ends where a commit did.
    pub fn same(&mut self, node: NodeId, end: Offset, image: &MetadataImage) {
        if let Some(known) = self.images.get(&end) {
            self.checks += 1;
            assert!(
                known == image,
                "check: the metadata is the same everywhere: {node} at {end}"
            );
        }
    }
}
