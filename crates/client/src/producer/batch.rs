//! The batches of one partition, from the first record to the answer.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use tokio::time::Instant;

use super::options::{ProducerOptions, Ticket};
use crate::{Connection, Result, TopicPartition};

/// The producer id and epoch that the broker gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

/// The batches of a partition: the open one, and closed ones that wait. At most one more is in flight.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub open: Option<Open>,
    pub sealed: VecDeque<Sealed>,
    pub is_in_flight: bool,
    pub next_sequence: i32,
}

#[derive(Debug)]
pub(super) struct Open {
    pub builder: BatchBuilder,
    pub tickets: Vec<Ticket>,
}

#[derive(Debug)]
pub(super) struct Sealed {
    pub bytes: Bytes,
    pub tickets: Vec<Ticket>,
    pub deadline: Instant,
    /// Whether an attempt without a clear answer may have written it to the log.
    pub is_in_doubt: bool,
}

/// A batch that came back from its request.
#[derive(Debug)]
pub(super) struct Sent {
    pub partition: TopicPartition,
    pub batch: Sealed,
    pub result: Result<i64>,
    /// The connection on which it was sent, if it is not acknowledged.
    pub unacknowledged_on: Option<Arc<Connection>>,
}

pub(super) fn batch_options(
    options: &ProducerOptions,
    identity: Option<Identity>,
    next_sequence: i32,
) -> BatchOptions {
    let plain = BatchOptions {
        compression: options.compression,
        level: options
            .level
            .unwrap_or_else(|| options.compression.default_level()),
        ..BatchOptions::default()
    };
    match identity {
        None => plain,
        Some(identity) => BatchOptions {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            base_sequence: next_sequence,
            ..plain
        },
    }
}
