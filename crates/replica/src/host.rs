//! The interface by which the partitions of a node answer and wake those who wait.

use std::fmt::Debug;

use crate::refusals::Unavailable;

/// The driver of a node's partitions: the broker, or a simulation.
///
/// A partition calls these functions after it has released its lock. They must not call back into a partition.
pub trait Host: Debug + Send + Sync + 'static {
    /// A producer that waits for an acknowledgement.
    type Producer: Debug + Send;
    /// The handle that wakes a consumer waiting for records.
    type Consumer: Debug + Send + Sync;
    /// The handle that wakes the driver of a log directory's flushes.
    type Flusher: Debug + Send + Sync;

    /// Answers a producer: its records are replicated, or why they are not.
    fn answer(producer: Self::Producer, outcome: Result<(), Unavailable>);
    /// Wakes a consumer, because a partition that it watches has changed.
    fn wake(consumer: &Self::Consumer);
    /// Wakes the driver of flushes, because a pass is due earlier than it knew.
    fn pass_is_due(flusher: &Self::Flusher);
}

/// A host for tests in which nobody waits.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Nobody;

#[cfg(test)]
impl Host for Nobody {
    type Producer = ();
    type Consumer = ();
    type Flusher = ();

    fn answer((): (), _: Result<(), Unavailable>) {}
    fn wake((): &()) {}
    fn pass_is_due((): &()) {}
}
