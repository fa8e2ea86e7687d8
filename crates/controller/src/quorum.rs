//! The log of the metadata as the active controller sees it, and one turn of both.
//!
//! Raft replaces what is behind [`Quorum`]: a quorum of one commits what it is asked to, others tell later.

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::active::{Active, Published};
use crate::request::ControllerRequest;

/// What becomes of proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumEvent {
    /// All records before this offset are committed.
    Committed(Offset),
    /// Another controller leads.
    LeadershipLost,
}

/// The log of the metadata, as its leader writes it.
pub trait Quorum {
    /// Why records were not proposed.
    type Error: std::fmt::Display;
    /// Whether nothing can be proposed any more; otherwise these records alone were not.
    fn is_final(_error: &Self::Error) -> bool {
        true
    }
    /// The offset that the next record will have.
    fn next_offset(&self) -> Offset;
    /// Proposes `records` as one batch; `image` is what they lead to, for a snapshot should one be due. Returns what became
    /// of this and earlier proposals since the last call.
    fn propose(
        &mut self,
        records: &[MetadataRecord],
        image: &MetadataImage,
    ) -> Result<Vec<QuorumEvent>, Self::Error>;
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turn<T, E> {
    /// What is committed now, in order. Callers that are named nowhere wait on, or are not to be answered.
    Committed(Vec<Published<T>>),
    /// The proposal alone was not taken: its callers are not answered, and may ask again.
    Refused(E),
    /// Nothing can be proposed any more.
    Ended(E),
}

impl<T> Active<T> {
    /// Decides requests, as many as fit one proposal, and proposes what they lead to.
    pub fn turn<Q: Quorum>(
        &mut self,
        requests: impl IntoIterator<Item = (T, ControllerRequest)>,
        quorum: &mut Q,
    ) -> Turn<T, Q::Error> {
        let next = quorum.next_offset();
        let proposal = self.decide(requests, next);
        let events = if proposal.records.is_empty() {
            vec![QuorumEvent::Committed(next)]
        } else {
            match quorum.propose(&proposal.records, &proposal.image) {
                Ok(events) => events,
                Err(error) if Q::is_final(&error) => return Turn::Ended(error),
                Err(error) => {
                    drop(self.on_refused());
                    return Turn::Refused(error);
                }
            }
        };
        let mut committed = Vec::new();
        for event in events {
            match event {
                QuorumEvent::Committed(offset) => committed.push(self.on_committed(offset)),
                QuorumEvent::LeadershipLost => drop(self.on_leadership_lost()),
            }
        }
        Turn::Committed(committed)
    }
}
