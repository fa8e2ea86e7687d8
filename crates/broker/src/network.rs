//! Sockets: listeners, connections, and the limits that bound both.
//!
//! One task owns each connection: its socket, its read buffer and its unsent replies. Memory for a frame is allocated only
//! after its length has been checked. Every count here has a named limit.

pub mod acceptor;
pub mod allowed;
pub mod closed_log;
pub mod connection;
pub mod inbox;
pub mod limits;
pub mod outbox;
mod peer;
pub mod replies;

pub use acceptor::Listener;
