//! The connections on which records were sent with acks=0, until it is known that the records have left this process.
//!
//! A connection that is dropped does not write its queue, so each is kept here until a later call on it is answered.

use std::sync::Arc;

use crate::Connection;
use crate::notice::{Notice, chain};
use crate::request::api_versions;

#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    connections: Vec<Arc<Connection>>,
}

impl Unconfirmed {
    /// Adds a connection on which records were sent. Returns a notice if one of the others has broken.
    pub fn add(&mut self, connection: Arc<Connection>) -> Option<Notice> {
        let is_known = |known: &Arc<Connection>| Arc::ptr_eq(known, &connection);
        if self.connections.iter().any(is_known) {
            return None;
        }
        let broken = self
            .connections
            .extract_if(.., |known| known.is_broken())
            .last();
        self.connections.push(connection);
        let why = |broken: Arc<Connection>| format!("{} closed the connection", broken.address());
        broken.map(|broken| Notice::Unconfirmed { why: why(broken) })
    }

    /// Makes sure that all records have left this process: on each connection it waits for the answer to a later call.
    pub async fn confirm(&mut self) -> Vec<Notice> {
        let request = api_versions();
        let mut notices = Vec::new();
        for connection in std::mem::take(&mut self.connections) {
            // Only an answer on this connection proves that its records were written.
            if let Err(error) = connection.call(&request).await {
                let why = chain(&error);
                notices.push(Notice::Unconfirmed { why });
            }
        }
        notices
    }
}
