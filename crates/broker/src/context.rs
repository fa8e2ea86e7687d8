//! What a handler knows about the request beside its body: who sent it, over which connection, in which version.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ottla_protocol::messages::{ApiKey, KafkaString};
use ottla_protocol::time::MonotonicTime;

/// The principal of a connection that did not authenticate, as Kafka names it.
pub const ANONYMOUS: &str = "User:ANONYMOUS";

/// One client connection, as its requests see it.
#[derive(Debug)]
pub struct Connection {
    /// A number no other connection of this process has.
    pub id: u64,
    /// The name of the listener that accepted it (`PLAINTEXT`, …).
    pub listener: Arc<str>,
    /// The address that the client dialled, as this host sees it.
    pub local: SocketAddr,
    /// The client's address.
    pub peer: SocketAddr,
    /// What the client said it is; set by its first `ApiVersions` request of version 3 or later.
    pub software: OnceLock<ClientSoftware>,
}

/// A client's own name for its library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    /// `apache-kafka-java`, `librdkafka`, …
    pub name: String,
    /// The library's version.
    pub version: String,
}

/// One request's envelope.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The connection it came over.
    pub connection: Arc<Connection>,
    /// Which API it calls.
    pub api: ApiKey,
    /// The version its body is in; one of those that `ApiVersions` announces.
    pub version: i16,
    /// Returned in the answer.
    pub correlation_id: i32,
    /// The client's name for itself, if it gave one.
    pub client_id: Option<KafkaString>,
    /// When its last byte had arrived.
    pub received: MonotonicTime,
    /// Its bytes, with the frame's length.
    pub size: usize,
}

impl RequestContext {
    /// The client id as text, empty when there is none.
    pub fn client_id(&self) -> &str {
        self.client_id.as_ref().map_or("", KafkaString::as_str)
    }

    /// Who is asking; everyone is anonymous until there is authentication.
    pub fn principal(&self) -> &'static str {
        ANONYMOUS
    }
}
