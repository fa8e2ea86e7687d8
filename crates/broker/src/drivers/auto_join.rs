//! Makes the controller of this process a voter, where `controller.quorum.auto.join.enable` or `ottla serve --join` says so:
//! asks the active controller for the steps that `cluster/auto_join.rs` decides, at intervals until it votes.

use std::sync::Arc;
use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_protocol::messages::add_raft_voter_request::Listener;
use ottla_protocol::messages::{
    AddRaftVoterRequestData, ErrorCode, KafkaString, RemoveRaftVoterRequestData,
};
use ottla_quorum::{QuorumStatus, Voter};
use tokio::sync::watch;
use tokio::time::sleep;

use super::stopping::stopped;
use crate::broker::Broker;
use crate::cluster::auto_join::{self, Step};
use crate::cluster::quorum_leader;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the active controller may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
const ANSWERED_WITHIN_MS: i32 = 10_000;

/// Why this controller does not vote yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("the active controller does not answer: {0}")]
    Call(#[from] ClientError),
    #[error("{0:?}: {1}")]
    Refused(ErrorCode, String),
    #[error("the address of the active controller is not known")]
    Unknown,
}

/// Asks until the node stops. `most` voters are enough.
pub async fn run(broker: Arc<Broker>, most: usize, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        () = join(&broker, most) => {}
        () = stopped(&mut stopping) => {}
    }
}

async fn join(broker: &Broker, most: usize) {
    let mut last_reason = String::new();
    let mut was_asked = false;
    loop {
        sleep(PAUSE).await;
        let inbox = broker.quorum_inbox.get();
        let Some((inbox, status)) = inbox.zip(quorum_leader::status(broker)) else {
            continue;
        };
        let own = &inbox.own.controller;
        let Some(step) = auto_join::step(own, &status, most) else {
            let votes = status.voters.iter().any(|voter| voter.is_same_voter(own));
            if votes && std::mem::take(&mut was_asked) {
                let count = status.voters.len();
                tracing::info!(voters = count, "this controller votes from now on");
            }
            continue;
        };
        was_asked = true;
        if let Err(why) = ask(broker, own, (&status, &step, most)).await {
            let reason = why.to_string();
            // Until it has caught up it is refused, and so it is while another one is added.
            if reason != last_reason {
                tracing::info!(%why, "this controller does not vote yet; trying again");
                last_reason = reason;
            }
        }
    }
}

async fn ask(
    broker: &Broker,
    own: &Voter,
    (status, step, most): (&QuorumStatus, &Step, usize),
) -> Result<(), NotYet> {
    let endpoints = status.leader_endpoints();
    let address = endpoints.first().ok_or(NotYet::Unknown)?.address();
    let options = Options {
        client_id: format!("ottla-controller-{}", own.node_id),
        connect_timeout: ANSWERED_WITHIN,
        request_timeout: ANSWERED_WITHIN,
        ..Options::default()
    };
    let connection = Connection::open(&address, &options).await?;
    let (code, message) = match step {
        Step::Add => {
            let answer = connection.call(&addition(broker, own, most)).await?;
            (answer.error_code, answer.error_message)
        }
        Step::Remove(node, directory) => {
            let removal = RemoveRaftVoterRequestData::default()
                .with_cluster_id(Some(broker.cluster_id.clone()))
                .with_voter_id(node.0)
                .with_voter_directory_id(*directory);
            let answer = connection.call(&removal).await?;
            (answer.error_code, answer.error_message)
        }
    };
    match ErrorCode::from(code) {
        ErrorCode::None => Ok(()),
        code => {
            let message = message.as_ref().map(KafkaString::as_str);
            Err(NotYet::Refused(
                code,
                message.unwrap_or_default().to_owned(),
            ))
        }
    }
}

fn addition(broker: &Broker, own: &Voter, most: usize) -> AddRaftVoterRequestData {
    let listeners = own.endpoints.iter().map(|endpoint| {
        Listener::default()
            .with_name(endpoint.listener.clone().into())
            .with_host(endpoint.host.clone().into())
            .with_port(endpoint.port)
    });
    AddRaftVoterRequestData {
        unknown_tagged_fields: auto_join::field(most).into_iter().collect(),
        ..AddRaftVoterRequestData::default()
    }
    .with_cluster_id(Some(broker.cluster_id.clone()))
    .with_timeout_ms(ANSWERED_WITHIN_MS)
    .with_voter_id(own.node_id.0)
    .with_voter_directory_id(own.directory_id)
    .with_listeners(listeners.collect())
}
