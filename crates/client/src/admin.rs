//! Admin calls. Each returns an error for the first item that the broker refuses.

mod cluster;
mod configs;
mod groups;
mod log_dirs;
mod offsets;
mod reassignments;
mod records;
mod topics;

use crate::error::ErrorCode;
use crate::{ClientError, Cluster};

pub use cluster::{Broker, ControllerEndpoint, Feature, Quorum, QuorumReplica};
pub use configs::{ConfigChange, Documentation, Resource};
pub use groups::{Group, ListedGroup, Member};
pub use log_dirs::LogDir;
pub use reassignments::{Move, Reassignment};
pub use topics::{CreatedTopic, NewTopic};

impl Cluster {
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Whether a request is carried out or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// The request is checked and carried out.
    AndExecution,
    /// The request is only checked.
    Only,
}

fn no_answer(what: String) -> ClientError {
    ClientError::Refused {
        what,
        code: ErrorCode::UnknownServerError,
        message: Some("the broker left it out of its answer".to_owned()),
    }
}
