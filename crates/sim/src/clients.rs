//! The clients of a world. Each but [`Pipeline`] has one request in flight at a time, repeats it after a timeout,
//! and compares each answer with what it knows.

mod admin;
mod committer;
mod consumer;
mod pipeline;
mod producer;
mod reader;
mod session;

use ottla_protocol::ids::NodeId;

pub use self::admin::{Admin, NEEDED, NEEDED_IN_CLUSTER};
pub use self::committer::Committer;
pub use self::consumer::Consumer;
pub use self::pipeline::Pipeline;
pub use self::producer::Producer;
pub use self::reader::Reader;
use self::session::Session;
use crate::messages::{ConnectionId, Delivery, Reply, ReplyTo, Request};
use crate::model::Model;
use crate::network::Way;
use crate::outside::Outside;

/// What a client is to others.
pub trait Client: std::fmt::Debug {
    fn session(&mut self) -> &mut Session;
    /// Does what is next: nothing is under way.
    fn act(&mut self, model: &mut Model, outside: &mut Outside);
    /// Its request was answered.
    fn on_reply(&mut self, reply: Reply, model: &mut Model, outside: &mut Outside);
    /// The request to which it gave this tag was answered.
    fn on_tagged(&mut self, _tag: usize, reply: Reply, model: &mut Model, outside: &mut Outside) {
        self.on_reply(reply, model, outside);
    }
    /// Nobody knows what became of its request. Long after this, whatever was under way has arrived or is lost.
    fn on_lost(&mut self, model: &mut Model, outside: &mut Outside);
}

/// One of the clients.
#[derive(Debug)]
pub struct AnyClient(Box<dyn Client>);

impl AnyClient {
    pub fn new(client: impl Client + 'static) -> Self {
        Self(Box::new(client))
    }

    /// Its time has come: a request has waited for too long, or there is something to do.
    pub fn on_time(&mut self, model: &mut Model, outside: &mut Outside) {
        let client = &mut self.0;
        let session = client.session();
        if session.has_waited_too_long(outside) {
            session.give_up(outside);
            client.on_lost(model, outside);
        } else if session.may_act(outside) {
            client.act(model, outside);
        }
        client.session().wake_again(outside);
    }

    pub fn on_reply(
        &mut self,
        to: ReplyTo,
        reply: Reply,
        model: &mut Model,
        outside: &mut Outside,
    ) {
        let client = &mut self.0;
        if let Some(wait) = client.session().takes(to) {
            outside.counts.operations += 1;
            if let Some(reply) = client.session().on_reply(wait, reply, outside) {
                client.on_tagged(wait.tag, reply, model, outside);
            }
            client.session().wake_again(outside);
        }
    }

    pub fn on_closed(
        &mut self,
        connection: ConnectionId,
        model: &mut Model,
        outside: &mut Outside,
    ) {
        let client = &mut self.0;
        if client.session().closed(connection) {
            client.on_lost(model, outside);
            client.session().wake_again(outside);
        }
    }
}

/// Delivers a message that goes to a client. Returns a request that arrives at a node, and where its reply goes.
pub fn deliver(
    delivery: Delivery,
    clients: &mut [AnyClient],
    model: &mut Model,
    outside: &mut Outside,
) -> Option<(NodeId, ReplyTo, Request)> {
    match delivery {
        Delivery::ToNode(id, to, request) => {
            let arrives = outside.network.delivers(to.connection, Way::ToNode);
            arrives.then_some((id, to, request))
        }
        Delivery::ToClient(client, to, reply) => {
            if outside.network.delivers(to.connection, Way::ToClient) {
                clients[client].on_reply(to, reply, model, outside);
            }
            None
        }
        Delivery::Closed(client, connection) => {
            clients[client].on_closed(connection, model, outside);
            None
        }
    }
}
