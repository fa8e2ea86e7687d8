//! The controller's thread, how requests reach it, and the thread that follows what it commits.
//!
//! What is decided, and when a reply may leave, is `ottla_controller`'s business. Two threads drive it: the controller's
//! hands requests over and proposes records; it touches no log directory of the partitions. The follower's takes over what
//! is committed (it makes and removes partitions, which waits for disks), publishes the image, and releases the replies that
//! depend on it, in order. So a slow directory holds up replies, and neither decisions nor commits.

use std::sync::{Arc, mpsc as channel};

use ottla_controller::active::Published;
use ottla_controller::{
    Active, ControllerReply, ControllerRequest, Operation, Quorum, Settings, Turn,
};
use ottla_metadata::{Changes, MetadataImage};
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the controller; beyond it callers wait to be queued.
const MAX_WAITING: usize = 1024;

/// The controller cannot commit: its disk failed, or it is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller is not available")]
pub struct Unavailable;

/// How a caller is told.
type Caller = oneshot::Sender<ControllerReply>;
type Request = (Caller, ControllerRequest);

/// How the rest of the broker reaches the controller.
#[derive(Debug, Clone)]
pub struct Controller {
    requests: mpsc::Sender<Request>,
    image: watch::Receiver<Arc<MetadataImage>>,
}

impl Controller {
    /// The latest committed metadata.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// Follows the committed metadata.
    pub fn follow(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    /// Has the controller decide, and returns its reply once the records are committed and published.
    pub async fn ask<O: Operation>(&self, operation: O) -> Result<O::Reply, Unavailable> {
        let (caller, reply) = oneshot::channel();
        let request = (caller, operation.into());
        self.requests.send(request).await.map_err(|_| Unavailable)?;
        let reply = reply.await.map_err(|_| Unavailable)?;
        Ok(O::reply(reply))
    }
}

/// The controller's own side: what its thread owns.
pub struct ControllerLoop<Q> {
    requests: mpsc::Receiver<Request>,
    active: Active<Caller>,
    quorum: Q,
    committed: channel::Sender<Published<Caller>>,
}

/// What the follower's thread owns.
pub struct Follower {
    committed: channel::Receiver<Published<Caller>>,
    publish: watch::Sender<Arc<MetadataImage>>,
}

/// A controller that starts from committed metadata: how it is reached, and what its two threads own.
pub fn controller<Q: Quorum>(
    image: MetadataImage,
    settings: Settings,
    quorum: Q,
) -> (Controller, ControllerLoop<Q>, Follower) {
    let (sender, requests) = mpsc::channel(MAX_WAITING);
    let (publish, follow) = watch::channel(Arc::new(image.clone()));
    // At most as many wait as there are callers, each of whom waits for a reply.
    let (committed, to_follow) = channel::channel();
    let handle = Controller {
        requests: sender,
        image: follow,
    };
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
                Turn::Refused(error) => {
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
    /// Takes over what is committed until the controller has ended.
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
