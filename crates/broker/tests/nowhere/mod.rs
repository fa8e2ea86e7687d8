//! A quorum of tests that change no metadata.

use std::sync::Arc;
use std::time::Duration;

use ottla_broker::cluster::sessions::{self, Sessions};
use ottla_broker::process::clock::Clock;
use ottla_controller::{Quorum, QuorumEvent};
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;

/// Nothing that is proposed is committed.
pub struct Nowhere;

impl Quorum for Nowhere {
    type Error = std::convert::Infallible;

    fn next_offset(&self) -> Offset {
        Offset(0)
    }

    fn propose(&mut self, _: &[MetadataRecord], _: MetadataVersion) -> Result<(), Self::Error> {
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, Self::Error> {
        Ok(Vec::new())
    }
}

/// Sessions that nobody extends or ends.
pub fn no_sessions() -> Arc<Sessions> {
    let settings = sessions::Settings {
        own: NodeId(1),
        timeout: Duration::MAX,
        fences_unreachable: false,
    };
    Arc::new(Sessions::new(settings, Clock::start()))
}
