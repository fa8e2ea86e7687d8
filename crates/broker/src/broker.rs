//! The state that all handlers and tasks of one broker share.
//!
//! Everything here is either immutable, behind its own owner (a task that takes messages), or a counter.

use std::sync::Arc;

use ottla_protocol::messages::KafkaString;

use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::metrics::Metrics;

/// One running broker. Handlers get it by reference; tasks hold it in an `Arc`.
#[derive(Debug)]
pub struct Broker {
    /// What the operator configured, resolved.
    pub config: BrokerConfig,
    /// The process's clocks.
    pub clock: Clock,
    /// `cluster.id`.
    pub cluster_id: KafkaString,
    /// Where metadata is changed, and the committed metadata itself.
    pub controller: Controller,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

impl Broker {
    /// Puts the shared state together; nothing runs yet.
    pub fn new(
        config: BrokerConfig,
        clock: Clock,
        cluster_id: KafkaString,
        controller: Controller,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            clock,
            cluster_id,
            controller,
            metrics: Metrics::default(),
        })
    }
}
