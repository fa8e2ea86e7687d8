//! How a driver runs many tasks that wait for the disk: the broker on threads, a simulation one after the other.

/// Runs the tasks of one job, and is told when the disk has answered.
pub trait Workers: Sync {
    /// Runs `work` on each of `tasks`. The results may be in any order.
    fn each<T: Send, R: Send>(&self, tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R>;

    /// The disk has answered, so its directory is not stalled.
    fn disk_answered(&self);
}

/// One task after the other, on the caller's thread.
#[derive(Debug, Clone, Copy)]
pub struct InOrder;

impl Workers for InOrder {
    fn each<T: Send, R: Send>(&self, tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        tasks.into_iter().map(work).collect()
    }

    fn disk_answered(&self) {}
}
