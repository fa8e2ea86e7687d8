//! The active controller on another node: where it is, the connections to it, and calls that follow it when it moves.
//!
//! A call is sent again after a failure, until its time is over: the connection may end after the controller has made the
//! change. So an operation that is sent twice must be harmless, or refused the second time. Kafka's are, and Kafka's brokers
//! send them again too. Heartbeats have a connection of their own: no other request delays them.

mod translate;

use std::time::Duration;

use ottla_client::{ClientError, Connection, Options, Request};
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::{EnvelopeRequestData, EnvelopeResponseData, ErrorCode};
use ottla_quorum::QuorumStatus;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::channel::NoController;

/// How long a controller may take to accept a connection, and to answer a heartbeat.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How long a call is tried, whose caller tries again.
const TRIED_FOR: Duration = Duration::from_secs(5);
/// How long a client's request is tried. The default timeouts of clients are as long, or longer.
const FORWARDED_FOR: Duration = Duration::from_secs(30);
/// How long the controllers may take to elect one of them.
const ELECTED_WITHIN: Duration = Duration::from_secs(10);
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the active controller is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ActiveController {
    /// There is none, or this node has not heard of it.
    #[default]
    Unknown,
    /// In this process.
    Here,
    /// `host:port` of its controller listener.
    At(String),
}

/// What a node that follows the metadata log over the network has seen of the controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub active: ActiveController,
    /// The end of the committed metadata, as the active controller told it last.
    pub end: Offset,
}

/// From where a node knows which controller is active.
#[derive(Debug)]
pub enum Knowledge {
    /// The node follows the metadata log over the network.
    Observed(watch::Receiver<Seen>),
    /// The node is a member of the quorum.
    Member(watch::Receiver<QuorumStatus>),
}

impl Knowledge {
    fn active(&self) -> ActiveController {
        match self {
            Self::Observed(seen) => seen.borrow().active.clone(),
            Self::Member(status) => of_status(&status.borrow()),
        }
    }

    /// Waits until another controller is active than the one at `address`, as far as this node hears.
    async fn moved_from(&self, address: &str) {
        let is_elsewhere = |active: &ActiveController| match active {
            ActiveController::Unknown => false,
            ActiveController::Here => true,
            ActiveController::At(known) => known != address,
        };
        let is_there = match self {
            Self::Observed(seen) => {
                let mut seen = seen.clone();
                let moved = seen.wait_for(|seen| is_elsewhere(&seen.active));
                moved.await.is_ok()
            }
            Self::Member(status) => {
                let mut status = status.clone();
                let moved = status.wait_for(|status| is_elsewhere(&of_status(status)));
                moved.await.is_ok()
            }
        };
        if !is_there {
            // Nothing is heard any more: the node stops.
            std::future::pending::<()>().await;
        }
    }
}

fn of_status(status: &QuorumStatus) -> ActiveController {
    if status.is_active {
        return ActiveController::Here;
    }
    match status.leader_endpoints().first() {
        Some(endpoint) => ActiveController::At(endpoint.address()),
        None => ActiveController::Unknown,
    }
}

/// What a connection is for. Requests of one purpose wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Registration and heartbeats.
    Life,
    /// What brokers ask for themselves: ISRs, producer ids, log directories, internal topics.
    Broker,
    /// Requests of clients.
    Forwarding,
}

/// The active controller on another node.
#[derive(Debug)]
pub struct RemoteController {
    knowledge: Knowledge,
    cluster_id: String,
    options: Options,
    life: Line,
    broker: Line,
    forwarding: Line,
}

/// The connection for one purpose; it is opened when it is needed.
type Line = Mutex<Option<Connection>>;

/// Why one attempt brought no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error("it is not the active controller")]
    NotController,
    #[error("no active controller is known")]
    Unknown,
    #[error("another controller is active now")]
    Moved,
    /// The caller's next attempt does not come here.
    #[error("the active controller is in this process now")]
    Here,
}

/// A request to a controller, whose answer tells whether the asked node leads.
pub(crate) trait Asked: Request {
    /// The error of the whole request.
    fn error(response: &Self::Response) -> ErrorCode;
}

impl RemoteController {
    /// The controller that is active as far as `knowledge` goes, asked by the node `node` of this cluster.
    pub fn new(knowledge: Knowledge, node: NodeId, cluster_id: &str) -> Self {
        Self {
            knowledge,
            cluster_id: cluster_id.to_owned(),
            options: Options {
                client_id: format!("ottla-broker-{node}"),
                connect_timeout: ANSWERED_WITHIN,
                request_timeout: ANSWERED_WITHIN,
                ..Options::default()
            },
            life: Line::default(),
            broker: Line::default(),
            forwarding: Line::default(),
        }
    }

    /// Whether the active controller is in this process.
    pub fn is_here(&self) -> bool {
        self.knowledge.active() == ActiveController::Here
    }

    /// The end of the committed metadata, as a node that follows it over the network knows it.
    pub fn observed_end(&self) -> Offset {
        match &self.knowledge {
            Knowledge::Observed(seen) => seen.borrow().end,
            Knowledge::Member(status) => status.borrow().high_watermark,
        }
    }

    /// Asks the controller. An operation that only handlers ask for is not translated: its request is forwarded.
    pub async fn ask(&self, request: ControllerRequest) -> Result<ControllerReply, NoController> {
        translate::ask(self, request).await
    }

    /// Passes a client's request on.
    pub(super) async fn forward(
        &self,
        envelope: &EnvelopeRequestData,
    ) -> Result<EnvelopeResponseData, NoController> {
        self.call((Purpose::Forwarding, FORWARDED_FOR), envelope)
            .await
    }

    /// Calls the active controller until it answers, within `limit` altogether.
    async fn call<R: Asked>(
        &self,
        (purpose, limit): (Purpose, Duration),
        request: &R,
    ) -> Result<R::Response, NoController> {
        let end = Instant::now() + limit;
        let line = match purpose {
            Purpose::Life => &self.life,
            Purpose::Broker => &self.broker,
            Purpose::Forwarding => &self.forwarding,
        };
        // A quorum that has no leader for so long has lost its majority.
        let elected_by = Instant::now() + ELECTED_WITHIN;
        loop {
            let tried = timeout_at(end, self.attempt(line, request)).await;
            match tried {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(Failed::Call(error @ ClientError::Unsupported { .. }))) => {
                    tracing::warn!(%error, "the controller does not serve what this broker asks for");
                    return Err(NoController);
                }
                Err(_) | Ok(Err(Failed::Here)) => return Err(NoController),
                Ok(Err(Failed::Unknown)) if Instant::now() >= elected_by => {
                    return Err(NoController);
                }
                Ok(Err(error)) => {
                    tracing::debug!(api = ?R::KEY, %error, "the controller does not answer; trying again");
                }
            }
            if timeout_at(end, sleep(PAUSE)).await.is_err() {
                return Err(NoController);
            }
        }
    }

    async fn attempt<R: Asked>(&self, line: &Line, request: &R) -> Result<R::Response, Failed> {
        let mut line = line.lock().await;
        let address = match self.knowledge.active() {
            ActiveController::At(address) => address,
            ActiveController::Unknown => return Err(Failed::Unknown),
            ActiveController::Here => return Err(Failed::Here),
        };
        // A call that is given up leaves no connection behind, on which its answer would come.
        let known = line.take();
        let known = known.filter(|known| known.address() == address && !known.is_broken());
        let calling = async {
            let connection = match known {
                Some(known) => known,
                None => Connection::open(&address, &self.options).await?,
            };
            let response = connection.call_within(request, FORWARDED_FOR).await?;
            Ok::<_, Failed>((connection, response))
        };
        // A machine that has vanished never answers.
        let (connection, response) = tokio::select! {
            biased;
            called = calling => called?,
            () = self.knowledge.moved_from(&address) => return Err(Failed::Moved),
        };
        if R::error(&response) == ErrorCode::NotController {
            return Err(Failed::NotController);
        }
        *line = Some(connection);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::{ActiveController, of_status};
    use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
    use ottla_protocol::time::Timestamp;
    use ottla_quorum::{QuorumStatus, Voter, VoterEndpoint};

    #[test]
    fn a_member_of_the_quorum_knows_the_active_controller_by_its_status() {
        let voter = |id, host: &str| Voter {
            node_id: NodeId(id),
            directory_id: Uuid::from_parts(1, 2),
            endpoints: vec![VoterEndpoint {
                listener: "CONTROLLER".to_owned(),
                host: host.to_owned(),
                port: 93,
            }],
        };
        let mut status = QuorumStatus {
            leader: Some(NodeId(2)),
            epoch: LeaderEpoch(3),
            is_active: false,
            high_watermark: Offset(9),
            log_start: Offset(0),
            voters: vec![voter(1, "a"), voter(2, "::1")],
            kraft_version: 1,
            last_append: Timestamp(0),
        };
        let address = "[::1]:93".to_owned();
        assert_eq!(of_status(&status), ActiveController::At(address));
        status.leader = None;
        assert_eq!(of_status(&status), ActiveController::Unknown);
        status.leader = Some(NodeId(1));
        status.is_active = true;
        assert_eq!(of_status(&status), ActiveController::Here);
    }
}
