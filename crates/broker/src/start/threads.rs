//! The threads of the process that a start begins: the watch over disks, and the two of the controller.

use std::io;
use std::sync::{Arc, mpsc};

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::GRACE;
use crate::broker::Broker;
use crate::cluster::metadata_follower::MetadataFollower;
use crate::drivers::controller::{ControllerLoop, DrivenQuorum, Follower};
use crate::drivers::disk_work::{LOOK, Watch};
use crate::drivers::threads::Thread;

/// Starts the thread that keeps the runtime going while disks block its threads, and that logs stalled directories. The
/// thread ends when the returned sender is dropped.
pub(super) fn watch_disks(broker: &Broker) -> io::Result<mpsc::Sender<()>> {
    let (watching, watched) = mpsc::channel();
    let drivers = Arc::clone(&broker.drivers);
    let mut works = Watch::new(broker.replicas.disk_work());
    let watch = move || {
        while watched.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
            works.look();
            drivers.watch_directories();
        }
    };
    Thread::start("disk-watch", watch)?;
    Ok(watching)
}

/// The controller's thread.
#[derive(Debug)]
pub(super) struct ControllerThread {
    stop: watch::Sender<bool>,
    /// Its sender is gone when the thread has closed the metadata log.
    ended: oneshot::Receiver<()>,
}

impl ControllerThread {
    /// Has the thread close the metadata log, and waits until it has, unless its disk does not answer.
    pub(super) async fn close(self) {
        self.stop.send_replace(true);
        if timeout(GRACE, self.ended).await.is_err() {
            tracing::error!("stopping without waiting for the disk of the metadata log");
        }
    }
}

/// Starts the controller's thread. It ends when it is closed, or the last handle to it is gone.
pub(super) fn run_controller<Q: DrivenQuorum + Send + 'static>(
    broker: &Arc<Broker>,
    owner: ControllerLoop<Q>,
) -> io::Result<ControllerThread> {
    let (stop, stopping) = watch::channel(false);
    let (end, ended) = oneshot::channel::<()>();
    let of_broker = Arc::downgrade(broker);
    // A runtime of its own: no other work of the process holds up its timers and connections.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        let _end = end;
        let ended = runtime.block_on(owner.run(stopping));
        if let Err(error) = ended {
            tracing::error!(%error, "the controller has ended: metadata cannot be changed until the next start");
            if let Some(broker) = of_broker.upgrade() {
                broker.set_ready(false);
            }
        }
    };
    Thread::start("controller", run)?;
    Ok(ControllerThread { stop, ended })
}

/// Starts the thread that applies what the controller commits. It ends with the controller's.
pub(super) fn follow_controller(broker: &Broker, follower: Follower) -> io::Result<()> {
    let mut metadata = MetadataFollower::new(broker);
    let replicas = Arc::clone(&broker.replicas);
    let follow = move || {
        let apply = |image: &_, changes: &_| metadata.apply(image, changes);
        follower.run(apply, |election| replicas.losses().elected(election));
    };
    Thread::start("metadata", follow)?;
    Ok(())
}
