//! Kafka's wire formats: messages, frames, record batches, error codes. Pure: bytes in, bytes out.

#![warn(clippy::indexing_slicing)]

pub mod address;
pub mod api_key;
pub mod error_code;
pub mod frame;
pub mod ids;
pub mod messages;
pub mod planted;
pub mod records;
pub mod time;
mod uuid;
