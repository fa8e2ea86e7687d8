//! Logs clients that ask for transactions, which are not served.
//!
//! A refused client may try again for ever, so each client id and software is logged once. The number of clients in memory
//! is bounded; further ones are not logged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ottla_protocol::messages::ErrorCode;

use crate::context::RequestContext;

/// The error that answers a transactional id.
///
/// All clients fail at once on it. librdkafka retries all other errors except `TRANSACTIONAL_ID_AUTHORIZATION_FAILED`, for
/// which Java clients do not show our message.
pub const CODE: ErrorCode = ErrorCode::ClusterAuthorizationFailed;
/// The error message, for clients that show it.
pub const MESSAGE: &str = "transactions are not served by this release; unset transactional.id, or in Kafka Streams \
                           processing.guarantee=exactly_once_v2";
/// Upper bound of the clients in memory.
const CLIENTS: usize = 100;

/// The clients that were logged.
#[derive(Debug, Default)]
pub struct RefusedTransactions {
    logged: Mutex<BTreeSet<String>>,
}

impl RefusedTransactions {
    /// Logs that a client was refused, unless it was logged before.
    pub fn log(&self, context: &RequestContext, transactional_id: &str) {
        let software = context.connection.software.get();
        let (name, version) = software.map_or(("unknown", "unknown"), |software| {
            (software.name.as_str(), software.version.as_str())
        });
        let client_id = context.client_id();
        if self.is_first(format!("{client_id}\n{name}\n{version}")) {
            tracing::warn!(
                client_id,
                software = name,
                software_version = version,
                transactional_id,
                "a client asks for transactions, which this release does not serve; it is refused"
            );
        }
    }

    fn is_first(&self, client: String) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < CLIENTS && logged.insert(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_logged_once_and_so_many_are_remembered() {
        let refused = RefusedTransactions::default();
        assert!(refused.is_first("a".to_owned()));
        assert!(!refused.is_first("a".to_owned()));
        assert!(refused.is_first("b".to_owned()));
        let more = (0..2 * CLIENTS).filter(|number| refused.is_first(number.to_string()));
        assert_eq!(more.count(), CLIENTS - 2);
    }
}
