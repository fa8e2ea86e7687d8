//! The connections on which Raft messages leave: one task for each other controller.
//!
//! A message that cannot leave soon is dropped, the newest first; Raft sends again what matters. A connection that ends is
//! made anew at once. If its process or its machine is gone, that is reported: an election need not wait for a timeout then.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_controller::heartbeats::reach::{ATTEMPTS, Answer};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_quorum::{Arrived, Envelope, Voter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::unreachable_brokers::try_one;
use crate::cluster::quorum_frames::{self, MAX_ANSWER};
use crate::cluster::quorum_inbox::QuorumInbox;

/// Upper bound of the messages that wait for the connection to one controller.
const MAX_QUEUED: usize = 64;
/// How long a connection attempt, and a write, may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);
/// Before a controller that does not belong here is asked again.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// The other controllers.
pub struct QuorumPeers {
    inbox: Arc<QuorumInbox>,
    /// The listener whose address is used where a voter has several.
    listener: String,
    peers: BTreeMap<(NodeId, Uuid), Peer>,
    /// Aborted when this is dropped.
    tasks: JoinSet<()>,
    /// The attempts to reach one controller.
    trying: Option<AbortHandle>,
}

struct Peer {
    address: String,
    queue: mpsc::Sender<Bytes>,
}

/// Why a connection was not made, or ended.
enum Ended {
    /// It never was, or it broke.
    Failed(io::Error),
    /// The other controller does not listen to this one.
    Refused(String),
    /// No more messages will be sent to it.
    Done,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl QuorumPeers {
    pub fn new(inbox: Arc<QuorumInbox>, listener: String) -> Self {
        Self {
            inbox,
            listener,
            peers: BTreeMap::new(),
            tasks: JoinSet::new(),
            trying: None,
        }
    }

    /// Connects to the voters, and forgets nodes that are none any more.
    pub fn set_voters(&mut self, voters: &[Voter]) {
        let is_voter = |id: &(NodeId, Uuid)| {
            let mut ids = voters.iter();
            ids.any(|voter| (voter.node_id, voter.directory_id) == *id)
        };
        self.peers.retain(|id, _| is_voter(id));
        for voter in voters {
            if voter.node_id != self.inbox.own.controller.node_id {
                self.connect(voter);
            }
        }
    }

    /// Sends a message, or drops it if the controller is slow or away.
    pub fn send(&self, envelope: &Envelope) {
        let to = (envelope.to.node_id, envelope.to.directory_id);
        if let Some(peer) = self.peers.get(&to) {
            let _ = peer.queue.try_send(quorum_frames::message(&envelope.bytes));
        }
    }

    /// The address of a controller, as `host:port`.
    pub fn address(&self, node: NodeId) -> Option<String> {
        let mut peers = self.peers.iter();
        let (_, peer) = peers.find(|((id, _), _)| *id == node)?;
        Some(peer.address.clone())
    }

    /// Finds out whether the machine of a controller answers, and reports if it does not. One is tried at a time.
    pub fn try_to_reach(&mut self, node: NodeId) {
        if self.trying.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        // What has ended is forgotten.
        while self.tasks.try_join_next().is_some() {}
        if let Some(address) = self.address(node) {
            let inbox = Arc::clone(&self.inbox);
            self.trying = Some(self.tasks.spawn(try_to_reach(inbox, (node, address))));
        }
    }

    fn connect(&mut self, voter: &Voter) {
        let same = voter
            .endpoints
            .iter()
            .find(|endpoint| endpoint.listener == self.listener);
        let Some(endpoint) = same.or(voter.endpoints.first()) else {
            return;
        };
        let address = endpoint.address();
        let id = (voter.node_id, voter.directory_id);
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.address == address)
        {
            return;
        }
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let peer = Peer {
            address: address.clone(),
            queue,
        };
        self.peers.insert(id, peer);
        let inbox = Arc::clone(&self.inbox);
        self.tasks
            .spawn(keep_connected(inbox, (voter.node_id, address), queued));
    }
}

/// Tries a silent controller a few times. Its process is gone if it is refused each time, and its machine if nothing
/// answers.
async fn try_to_reach(inbox: Arc<QuorumInbox>, (node, address): (NodeId, String)) {
    for _ in 0..ATTEMPTS {
        match try_one(&address).await {
            Answer::Accepted | Answer::Untried => return,
            Answer::Refused => sleep(PAUSE).await,
            Answer::Unanswered => {}
        }
    }
    let _ = inbox.arrived.send(Arrived::Unreachable(node)).await;
}

async fn keep_connected(
    inbox: Arc<QuorumInbox>,
    (node, address): (NodeId, String),
    mut queued: mpsc::Receiver<Bytes>,
) {
    let mut was_connected = false;
    loop {
        let connected = timeout(TIMEOUT, connect(&inbox, &address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into_ended()));
        let ended = match connected {
            Ok(stream) => {
                tracing::debug!(controller = node.0, address, "connected to a controller");
                was_connected = true;
                carry(stream, &mut queued).await
            }
            Err(ended) => {
                if let Ended::Failed(error) = &ended
                    && error.kind() == io::ErrorKind::ConnectionRefused
                    && std::mem::take(&mut was_connected)
                {
                    let _ = inbox.arrived.send(Arrived::ProcessEnded(node)).await;
                }
                if !matches!(ended, Ended::Refused(_)) {
                    sleep(PAUSE).await;
                }
                ended
            }
        };
        match ended {
            Ended::Failed(error) => {
                tracing::debug!(controller = node.0, address, %error, "no connection to a controller");
            }
            Ended::Refused(reason) => {
                inbox.on_mismatch(&reason);
                sleep(LONG_PAUSE).await;
            }
            Ended::Done => return,
        }
    }
}

/// Connects, and says hello.
async fn connect(inbox: &QuorumInbox, address: &str) -> Result<TcpStream, Ended> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&inbox.own.write()).await?;
    let length = stream.read_u32().await? as usize;
    if length > MAX_ANSWER {
        return Err(io::ErrorKind::InvalidData.into_ended());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    match quorum_frames::read_answer(&answer) {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(reason)) => Err(Ended::Refused(reason)),
        Err(error) => Err(io::Error::other(error).into()),
    }
}

/// Sends messages until the connection ends.
async fn carry(stream: TcpStream, queued: &mut mpsc::Receiver<Bytes>) -> Ended {
    let (mut read, mut write) = stream.into_split();
    let mut nothing = [0; 1];
    loop {
        tokio::select! {
            message = queued.recv() => {
                let Some(message) = message else { return Ended::Done };
                match timeout(TIMEOUT, write.write_all(&message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Ended::Failed(error),
                    Err(_) => return io::ErrorKind::TimedOut.into_ended(),
                }
            }
            // The other side sends nothing: this is the end of the connection.
            end = read.read(&mut nothing) => {
                return Ended::Failed(end.err().unwrap_or(io::ErrorKind::ConnectionReset.into()));
            }
        }
    }
}

/// Shortens the way from a kind of error to the end of a connection.
trait IntoEnded {
    fn into_ended(self) -> Ended;
}

impl IntoEnded for io::ErrorKind {
    fn into_ended(self) -> Ended {
        Ended::Failed(self.into())
    }
}
