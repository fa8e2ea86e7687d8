//! What tests of handlers share: the context of a request that a client sent.

use std::sync::{Arc, OnceLock};

use ottla_broker::access::principal::Principal;
use ottla_broker::context::{Connection, ListenerRole, RequestContext};
use ottla_protocol::api_key;
use ottla_protocol::messages::ApiKey;
use ottla_protocol::time::MonotonicTime;

/// The context of a request of this kind in its newest version.
pub fn context(api: ApiKey) -> RequestContext {
    let local = "127.0.0.1:9092".parse().unwrap();
    let connection = Connection {
        id: 1,
        listener: Arc::from("PLAINTEXT"),
        role: ListenerRole::Broker,
        local,
        peer: local,
        principal: Principal::anonymous(),
        software: OnceLock::new(),
        beats_of: OnceLock::new(),
    };
    RequestContext {
        connection: Arc::new(connection),
        api,
        version: *api_key::versions(api).end(),
        correlation_id: 1,
        client_id: None,
        received: MonotonicTime::default(),
        size: 0,
    }
}
