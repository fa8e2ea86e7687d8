//! The broker process: sockets, request handlers, tasks and wiring.

#[macro_use]
mod served_apis;

pub mod access;
pub mod broker;
pub mod cluster;
pub mod config;
pub mod config_changes;
pub mod context;
pub mod coordinators;
pub mod drivers;
pub mod fetch_sessions;
pub mod handlers;
pub mod http;
pub mod internal_topics;
pub mod metrics;
pub mod network;
pub mod process;
pub mod readiness;
pub mod refused_transactions;
pub mod replicas;
pub mod reply;
pub mod start;
pub mod weak_acks;

pub use broker::Broker;
pub use start::{DirectoryError, Running, StartError, start};
