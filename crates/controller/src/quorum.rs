//! The interface between a controller and the quorum that keeps the log of the metadata.
//!
//! What a controller proposes is committed later, or never: the quorum reports both as events. A controller alone
//! commits at once.

use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;

/// Something that has happened in the quorum. All controllers see the same commits, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub enum QuorumEvent {
    /// `records` are committed, and the log ends at `end` after them.
    Committed {
        end: Offset,
        records: Vec<MetadataRecord>,
    },
    /// The log goes on at `end`, after a snapshot whose metadata replaces what was known.
    Restored {
        end: Offset,
        image: Box<MetadataImage>,
    },
    /// This controller leads, and all that earlier leaders committed has been reported: it decides from now on.
    LeadershipGained,
    /// This controller does not lead any more. What it proposed may be committed by others, or never.
    LeadershipLost,
}

/// The log of the metadata, as a controller sees it.
pub trait Quorum {
    /// Why a proposal was not taken, or why the log has ended.
    type Error: std::fmt::Display;
    /// Whether the log has ended. If not, only one proposal was refused.
    fn is_final(_error: &Self::Error) -> bool {
        true
    }
    /// The offset that the next record will have.
    fn next_offset(&self) -> Offset;
    /// Proposes `records` as one batch. Only the leader may.
    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), Self::Error>;
    /// What has happened since the last call.
    fn events(&mut self) -> Result<Vec<QuorumEvent>, Self::Error>;
    /// All events are in `loader`: a snapshot may be taken.
    fn on_applied(&mut self, _loader: &Loader) -> Result<(), Self::Error> {
        Ok(())
    }
    /// The records that this controller writes before it decides anything, now that it leads.
    fn first_records(&mut self, _image: &MetadataImage) -> Vec<MetadataRecord> {
        Vec::new()
    }
}
