//! Waiting until what was in logs when somebody asked can be read.
//!
//! Whoever asks where a log ends must be told of all that its producers have been told of. Records that are not on
//! stable storage yet are flushed for it at once, those of all its partitions together. A disk that does not answer
//! holds up an answer for a limited time.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::ids::Offset;
use tokio::time::{Sleep, sleep};

use super::partition::{Partition, Reader, Unavailable, reader};
use crate::process::clock::Clock;

/// A flush gets at least this long, also where the client gives no time. Such a client wants what is there, and the
/// records of an answered produce are there.
pub const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// How much it has where the client gives no time. Clients wait longer for an answer, and ask again after this.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a log could not be read as far as it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unreached {
    /// The partition cannot serve.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its disk did not answer in time.
    #[error("the records are not on stable storage yet")]
    Late,
}

/// Waits until each of these partitions can be read up to an offset, for `limit` in all. The outcomes are in their order.
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

/// The flush is asked for already: one that ends with less is followed by another.
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
