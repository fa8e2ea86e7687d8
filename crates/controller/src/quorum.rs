//! The interface between the active controller and the quorum, and one turn of the two.
//!
//! A quorum of one commits a proposal at once. Raft, which will replace it behind [`Quorum`], reports commits later.

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::active::{Active, Published};
use crate::request::ControllerRequest;

/// The fate of proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumEvent {
    /// All records before this offset are committed.
    Committed(Offset),
    /// Another controller leads.
    LeadershipLost,
}

/// The log of the metadata, as its leader writes it.
pub trait Quorum {
    /// Why a proposal was not taken.
    type Error: std::fmt::Display;
    /// Whether nothing can be proposed any more. If not, only this proposal was refused.
    fn is_final(_error: &Self::Error) -> bool {
        true
    }
    /// The offset that the next record will have.
    fn next_offset(&self) -> Offset;
    /// Proposes `records` as one batch. `image` is the image after them, for a snapshot if one is due. Returns the events
    /// since the last call.
    fn propose(
        &mut self,
        records: &[MetadataRecord],
        image: &MetadataImage,
    ) -> Result<Vec<QuorumEvent>, Self::Error>;
}

/// The outcome of a turn.
#[derive(Debug)]
pub enum Turn<T, E> {
    /// The commits, in order. Callers that are not among them still wait, or get no answer because leadership was lost.
    Committed(Vec<Published<T>>),
    /// Only this proposal was refused. Its callers may ask again.
    Refused { error: E, callers: Vec<T> },
    /// Nothing can be proposed any more.
    Ended(E),
}

impl<T> Active<T> {
    /// Decides requests, as many as fit one proposal, and proposes their records.
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
                    let callers = self.on_refused();
                    return Turn::Refused { error, callers };
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
