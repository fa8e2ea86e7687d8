//! The channel to the controller: a caller sends an operation, and gets the reply once the operation is committed.
//!
//! Requests are values ([`ControllerRequest`]), so that they can be sent to a controller on another node later.

use std::sync::Arc;

use ottla_controller::{ControllerReply, ControllerRequest, Operation};
use ottla_metadata::MetadataImage;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::sessions::Sessions;

/// Upper bound of the queued requests; beyond it callers wait.
const MAX_WAITING: usize = 1024;

/// No controller commits: its disk failed, or it is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller is not available")]
pub struct NoController;

/// Where the reply to a request goes.
pub type Caller = oneshot::Sender<ControllerReply>;
/// What the controller's thread receives.
pub type Request = (Caller, ControllerRequest);

/// The broker's end of the channel, with the metadata that the controller has committed.
#[derive(Debug, Clone)]
pub struct Controller {
    requests: mpsc::Sender<Request>,
    image: watch::Receiver<Arc<MetadataImage>>,
    sessions: Arc<Sessions>,
}

impl Controller {
    /// The broker's end, and the end of the controller's thread. The committed metadata comes through `image`.
    pub fn new(
        image: watch::Receiver<Arc<MetadataImage>>,
        sessions: Arc<Sessions>,
    ) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(MAX_WAITING);
        let broker = Self {
            requests,
            image,
            sessions,
        };
        (broker, received)
    }

    /// The sessions of the brokers, while this process has the active controller.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The latest committed metadata.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// Follows the committed metadata.
    pub fn follow(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    /// Sends an operation to the controller. Returns the reply once its records are committed and published. A heartbeat
    /// extends the session of its broker at once.
    pub async fn ask<O: Operation>(&self, operation: O) -> Result<O::Reply, NoController> {
        let (caller, reply) = oneshot::channel();
        let mut request = operation.into();
        let beating = self.sessions.on_request(&self.image(), &mut request);
        let sent = self.requests.send((caller, request)).await;
        sent.map_err(|_| NoController)?;
        let reply = reply.await.map_err(|_| NoController)?;
        if let Some(broker) = beating {
            self.sessions.on_reply(broker, &reply);
        }
        Ok(O::reply(reply))
    }
}
