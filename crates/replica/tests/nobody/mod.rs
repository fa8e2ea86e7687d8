//! A host without clients and without a flusher, for tests that look at partitions themselves.

use ottla_replica::{Host, Unavailable};

#[derive(Debug)]
pub struct Nobody;

impl Host for Nobody {
    type Producer = ();
    type Consumer = ();
    type Flusher = ();

    fn answer((): (), _: Result<(), Unavailable>) {}
    fn wake((): &()) {}
    fn pass_is_due((): &()) {}
}
