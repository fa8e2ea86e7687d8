//! The metadata log of a controller, whose events the world sees as well.

use ottla_controller::{Quorum, QuorumEvent};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_quorum::{ControllerLog, ControllerLogError};

#[derive(Debug)]
pub struct WatchedLog {
    pub log: ControllerLog<Simulated>,
    /// What the world has not looked at yet.
    pub seen: Vec<QuorumEvent>,
}

impl Quorum for WatchedLog {
    type Error = ControllerLogError;

    fn is_final(error: &ControllerLogError) -> bool {
        ControllerLog::<Simulated>::is_final(error)
    }

    fn next_offset(&self) -> Offset {
        self.log.next_offset()
    }

    fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
    ) -> Result<(), ControllerLogError> {
        self.log.propose(records, version)
    }

    fn events(&mut self) -> Result<Vec<QuorumEvent>, ControllerLogError> {
        let events = self.log.events()?;
        self.seen.extend(events.iter().cloned());
        Ok(events)
    }

    fn on_applied(&mut self, loader: &Loader) -> Result<(), ControllerLogError> {
        self.log.on_applied(loader)
    }

    fn first_records(&mut self, image: &MetadataImage) -> Vec<MetadataRecord> {
        self.log.first_records(image)
    }
}
