//! `UpdateRaftVoter` (key 82), version 0: a voter is reached elsewhere, or supports other versions (KIP-853).
//!
//! Ottla's own controllers say so when they connect to each other.

use ottla_protocol::messages::update_raft_voter_response::CurrentLeader;
use ottla_protocol::messages::{UpdateRaftVoterRequestData, UpdateRaftVoterResponseData};
use ottla_quorum::{VoterChange, VoterEndpoint, VotersRefused};

use crate::broker::Broker;
use crate::cluster::quorum_leader;
use crate::cluster::raft_voters::{self, Refused};
use crate::cluster::voter_changes::Asks;
use crate::context::RequestContext;

/// Changes the endpoints of a voter. The answer names the leader, whatever the outcome.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: UpdateRaftVoterRequestData,
) -> UpdateRaftVoterResponseData {
    let code = match update(broker, request).await {
        Ok(()) => 0,
        Err(refused) => refused.code().code(),
    };
    let response = UpdateRaftVoterResponseData::default().with_error_code(code);
    let Some(status) = quorum_leader::status(broker) else {
        return response;
    };
    let leader = CurrentLeader::default()
        .with_leader_id(quorum_leader::leader_id(&status))
        .with_leader_epoch(status.epoch.0);
    response.with_current_leader(match quorum_leader::endpoint(&status, context) {
        Some(endpoint) => leader
            .with_host(endpoint.host.into())
            .with_port(endpoint.port.into()),
        None => leader,
    })
}

async fn update(broker: &Broker, request: UpdateRaftVoterRequestData) -> Result<(), Refused> {
    raft_voters::check_here(broker, request.cluster_id.as_ref())?;
    let status = quorum_leader::status(broker).ok_or(VotersRefused::NotLeader)?;
    if quorum_leader::check_epoch(&status, request.current_leader_epoch).is_err() {
        return Err(VotersRefused::NotLeader.into());
    }
    let endpoints = request.listeners.iter().map(|listener| VoterEndpoint {
        listener: listener.name.as_str().to_owned(),
        host: listener.host.as_str().to_owned(),
        port: listener.port,
    });
    let id = (request.voter_id, request.voter_directory_id);
    let (voter, _) = raft_voters::named(broker, id, endpoints.collect())?;
    let range = &request.k_raft_version_feature;
    let supported = range.min_supported_version..=range.max_supported_version;
    if range.min_supported_version < 0 || !supported.contains(&status.kraft_version) {
        return Err(Refused::KraftVersion(status.kraft_version));
    }
    let change = VoterChange::Update(voter);
    let inbox = raft_voters::inbox(broker)?;
    Ok(inbox.ask((change, usize::MAX), Asks::Proposed).await?)
}
