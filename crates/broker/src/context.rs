//! The envelope of a request: who sent it, over which connection, in which version.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::{ApiKey, KafkaString};
use ottla_protocol::time::MonotonicTime;

use crate::access::principal::Principal;

/// A client connection, as far as handlers need it. Of a forwarded request it is the connection of the broker that forwards,
/// with the client's address and principal.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// The name of the listener that accepted it (`PLAINTEXT`, …).
    pub listener: Arc<str>,
    pub role: ListenerRole,
    /// The local address of the connection, to which the client has connected.
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub principal: Principal,
    /// Set by the client's first `ApiVersions` request of version 3 or later.
    pub software: OnceLock<ClientSoftware>,
    /// The broker whose heartbeats arrive here.
    pub beats_of: OnceLock<NodeId>,
}

/// Whom a listener serves; each role has a table of APIs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerRole {
    /// Clients, and other brokers.
    Broker,
    /// Brokers that follow the metadata, and admin tools with `--bootstrap-controller`
    /// (`controller.listener.names`).
    Controller,
}

/// The name and version of a client library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    /// `apache-kafka-java`, `librdkafka`, …
    pub name: String,
    pub version: String,
}

/// One request's envelope.
#[derive(Debug, Clone)]
pub struct RequestContext {
    pub connection: Arc<Connection>,
    pub api: ApiKey,
    /// The version of the body; one of those that `ApiVersions` announces.
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<KafkaString>,
    /// When its last byte had arrived.
    pub received: MonotonicTime,
    /// Bytes of the frame, with its length field.
    pub size: usize,
}

impl RequestContext {
    /// The client id as text, empty when there is none.
    pub fn client_id(&self) -> &str {
        self.client_id.as_ref().map_or("", KafkaString::as_str)
    }

    /// The principal of the client: anonymous, as there is no authentication yet, unless a broker has forwarded the request.
    pub fn principal(&self) -> &Principal {
        &self.connection.principal
    }
}
