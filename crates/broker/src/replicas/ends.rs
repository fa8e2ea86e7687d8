//! Waits until logs can be read up to given offsets.
//!
//! The answer to a request for the end of a log must cover every record whose producer was answered. Records that are not
//! flushed yet are flushed at once, those of all partitions of the request together. A disk that does not answer delays the
//! answer for a limited time.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::ids::Offset;
use tokio::time::{Sleep, sleep};

use super::partition::{Partition, Reader, Unavailable, reader};
use crate::process::clock::Clock;

/// A flush has at least this long, also where the client's timeout is shorter: the records of an answered produce must be
/// found.
pub const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// The time of a flush for requests without a timeout. Clients wait longer than this, and ask again.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a log could not be read up to the offset.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unreached {
    /// The partition cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its disk did not answer in time.
    #[error("the records are not on stable storage yet")]
    Late,
}

/// Waits until each partition can be read up to its offset, for `limit` in all. Returns the outcomes in order.
pub async fn reach(
    wanted: &[(Arc<Partition>, Offset)],
    limit: Duration,
    clock: Clock,
) -> Vec<Result<(), Unreached>> {
    let reader = reader();
    for (partition, offset) in wanted {
        if let Ok(false) = partition.is_readable_to(*offset, &reader) {
            partition.make_readable(clock.monotonic());
        }
    }
    let mut timer = pin!(sleep(limit));
    let mut outcomes = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        outcomes.push(reach_one(wanted, &reader, timer.as_mut(), clock).await);
    }
    outcomes
}

/// The flush has been requested. One that ends before the offset is followed by another.
async fn reach_one(
    (partition, offset): &(Arc<Partition>, Offset),
    reader: &Arc<Reader>,
    mut timer: Pin<&mut Sleep>,
    clock: Clock,
) -> Result<(), Unreached> {
    while !partition.is_readable_to(*offset, reader)? {
        if timer.is_elapsed() || is_stalled(partition, clock) {
            return Err(Unreached::Late);
        }
        tokio::select! {
            biased;
            () = reader.consumer().notified() => {}
            () = timer.as_mut() => {}
        }
    }
    Ok(())
}

fn is_stalled(partition: &Partition, clock: Clock) -> bool {
    partition.directory().stalls.is_stalled(clock.monotonic())
}
