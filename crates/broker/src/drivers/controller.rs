//! The two threads of the controller.
//!
//! `ottla_controller` makes all decisions, and decides when a reply may leave. The controller's thread passes requests to it
//! and proposes its records; it touches no log directory of the partitions. The follower's thread applies committed records:
//! it creates and removes partitions, which waits for disks. Then it publishes the image, and sends the replies that depend
//! on it, in order. So a slow directory delays replies, but neither decisions nor commits.

use std::sync::{Arc, mpsc as channel};

use ottla_controller::active::Published;
use ottla_controller::{Active, Quorum, Settings, Turn};
use ottla_metadata::{Changes, MetadataImage};
use tokio::sync::{mpsc, watch};

use crate::cluster::channel::{Caller, Controller, Request};
use crate::cluster::sessions::Sessions;

/// The state that the controller's thread owns.
pub struct ControllerLoop<Q> {
    requests: mpsc::Receiver<Request>,
    active: Active<Caller>,
    quorum: Q,
    committed: channel::Sender<Published<Caller>>,
}

/// The state that the follower's thread owns.
pub struct Follower {
    committed: channel::Receiver<Published<Caller>>,
    publish: watch::Sender<Arc<MetadataImage>>,
}

/// The active controller, which starts from committed metadata: its handle, and the state of its two threads.
pub fn controller<Q: Quorum>(
    image: MetadataImage,
    settings: Settings,
    quorum: Q,
    sessions: Arc<Sessions>,
) -> (Controller, ControllerLoop<Q>, Follower) {
    sessions.begin(&image);
    let (publish, follow) = watch::channel(Arc::new(image.clone()));
    // At most as many wait as there are callers, each of whom waits for a reply.
    let (committed, to_follow) = channel::channel();
    let (handle, requests) = Controller::new(follow, sessions);
    let owner = ControllerLoop {
        requests,
        active: Active::new(image, settings),
        quorum,
        committed,
    };
    let follower = Follower {
        committed: to_follow,
        publish,
    };
    (handle, owner, follower)
}

impl<Q: Quorum> ControllerLoop<Q> {
    /// Decides and proposes until every handle is gone or nothing can be proposed any more.
    pub fn run(mut self) -> Result<(), Q::Error> {
        while let Some(first) = self.requests.blocking_recv() {
            let waiting = std::iter::from_fn(|| self.requests.try_recv().ok());
            let requests = std::iter::once(first).chain(waiting);
            match self.active.turn(requests, &mut self.quorum) {
                Turn::Committed(committed) => {
                    for published in committed {
                        // A follower that has ended has published its last image; the callers are told by the closed
                        // channel.
                        let _ = self.committed.send(published);
                    }
                }
                Turn::Refused { error, .. } => {
                    // The callers are told that the controller is not available, and ask again.
                    tracing::error!(%error, "metadata was not changed");
                }
                Turn::Ended(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Follower {
    /// Applies what is committed until the controller has ended.
    ///
    /// `apply` is called with each new image before it is published and before any reply that depends on it: a topic whose
    /// creation was answered has its partitions. It may wait for disks.
    pub fn run(self, mut apply: impl FnMut(&Arc<MetadataImage>, &Changes)) {
        for published in self.committed {
            if let Some((image, changes)) = published.metadata {
                let image = Arc::new(image);
                apply(&image, &changes);
                self.publish.send_replace(image);
            }
            for (caller, reply) in published.replies {
                // A caller that went away wants no reply.
                let _ = caller.send(reply);
            }
        }
    }
}

#[cfg(test)]
mod tests;
