//! With acks=0: the connections on which records went out, and whether they have left this process.
//!
//! A connection writes what it was given only while somebody holds it, so each is held until it is asked.

use std::sync::Arc;

use ottla_protocol::messages::{ApiVersionsRequestData, KafkaString};

use crate::Connection;
use crate::notice::{Notice, chain};

#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    connections: Vec<Arc<Connection>>,
}

impl Unconfirmed {
    /// Records went out on this connection. The notice is of those that broke before they were asked.
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

    /// Makes sure that everything has left this process: a call that is answered was behind it.
    pub async fn confirm(&mut self) -> Vec<Notice> {
        let request = ApiVersionsRequestData {
            client_software_name: KafkaString::from_static("ottla"),
            client_software_version: KafkaString::from_static(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequestData::default()
        };
        let mut notices = Vec::new();
        for connection in std::mem::take(&mut self.connections) {
            // Another connection to the same broker would answer too, and say nothing of this one.
            if let Err(error) = connection.call(&request).await {
                let why = chain(&error);
                notices.push(Notice::Unconfirmed { why });
            }
        }
        notices
    }
}
