//! `AddRaftVoter` (key 80), versions 0 and 1, also on a controller's listener: makes a controller a voter (KIP-853).
//!
//! - 1: the caller may not wait for the commit.

use ottla_protocol::messages::{AddRaftVoterRequestData, AddRaftVoterResponseData};
use ottla_quorum::{VoterChange, VoterEndpoint};

use crate::broker::Broker;
use crate::cluster::auto_join;
use crate::cluster::quorum_leader;
use crate::cluster::raft_voters::{self, Refused};
use crate::cluster::voter_changes::Asks;
use crate::context::RequestContext;

/// Adds a controller that has caught up to the voters.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AddRaftVoterRequestData,
) -> AddRaftVoterResponseData {
    let response = AddRaftVoterResponseData::default();
    match add(broker, request).await {
        Ok(()) => response,
        Err(refused) => response
            .with_error_code(refused.code().code())
            .with_error_message(Some(refused.to_string().into())),
    }
}

async fn add(broker: &Broker, request: AddRaftVoterRequestData) -> Result<(), Refused> {
    raft_voters::check_here(broker, request.cluster_id.as_ref())?;
    let endpoints = request.listeners.iter().map(|listener| VoterEndpoint {
        listener: listener.name.as_str().to_owned(),
        host: listener.host.as_str().to_owned(),
        port: listener.port,
    });
    let id = (request.voter_id, request.voter_directory_id);
    let (voter, address) = raft_voters::named(broker, id, endpoints.collect())?;
    let inbox = raft_voters::inbox(broker)?;
    let most = auto_join::limit(&request.unknown_tagged_fields).unwrap_or(usize::MAX);
    let change = (VoterChange::Add(voter), most);
    inbox.ask(change.clone(), Asks::WhetherPossible).await?;
    let kraft = quorum_leader::status(broker).map_or(0, |status| status.kraft_version);
    raft_voters::check_supported(&address, kraft).await?;
    let asks = if request.ack_when_committed {
        Asks::Committed
    } else {
        Asks::Proposed
    };
    raft_voters::change(inbox, change, (asks, request.timeout_ms)).await
}
