//! Kafka's error codes.
//!
//! Each operation's error enum maps itself to one of these in one exhaustive `code()`; handlers pick none ad hoc.

pub use kacrab_protocol::generated::ErrorCode;
