//! `RemoveRaftVoter` (key 81), version 0, also on a controller's listener: takes the vote from a controller (KIP-853).

use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::{RemoveRaftVoterRequestData, RemoveRaftVoterResponseData};
use ottla_quorum::VoterChange;

use crate::broker::Broker;
use crate::cluster::raft_voters::{self, Refused};
use crate::cluster::voter_changes::Asks;
use crate::context::RequestContext;

/// Removes a voter. Its controller goes on as an observer.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: RemoveRaftVoterRequestData,
) -> RemoveRaftVoterResponseData {
    let response = RemoveRaftVoterResponseData::default();
    match remove(broker, request).await {
        Ok(()) => response,
        Err(refused) => response
            .with_error_code(refused.code().code())
            .with_error_message(Some(refused.to_string().into())),
    }
}

async fn remove(broker: &Broker, request: RemoveRaftVoterRequestData) -> Result<(), Refused> {
    /// The request gives no time; the default is used.
    const NO_TIMEOUT: i32 = 0;
    raft_voters::check_here(broker, request.cluster_id.as_ref())?;
    raft_voters::check_key(request.voter_id, request.voter_directory_id)?;
    let inbox = raft_voters::inbox(broker)?;
    let change = VoterChange::Remove {
        node_id: NodeId(request.voter_id),
        directory_id: request.voter_directory_id,
    };
    let change = (change, usize::MAX);
    raft_voters::change(inbox, change, (Asks::Committed, NO_TIMEOUT)).await
}
