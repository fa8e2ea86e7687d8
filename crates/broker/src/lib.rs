//! The broker process: sockets, request handlers, tasks and wiring.

pub mod broker;
pub mod clock;
pub mod config;
pub mod context;
pub mod controller;
pub mod descriptors;
pub mod fetch_sessions;
pub mod handlers;
pub mod metrics;
pub mod network;
pub mod start;

pub use broker::Broker;
pub use start::{Running, StartError, start};
