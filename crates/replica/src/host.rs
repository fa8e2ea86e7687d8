//! How the partitions of a node reach those that wait for them.

use std::fmt::Debug;

use crate::refusals::Unavailable;

/// What drives the partitions of a node: the broker, or a simulation.
///
/// A partition calls these functions after it has released its lock. They must not call back into a partition.
pub trait Host: Debug + Send + Sync + 'static {
    /// A producer that waits for an acknowledgement.
    type Producer: Debug + Send;
    /// How a consumer that waits for records is woken.
    type Consumer: Debug + Send + Sync;
    /// How the driver of a log directory's flushes is woken.
    type Flusher: Debug + Send + Sync;

    /// Tells a producer that its records are replicated, or why they will not be.
    fn answer(producer: Self::Producer, outcome: Result<(), Unavailable>);
    /// Wakes a consumer: a partition that it watches has changed.
    fn wake(consumer: &Self::Consumer);
    /// Wakes the driver of flushes: a pass is due earlier than it knew.
    fn pass_is_due(flusher: &Self::Flusher);
}

/// A host of tests in which nobody waits.
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
