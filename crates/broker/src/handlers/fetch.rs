//! `Fetch` (key 1), versions 4 to 18.
//!
//! - 4: isolation level. 5: log start offset. 7: sessions. 9: the reader's leader epoch. 11: rack.
//! - 12: flexible; the epoch of the last record. 13: topics by id. 15: replica state. 16: node endpoints.
//! - 17: replica directories. 18: the reader's high watermark.
//!
//! Reads are planned first, without reading, until there are enough bytes or the time is up (`planning`). Then the bytes
//! are read, outside of every lock. Partitions are read in the order of the request. The first one with records returns at
//! least one whole batch, whatever the limits. When answers hold as many log files open as they may, further
//! partitions return nothing, as when the byte limit is reached.

pub mod parts;
mod planning;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_log::files::disk::Disk;
use ottla_log::{Bound, ReadPlan, StorageError};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::messages::{ErrorCode, FetchRequestData, FetchResponseData};
use ottla_replication::Replica;

use self::planning::{Outcome, Settled, plan_enough};
use self::target::Target;
use crate::broker::Broker;
use crate::cluster::isr_changes::IsrChanges;
use crate::cluster::{endpoints, flushed_offset, no_room};
use crate::config::ReadFrom;
use crate::context::RequestContext;
use crate::drivers::cold_reads::{ColdReads, Records};
use crate::fetch_sessions::{
    Answered, Asker, FetchContext, FetchKey, FetchNews, FetchTopicKey, FetchWish, SessionRequest,
};
use crate::process::clock::Clock;
use crate::process::held_files::{HeldFile, HeldFiles};
use crate::replicas::partition::{AnsweredBy, Planned, Unavailable};
use crate::replicas::quotas::ReplicationQuotas;
use crate::reply::Part;

/// From this version on consumers tell their rack, and may read from followers.
const FIRST_WITH_RACK: i16 = 11;
/// From this version on topics are named by id.
const FIRST_WITH_TOPIC_IDS: i16 = 13;
/// From this version on a follower tells its broker epoch.
const FIRST_WITH_REPLICA_STATE: i16 = 15;
/// Up to this version clients do not know `KAFKA_STORAGE_ERROR`.
const LAST_WITHOUT_STORAGE_ERROR: i16 = 5;
/// Fewer bytes of records are read into memory; more are sent from their file by the kernel.
const SMALLEST_SENT_FROM_FILE: usize = 64 << 10;
/// The replica id of a consumer.
const CONSUMER: i32 = -1;

/// Answers as soon as there are enough records, or the time is up. The records are returned beside the response, in the
/// order of its partitions.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FetchRequestData,
) -> (FetchResponseData, Vec<Part>) {
    let version = context.version;
    let limits = Limits::of(broker, context, &request);
    let session = session_request(&request, version, limits.asker());
    let begun = broker
        .fetch_sessions
        .begin(session, broker.clock.monotonic());
    let (session, asked) = match begun {
        Ok(begun) => begun,
        Err(code) => {
            let refused = FetchResponseData::default().with_error_code(code.code());
            return (refused, Vec::new());
        }
    };
    let targets = asked.into_iter();
    let targets = targets.map(|(place, key, wish)| (place, Target::find(broker, key, wish)));
    let planned = plan(broker, &session, targets.collect(), &limits).await;
    let mut answered = Vec::with_capacity(planned.len());
    for (place, (target, plan)) in planned {
        let is_throttled = target.is_throttled(&limits);
        let (news, answer) = answer(broker, &target, plan, version).await;
        if is_throttled {
            // What followers in sync get counts too, as in Kafka.
            let bytes = news.records_bytes as u64;
            limits.quotas.leader.record(bytes, broker.clock.monotonic());
        }
        let settled_at = match &session {
            FetchContext::Incremental(of) => target.settle((&of.reader, place), &news, &limits),
            _ => None,
        };
        answered.push(Answered {
            key: target.key,
            wish: target.wish,
            news,
            answer,
            settled_at,
        });
    }
    respond(broker, session, answered, version)
}

/// Plans the reads of `targets`, and of partitions of the session that are settled and change meanwhile.
async fn plan(
    broker: &Broker,
    session: &FetchContext,
    targets: BTreeMap<usize, Target>,
    limits: &Limits,
) -> BTreeMap<usize, (Target, Outcome)> {
    let FetchContext::Incremental(of) = session else {
        return plan_enough(targets, Settled::none(), limits).await;
    };
    let find = |place| {
        let (key, wish) = of.changed(place)?;
        Some(Target::find_settled(broker, key, wish))
    };
    let settled = Settled {
        count: of.settled,
        reader: Arc::clone(&of.reader),
        find: &find,
    };
    let planned = plan_enough(targets, settled, limits).await;
    // Nothing is flushed for a session between its requests.
    of.reader.lacks(usize::MAX);
    planned
}

fn session_request(request: &FetchRequestData, version: i16, asker: Asker) -> SessionRequest {
    let uses_topic_ids = version >= FIRST_WITH_TOPIC_IDS;
    let mut wishes = Vec::new();
    for topic in &request.topics {
        let topic_key = if uses_topic_ids {
            FetchTopicKey::Id(topic.topic_id)
        } else {
            FetchTopicKey::Name(topic.topic.clone())
        };
        for partition in &topic.partitions {
            let key = FetchKey {
                topic: topic_key.clone(),
                partition: partition.partition,
            };
            let wish = FetchWish {
                offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
                flushed: flushed_offset::find(&partition.unknown_tagged_fields),
                has_room: !no_room::is_in(&partition.unknown_tagged_fields),
            };
            wishes.push((key, wish));
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_key = if uses_topic_ids {
            FetchTopicKey::Id(topic.topic_id)
        } else {
            FetchTopicKey::Name(topic.topic.clone())
        };
        let keys = topic.partitions.iter();
        forgotten.extend(keys.map(|partition| FetchKey {
            topic: topic_key.clone(),
            partition: *partition,
        }));
    }
    SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        uses_topic_ids,
        asker,
        wishes,
        forgotten,
    }
}

fn replica_id(request: &FetchRequestData, version: i16) -> i32 {
    if version >= FIRST_WITH_REPLICA_STATE {
        request.replica_state.replica_id
    } else {
        request.replica_id
    }
}

/// The follower that asks, if its request comes from one.
fn follower(request: &FetchRequestData, version: i16) -> Option<Replica> {
    let node = replica_id(request, version);
    let broker_epoch = request.replica_state.replica_epoch;
    (node >= 0).then_some(Replica {
        node: NodeId(node),
        broker_epoch: (version >= FIRST_WITH_REPLICA_STATE && broker_epoch >= 0)
            .then_some(broker_epoch),
    })
}

/// The brokers in the rack of the consumer that asks, if this one is in another rack and `replica.selector.class` says that
/// they answer.
fn near(broker: &Broker, context: &RequestContext, request: &FetchRequestData) -> BTreeSet<NodeId> {
    let rack = &request.rack_id;
    let is_consumer = replica_id(request, context.version) == CONSUMER;
    let is_asked = is_consumer && context.version >= FIRST_WITH_RACK && !rack.is_empty();
    let is_here = broker.config.rack.as_deref() == Some(rack.as_str());
    if !is_asked || is_here || broker.config.replication.read_from == ReadFrom::Leader {
        return BTreeSet::new();
    }
    let nodes = endpoints::nodes(broker, &broker.controller.image(), context).into_iter();
    let near = nodes.filter(|node| !node.fenced && node.rack.as_ref() == Some(rack));
    near.map(|node| node.id).collect()
}

/// The bounds of one request.
struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    max_wait: Duration,
    bound: Bound,
    follower: Option<Replica>,
    answered_by: AnsweredBy,
    /// The followers that a consumer should rather read from, because they are in its rack.
    near: BTreeSet<NodeId>,
    isr_changes: Arc<IsrChanges>,
    held_files: Arc<HeldFiles>,
    cold_reads: Arc<ColdReads<Disk>>,
    quotas: Arc<ReplicationQuotas>,
    clock: Clock,
}

impl Limits {
    fn of(broker: &Broker, context: &RequestContext, request: &FetchRequestData) -> Self {
        let version = context.version;
        let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let replica = replica_id(request, version);
        let bound = match (replica, request.isolation_level) {
            (CONSUMER, 1) => Bound::LastStableOffset,
            (CONSUMER, _) => Bound::HighWatermark,
            _ => Bound::LogEnd,
        };
        let max_bytes = bytes(request.max_bytes).min(broker.config.records.fetch_max_bytes);
        Self {
            max_bytes,
            min_bytes: bytes(request.min_bytes).min(max_bytes),
            max_wait: Duration::from_millis(request.max_wait_ms.max(0).cast_unsigned().into()),
            bound,
            follower: follower(request, version),
            answered_by: if replica == CONSUMER && version >= FIRST_WITH_RACK {
                AnsweredBy::AnyReplica
            } else {
                AnsweredBy::Leader
            },
            near: near(broker, context, request),
            isr_changes: Arc::clone(&broker.isr_changes),
            held_files: Arc::clone(&broker.held_files),
            cold_reads: Arc::clone(&broker.cold_reads),
            quotas: Arc::clone(broker.replicas.quotas()),
            clock: broker.clock,
        }
    }

    fn asker(&self) -> Asker {
        Asker {
            follower: self.follower,
            bound: self.bound,
            answered_by: self.answered_by,
            may_be_sent_elsewhere: !self.near.is_empty(),
        }
    }
}

/// A partition's answer and its records.
type Answer = (PartitionData, Part);

/// Reads the planned records, or leaves them to be sent from their file.
async fn answer(
    broker: &Broker,
    target: &Target,
    plan: Outcome,
    version: i16,
) -> (FetchNews, Answer) {
    let read = async {
        let (planned, held) = plan?;
        let data = partition_data(target.key.partition, &planned);
        let records = records(broker, planned.plan, held).await;
        let records = records.map_err(|error| Unavailable::from(error).code())?;
        Ok((data, records))
    };
    let (data, records) = read
        .await
        .unwrap_or_else(|code| (failed(target.key.partition, code, version), Part::default()));
    let news = FetchNews {
        records_bytes: records.len(),
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
        must_be_told: data.diverging_epoch.epoch >= 0
            || data.diverging_epoch.end_offset >= 0
            || data.preferred_read_replica >= 0,
        is_error: data.error_code != 0,
    };
    if let Ok(partition) = &target.found {
        partition.traffic.fetched(news.records_bytes);
    }
    (news, (data, records))
}

/// Reads planned records into memory, or leaves them in their file. Few bytes are cheaper to read and to send with
/// the rest of the answer, unless the answers of all connections hold as much memory as they may. Many bytes stay in
/// their file, unless answers hold many files open and there is memory.
async fn records(
    broker: &Broker,
    plan: ReadPlan<Disk>,
    held: Option<HeldFile>,
) -> Result<Part, StorageError> {
    let Some(held) = held else {
        return Ok(Part::default());
    };
    let is_large = plan.length >= SMALLEST_SENT_FROM_FILE && !broker.held_files.are_scarce();
    if is_large || broker.read_buffers.are_spent() {
        return Ok(Part::from((plan, held)));
    }
    let mut is_cold = false;
    let cached = broker.read_buffers.read(plan.length, |buffer| {
        let read = plan.read_cached_into(buffer)?;
        is_cold = read.is_none();
        Ok::<_, StorageError>(read.unwrap_or(0))
    })?;
    if !is_cold {
        return Ok(Part::from(cached));
    }
    drop(cached);
    let cold = cold_records(&broker.cold_reads, &plan).await?;
    let read = |buffer: &mut [u8]| match &cold {
        Some(parts) => Ok(plan.fill(buffer, parts)),
        None => plan.read_into(buffer),
    };
    broker.read_buffers.read(plan.length, read).map(Part::from)
}

/// The bytes of `plan`, in parts; `None` if they are in the page cache now.
async fn cold_records(
    cold_reads: &ColdReads<Disk>,
    plan: &ReadPlan<Disk>,
) -> Result<Option<Vec<Bytes>>, StorageError> {
    let (mut parts, mut length) = (Vec::new(), 0);
    while length < plan.length {
        let part = match cold_reads.records(plan, length) {
            Records::Read(part) => Some(part),
            Records::Loading(mut loading) => loading.wait().await?,
        };
        let Some(part) = part else {
            return Ok(None);
        };
        length += part.len();
        parts.push(part);
    }
    Ok(Some(parts))
}

fn partition_data(index: i32, planned: &Planned) -> PartitionData {
    let aborted = planned.plan.aborted.as_ref().map(|aborted| {
        let entries = aborted.iter().map(|transaction| {
            AbortedTransaction::default()
                .with_producer_id(transaction.producer_id.0)
                .with_first_offset(transaction.first_offset.0)
        });
        entries.collect()
    });
    let mut data = PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(planned.offsets.high_watermark.0)
        .with_last_stable_offset(planned.offsets.last_stable.0)
        .with_log_start_offset(planned.offsets.log_start.0)
        .with_aborted_transactions(aborted);
    if let Some(node) = planned.read_replica {
        data.preferred_read_replica = node.0;
    }
    if let Some((epoch, end)) = planned.diverging {
        data.diverging_epoch = EpochEndOffset::default()
            .with_epoch(epoch.0)
            .with_end_offset(end.0);
    }
    data
}

fn failed(index: i32, code: ErrorCode, version: i16) -> PartitionData {
    let code = match code {
        ErrorCode::KafkaStorageError if version <= LAST_WITHOUT_STORAGE_ERROR => {
            ErrorCode::NotLeaderOrFollower
        }
        code => code,
    };
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(code.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
}

/// Adjacent partitions of one topic share an entry, as in Kafka.
fn respond(
    broker: &Broker,
    session: FetchContext,
    answered: Vec<Answered<Answer>>,
    version: i16,
) -> (FetchResponseData, Vec<Part>) {
    let mut answered = answered;
    let mut all_records = Vec::with_capacity(answered.len());
    let finished = broker
        .fetch_sessions
        .finish(session, &mut answered, broker.clock.monotonic());
    let mut topics: Vec<(FetchTopicKey, FetchableTopicResponse)> = Vec::new();
    for Answered { key, answer, .. } in answered {
        let (data, records) = answer;
        all_records.push(records);
        match topics.last_mut() {
            Some((topic, response)) if *topic == key.topic => response.partitions.push(data),
            _ => {
                let response = FetchableTopicResponse::default().with_partitions(vec![data]);
                let response = match &key.topic {
                    FetchTopicKey::Id(id) => response.with_topic_id(*id),
                    FetchTopicKey::Name(name) => response.with_topic(name.clone()),
                };
                topics.push((key.topic, response));
            }
        }
    }
    let session_id = if version >= 7 { finished.session_id } else { 0 };
    let response = FetchResponseData::default()
        .with_error_code(finished.error.code())
        .with_session_id(session_id)
        .with_responses(topics.into_iter().map(|(_, response)| response).collect());
    (response, all_records)
}
