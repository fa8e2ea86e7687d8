//! The table of the APIs that are served to clients: one line for each API, with the handler in the file of its name. The
//! table of a controller's listener is [`controller`].
//!
//! `ApiVersions` announces exactly the APIs of the listener's table. Requests are decoded and responses are encoded only here.
//! A handler may be dropped at any `await` when its client goes away; work that must not stop half-way runs in the
//! task or thread that owns the state. Produce has a path of its own, [`produce`]: all Produce requests that have
//! arrived on a connection start together, and later ones may start while earlier ones wait.

#![expect(
    clippy::needless_pass_by_value,
    reason = "every handler takes its request whole, whether it consumes it or not"
)]

pub mod add_raft_voter;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod controller;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod remove_raft_voter;
pub mod sasl_handshake;
pub mod sync_group;
pub mod unregister_broker;
pub mod update_features;

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::{self, ProduceRequestData, ProtocolError};
use ottla_protocol::{api_key, api_key::ApiKey, frame};

use crate::broker::Broker;
use crate::cluster::{current_leader, forward};
use crate::context::{ListenerRole, RequestContext};
use crate::metrics::errors;
use crate::network::limits::Reservation;
use crate::reply::{Part, Reply};

use produce::ProduceReply;

/// A request whose header has been read.
pub struct Request {
    pub context: RequestContext,
    pub body: Bytes,
    /// Its reservation of request memory, if it is large.
    pub reservation: Option<Reservation>,
}

/// A Produce request that has been decoded; its records stay slices of the read buffer.
pub struct Produce {
    request: produce::Request,
    reservation: Option<Reservation>,
}

/// A request that was started.
pub struct Waiting {
    pub context: RequestContext,
    pub answering: Answering,
    /// Dropped when the answer is ready.
    pub reservation: Option<Reservation>,
}

/// A running handler.
pub type Answering = Pin<Box<dyn Future<Output = Result<Reply, Refused>> + Send>>;

/// Why a request is not answered and its connection is closed, as by Kafka.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the request body cannot be decoded: {0}")]
    Body(ProtocolError),
    /// The response cannot be encoded in the version of the request.
    #[error("the response cannot be encoded: {0}")]
    Response(ProtocolError),
    /// A Produce with acks=0 has no answer, so its client learns of a failure from the closed connection.
    #[error("a produce with acks=0 was refused: {0}")]
    UnansweredProduce(String),
    /// The API is not in the table.
    #[error("the API is not served")]
    NotServed,
}

serve_apis! {
    own [Produce, Fetch];
    ListOffsets => logs waits list_offsets::handle(ListOffsetsRequestData),
    OffsetForLeaderEpoch => logs waits offset_for_leader_epoch::handle(OffsetForLeaderEpochRequestData),
    DeleteRecords => logs waits delete_records::handle(DeleteRecordsRequestData),
    InitProducerId => memory waits init_producer_id::handle(InitProducerIdRequestData),
    DescribeProducers => logs ready describe_producers::handle(DescribeProducersRequestData),
    ApiVersions => memory ready api_versions::handle(ApiVersionsRequestData),
    AlterConfigs => memory waits alter_configs::handle(AlterConfigsRequestData),
    CreatePartitions => memory waits create_partitions::handle(CreatePartitionsRequestData),
    CreateTopics => memory waits create_topics::handle(CreateTopicsRequestData),
    DeleteTopics => memory waits delete_topics::handle(DeleteTopicsRequestData),
    DescribeCluster => memory ready describe_cluster::handle(DescribeClusterRequestData),
    DescribeConfigs => memory ready describe_configs::handle(DescribeConfigsRequestData),
    DescribeTopicPartitions => memory ready describe_topic_partitions::handle(DescribeTopicPartitionsRequestData),
    IncrementalAlterConfigs => memory waits incremental_alter_configs::handle(IncrementalAlterConfigsRequestData),
    ListConfigResources => memory ready list_config_resources::handle(ListConfigResourcesRequestData),
    Metadata => memory waits metadata::handle(MetadataRequestData),
    AlterPartitionReassignments => memory waits alter_partition_reassignments::handle(AlterPartitionReassignmentsRequestData),
    AlterReplicaLogDirs => memory ready alter_replica_log_dirs::handle(AlterReplicaLogDirsRequestData),
    CreateAcls => memory ready create_acls::handle(CreateAclsRequestData),
    DeleteAcls => memory ready delete_acls::handle(DeleteAclsRequestData),
    DescribeAcls => memory ready describe_acls::handle(DescribeAclsRequestData),
    DescribeLogDirs => logs ready describe_log_dirs::handle(DescribeLogDirsRequestData),
    DescribeQuorum => memory ready describe_quorum::handle(DescribeQuorumRequestData),
    ElectLeaders => memory waits elect_leaders::handle(ElectLeadersRequestData),
    UnregisterBroker => memory waits unregister_broker::handle(UnregisterBrokerRequestData),
    AddRaftVoter => memory waits add_raft_voter::handle(AddRaftVoterRequestData),
    RemoveRaftVoter => memory waits remove_raft_voter::handle(RemoveRaftVoterRequestData),
    UpdateFeatures => memory waits update_features::handle(UpdateFeaturesRequestData),
    ListPartitionReassignments => memory ready list_partition_reassignments::handle(ListPartitionReassignmentsRequestData),
    FindCoordinator => memory waits find_coordinator::handle(FindCoordinatorRequestData),
    JoinGroup => memory waits join_group::handle(JoinGroupRequestData),
    SyncGroup => memory waits sync_group::handle(SyncGroupRequestData),
    Heartbeat => memory waits heartbeat::handle(HeartbeatRequestData),
    LeaveGroup => memory waits leave_group::handle(LeaveGroupRequestData),
    OffsetCommit => memory waits offset_commit::handle(OffsetCommitRequestData),
    OffsetFetch => memory waits offset_fetch::handle(OffsetFetchRequestData),
    OffsetDelete => memory waits offset_delete::handle(OffsetDeleteRequestData),
    DescribeGroups => memory waits describe_groups::handle(DescribeGroupsRequestData),
    ListGroups => memory waits list_groups::handle(ListGroupsRequestData),
    DeleteGroups => memory waits delete_groups::handle(DeleteGroupsRequestData),
    ConsumerGroupHeartbeat => memory ready consumer_group_heartbeat::handle(ConsumerGroupHeartbeatRequestData),
    ConsumerGroupDescribe => memory ready consumer_group_describe::handle(ConsumerGroupDescribeRequestData),
    DescribeClientQuotas => memory ready describe_client_quotas::handle(DescribeClientQuotasRequestData),
    DescribeUserScramCredentials => memory ready describe_user_scram_credentials::handle(DescribeUserScramCredentialsRequestData),
    ListTransactions => memory ready list_transactions::handle(ListTransactionsRequestData),
    SaslHandshake => memory ready sasl_handshake::handle(SaslHandshakeRequestData),
}

/// APIs that are announced and always answered with `UNSUPPORTED_VERSION`, as by a Kafka that has switched them off
/// by a feature. A client that needs one fails at once; without the announcement it would wait for ever.
pub const REFUSED: &[ApiKey] = &[
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
];

/// Starts the handler of any API but Produce. Nothing has run before the future is polled.
pub fn start(broker: &Arc<Broker>, request: Request) -> Waiting {
    let Request {
        context,
        body,
        reservation,
    } = request;
    let role = context.connection.role;
    let looks_at_logs = match role {
        ListenerRole::Broker => looks_at_logs(context.api),
        ListenerRole::Controller => controller::looks_at_logs(context.api),
    };
    let answer = answer_by_role(Arc::clone(broker), context.clone(), body);
    let answering: Answering = if looks_at_logs {
        let replicas = Arc::clone(&broker.replicas);
        Box::pin(async move { replicas.disk_work().run_async(answer).await })
    } else {
        Box::pin(answer)
    };
    Waiting {
        context,
        answering,
        reservation,
    }
}

async fn answer_by_role(
    broker: Arc<Broker>,
    context: RequestContext,
    body: Bytes,
) -> Result<Reply, Refused> {
    let served = served_versions(context.connection.role, context.api);
    if served.is_none_or(|served| !served.contains(&context.version)) {
        return refuse_version(&context);
    }
    match (context.connection.role, context.api) {
        (ListenerRole::Broker, ApiKey::Fetch) => fetch_reply(&broker, &context, body).await,
        (ListenerRole::Broker, api) if forward::is_forwarded(api) => {
            forwarded(broker, context, body).await
        }
        (ListenerRole::Broker, _) => answer(broker, context, body).await,
        (ListenerRole::Controller, _) => controller::answer(broker, context, body).await,
    }
}

/// Answers a request that belongs to the active controller.
async fn forwarded(
    broker: Arc<Broker>,
    context: RequestContext,
    body: Bytes,
) -> Result<Reply, Refused> {
    loop {
        let Some(controller) = broker.controller.remote() else {
            let reply = answer(Arc::clone(&broker), context.clone(), body.clone()).await?;
            if reply.is_not_controller && broker.controller.remote().is_some() {
                // This controller has lost its office meanwhile. Kafka's clients do not expect to be told.
                continue;
            }
            return Ok(reply);
        };
        let Ok(response) = forward::forward(controller, &context, body.clone()).await else {
            // The controller is here now; or there is none, and each handler has its answer for that.
            return answer(broker, context, body).await;
        };
        return encode(&context, context.version, |out, _| {
            out.extend_from_slice(&response);
            Ok(())
        });
    }
}

impl Produce {
    /// Decodes the body of a Produce request.
    pub fn decode(request: Request) -> Result<Self, Refused> {
        let mut bytes = request.body;
        let version = request.context.version;
        let body = ProduceRequestData::read(&mut bytes, version).map_err(Refused::Body)?;
        Ok(Self {
            request: produce::Request::new(request.context, body),
            reservation: request.reservation,
        })
    }
}

/// Starts all Produce requests in `requests`, in their order. When this returns, their records are appended or refused.
pub fn start_produces(broker: &Arc<Broker>, requests: Vec<Produce>) -> Vec<Waiting> {
    produce::start(broker, requests.iter().map(|produce| &produce.request));
    let started = requests.into_iter().map(|produce| {
        let context = produce.request.context().clone();
        let reply = produce.request.reply();
        Waiting {
            answering: Box::pin(produce_reply(Arc::clone(broker), context.clone(), reply)),
            context,
            reservation: produce.reservation,
        }
    });
    started.collect()
}

async fn produce_reply(
    broker: Arc<Broker>,
    context: RequestContext,
    reply: ProduceReply,
) -> Result<Reply, Refused> {
    let mut response = match reply {
        ProduceReply::None => return Ok(Reply::default()),
        ProduceReply::Close(reason) => return Err(Refused::UnansweredProduce(reason)),
        ProduceReply::Ready(response) => response,
        ProduceReply::Later(response) => response.await,
    };
    current_leader::add_to_produce(&broker, &context, &mut response).await;
    errors::count(&broker.metrics, context.api, &response);
    encode(&context, context.version, |out, version| {
        response.write(out, version)
    })
}

/// The records are parts of the reply of their own, so that they are not copied.
async fn fetch_reply(
    broker: &Broker,
    context: &RequestContext,
    body: Bytes,
) -> Result<Reply, Refused> {
    let mut body = body;
    let request =
        messages::FetchRequestData::read(&mut body, context.version).map_err(Refused::Body)?;
    let (mut response, records) = fetch::handle(broker, context, request).await;
    current_leader::add_to_fetch(broker, context, &mut response).await;
    errors::count(&broker.metrics, context.api, &response);
    encode_parts(context, context.version, |out, version| {
        fetch::parts::write(response, records, (out, version))
    })
}

/// An unknown version of `ApiVersions` is answered in version 0, which any client can read.
fn refuse_version(context: &RequestContext) -> Result<Reply, Refused> {
    if context.api != ApiKey::ApiVersions {
        return Err(Refused::NotServed);
    }
    let response = api_versions::unsupported_version();
    encode(context, 0, |out, version| response.write(out, version))
}

/// Writes frame length, response header and body.
fn encode(
    context: &RequestContext,
    version: i16,
    write: impl FnOnce(&mut BytesMut, i16) -> Result<(), ProtocolError>,
) -> Result<Reply, Refused> {
    encode_parts(context, version, |out, version| {
        write(out, version).map(|()| Vec::new())
    })
}

/// Writes frame length, response header and body; `write` returns the parts of the body that follow the first.
fn encode_parts(
    context: &RequestContext,
    version: i16,
    write: impl FnOnce(&mut BytesMut, i16) -> Result<Vec<Part>, ProtocolError>,
) -> Result<Reply, Refused> {
    let answered = (context.api, version);
    let (front, rest) = frame::response(answered, context.correlation_id, |out| {
        let rest = write(out, version)?;
        Ok((rest.iter().map(Part::len).sum(), rest))
    })
    .map_err(Refused::Response)?;
    let mut parts = Vec::with_capacity(1 + rest.len());
    parts.push(Part::from(front));
    parts.extend(rest);
    Ok(Reply {
        parts,
        is_not_controller: false,
    })
}

/// The APIs of a listener with this role.
pub fn served(role: ListenerRole) -> &'static [ApiKey] {
    match role {
        ListenerRole::Broker => SERVED,
        ListenerRole::Controller => controller::SERVED,
    }
}

/// The versions of `api` that a listener with this role answers, if it serves the API at all.
pub fn served_versions(role: ListenerRole, api: ApiKey) -> Option<std::ops::RangeInclusive<i16>> {
    served(role).contains(&api).then(|| api_key::versions(api))
}
