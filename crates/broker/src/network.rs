//! Sockets: listeners, connections, and the limits that bound both.
//!
//! One task a connection owns its socket, its read buffer and its unsent replies. Nothing is allocated for bytes
//! that have not been promised by a checked frame length, and every count here has a named limit.

pub mod acceptor;
pub mod allowed;
pub mod closed_log;
pub mod connection;
pub mod inbox;
pub mod limits;
pub mod outbox;
pub mod replies;

pub use acceptor::Listener;
