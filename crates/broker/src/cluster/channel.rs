//! The channel to the controller: a caller sends an operation, and gets the reply once the operation is committed.
//!
//! Requests are values ([`ControllerRequest`]): they go to the controller's thread of this process, or over the network.

use std::sync::Arc;

use ottla_controller::{ControllerReply, ControllerRequest, Operation};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::Offset;
use tokio::sync::{mpsc, oneshot, watch};

use super::remote_controller::RemoteController;
use super::sessions::Sessions;
use crate::drivers::controller::Applied;

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

/// The broker's end of the channel, with the committed metadata.
#[derive(Debug, Clone)]
pub struct Controller {
    /// The controller's thread of this process, if there is one.
    here: Option<mpsc::Sender<Request>>,
    /// The controllers on other nodes, if there are some.
    elsewhere: Option<Arc<RemoteController>>,
    applied: Applied,
    sessions: Arc<Sessions>,
}

impl Controller {
    /// The broker's end, and the end of the controller's thread. The committed metadata comes through `applied`.
    pub fn new(applied: Applied, sessions: Arc<Sessions>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(MAX_WAITING);
        let broker = Self {
            here: Some(requests),
            elsewhere: None,
            applied,
            sessions,
        };
        (broker, received)
    }

    /// The end of a broker whose controllers are other nodes. The metadata that they have committed comes through `applied`.
    pub fn elsewhere(
        controllers: RemoteController,
        applied: Applied,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self {
            here: None,
            elsewhere: Some(Arc::new(controllers)),
            applied,
            sessions,
        }
    }

    /// The same, where controllers on other nodes may be the active one.
    #[must_use]
    pub fn or_elsewhere(mut self, controllers: RemoteController) -> Self {
        self.elsewhere = Some(Arc::new(controllers));
        self
    }

    /// The sessions of the brokers, while this process has the active controller.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The latest committed metadata.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.applied.image.borrow())
    }

    /// The end of the metadata log, as far as it is in the image.
    pub fn applied(&self) -> Offset {
        *self.applied.end.borrow()
    }

    /// The end of the committed metadata, as the active controller on another node told it last.
    pub fn observed_end(&self) -> Offset {
        let elsewhere = self.elsewhere.as_deref();
        elsewhere.map_or(Offset(0), RemoteController::observed_end)
    }

    /// Waits until the record at this offset is in the image, or nothing is applied any more.
    pub async fn until_applied(&self, offset: i64) {
        let mut end = self.applied.end.clone();
        // An error means that nothing is applied any more.
        let _ = end.wait_for(|end| end.0 > offset).await;
    }

    /// Follows the committed metadata.
    pub fn follow(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.applied.image.clone()
    }

    /// The controllers on other nodes, unless the active one is in this process.
    pub fn remote(&self) -> Option<&RemoteController> {
        let elsewhere = self.elsewhere.as_deref();
        elsewhere.filter(|elsewhere| self.here.is_none() || !elsewhere.is_here())
    }

    /// Sends an operation to the controller, and returns the reply. If the controller is in this process, the records are
    /// committed and published then; if not, this node may see them later. A heartbeat extends the session of its broker at
    /// once.
    pub async fn ask<O: Operation>(&self, operation: O) -> Result<O::Reply, NoController> {
        match (self.remote(), &self.here) {
            (Some(remote), _) => Ok(O::reply(remote.ask(operation.into()).await?)),
            (None, Some(_)) => self.ask_here(operation).await,
            (None, None) => Err(NoController),
        }
    }

    /// Sends an operation to the controller of this process, for a caller that wants no other: it came over the network. If
    /// this controller is not the active one, there is no reply.
    pub async fn ask_here<O: Operation>(&self, operation: O) -> Result<O::Reply, NoController> {
        let requests = self.here.as_ref().ok_or(NoController)?;
        let mut request = operation.into();
        let (caller, reply) = oneshot::channel();
        let beating = self.sessions.on_request(&self.image(), &mut request);
        let sent = requests.send((caller, request)).await;
        sent.map_err(|_| NoController)?;
        let reply = reply.await.map_err(|_| NoController)?;
        if let Some(beating) = beating {
            beating.on_reply(&reply);
        }
        Ok(O::reply(reply))
    }
}
