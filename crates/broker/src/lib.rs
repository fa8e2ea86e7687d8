//! The broker process: sockets, request handlers, tasks and wiring.

pub mod broker;
pub mod clock;
pub mod config;
pub mod config_changes;
pub mod context;
pub mod controller;
pub mod coordinators;
pub mod descriptors;
pub mod directory_lock;
pub mod disk_spare;
pub mod disk_work;
pub mod endpoints;
pub mod fetch_sessions;
pub mod handlers;
pub mod held_files;
pub mod http;
pub mod internal_topics;
pub mod live_state;
pub mod located;
pub mod log_levels;
pub mod metadata_events;
pub mod metrics;
pub mod network;
pub mod operations;
pub mod producer_ids;
pub mod quorum;
pub mod random;
pub mod read_buffers;
pub mod refused_transactions;
pub mod registration;
pub mod replicas;
pub mod reply;
pub mod start;
pub mod topics;

pub use broker::Broker;
pub use start::{Running, StartError, start};
