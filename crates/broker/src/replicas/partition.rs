//! How the tasks and threads of this process wait for a partition: the broker's implementation of [`Host`].

use std::sync::Arc;
use std::time::Duration;

use ottla_log::PartitionLog;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::Offset;
pub use ottla_replica::partition::{AnsweredBy, Append, Offsets, ReadAt, RequiredAcks, Role};
use ottla_replica::{Host, partition};
pub use ottla_replica::{PartitionId, Refused, Unavailable, Unreadable};
use tokio::sync::{Notify, oneshot};

use super::Replicas;
use crate::drivers::monitor::Monitor;
use crate::drivers::syncs::Syncs;

/// A partition of this node.
pub type Partition = ottla_replica::Partition<Disk, Tasks>;
/// A planned read.
pub type Planned = partition::Planned<Disk>;
/// A task that waits for records.
pub type Reader = ottla_replica::Reader<Notify>;

/// What the rest of the process shares with the flusher's thread of a log directory.
#[derive(Debug, Default)]
pub struct FlusherThread {
    /// Whether it was woken: a pass may be due earlier than it knows.
    pub is_woken: Monitor<bool>,
    /// Its syncs, which cold reads let go first.
    pub syncs: Arc<Syncs>,
}

impl FlusherThread {
    /// Asks the thread to flush what is queued and to end.
    pub fn stop(&self) {
        self.is_woken.stop();
    }
}

/// Tasks wait for a message or a notification, the flusher's thread on its [`FlusherThread`].
#[derive(Debug)]
pub struct Tasks;

impl Host for Tasks {
    type Producer = oneshot::Sender<Result<(), Unavailable>>;
    type Consumer = Notify;
    type Flusher = FlusherThread;

    fn answer(producer: Self::Producer, outcome: Result<(), Unavailable>) {
        // A task that timed out or went away does not listen.
        let _ = producer.send(outcome);
    }

    fn wake(consumer: &Notify) {
        consumer.notify_one();
    }

    fn pass_is_due(flusher: &FlusherThread) {
        flusher.is_woken.change(|is_woken| *is_woken = true);
    }
}

/// A reader for a task.
pub fn reader() -> Arc<Reader> {
    Reader::new(Notify::new())
}

/// Completes when all records before `offset` are replicated and, under `fsync`, on stable storage. `None` when they are
/// already.
pub fn replicated(
    partition: &Partition,
    offset: Offset,
) -> Option<oneshot::Receiver<Result<(), Unavailable>>> {
    let mut receiver = None;
    partition.replicated(offset, || {
        let (sender, answer) = oneshot::channel();
        receiver = Some(answer);
        sender
    });
    receiver
}

/// How often the lock of a partition is tried, and the interval between tries.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

impl Replicas {
    /// Runs `ask` on a log, also where another broker leads. Returns nothing once the partition is gone, or while the thread
    /// with its lock waits for the disk.
    #[expect(
        clippy::disallowed_methods,
        reason = "a mutex cannot be waited for with a limit"
    )]
    pub fn try_with_log<T>(
        &self,
        partition: &Partition,
        mut ask: impl FnMut(&mut PartitionLog<Disk>) -> T,
    ) -> Option<T> {
        let now = self.clock.monotonic();
        let is_stalled = partition.directory().stalls.is_stalled(now);
        let tries = if is_stalled { 1 } else { TRIES };
        for _ in 0..tries {
            if let Ok(answer) = partition.try_with_log(&mut ask) {
                return answer;
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        None
    }
}
