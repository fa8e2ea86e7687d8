//! Kafka's error codes.
//!
//! The error enum of each operation maps to these codes in one exhaustive `code()`. Handlers do not choose codes
//! themselves.

pub use kacrab_protocol::generated::ErrorCode;
