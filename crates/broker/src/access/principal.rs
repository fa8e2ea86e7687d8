//! The principal of a client, by which an authorizer decides what it may do.

/// The principal of a connection that did not authenticate, as Kafka names it.
pub const ANONYMOUS: &str = "User:ANONYMOUS";
