//! A quorum of tests that change no metadata.

use ottla_controller::{Quorum, QuorumEvent};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;

/// Nothing that is proposed is committed.
pub struct Nowhere;

impl Quorum for Nowhere {
    type Error = std::convert::Infallible;

    fn next_offset(&self) -> Offset {
        Offset(0)
    }

    fn propose(
        &mut self,
        _: &[MetadataRecord],
        _: &MetadataImage,
    ) -> Result<Vec<QuorumEvent>, Self::Error> {
        Ok(Vec::new())
    }
}
