//! `OffsetFetch` (key 9), versions 1 to 10.
//!
//! - 2: null asks for every offset of the group; an error for the whole answer. 5: leader epochs. 6: flexible.
//! - 7: a client may ask for an error where an open transaction has pending offsets. 8: several groups.
//! - 9: member epochs. 10: topics by id.

use ottla_coordinator::group::offsets::{Fetched, FetchedTopic, OffsetFetchRequest, TopicToFetch};
use ottla_metadata::MetadataImage;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{
    ErrorCode, KafkaString, KafkaUuid, OffsetFetchRequestData, OffsetFetchResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// From this version on there is an error for a whole answer, or for a group.
const FIRST_WITH_ERROR: i16 = 2;
/// From this version on several groups are asked for at once.
const FIRST_WITH_MANY_GROUPS: i16 = 8;
/// From this version on topics are named by id.
const FIRST_WITH_TOPIC_IDS: i16 = 10;

/// Answers with the committed offsets of groups.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequestData,
) -> OffsetFetchResponseData {
    let require_stable = request.require_stable;
    let mut answers = Vec::new();
    for group in groups(request, context.version) {
        answers.push(fetch(broker, context.version, group, require_stable).await);
    }
    if context.version >= FIRST_WITH_MANY_GROUPS {
        return OffsetFetchResponseData::default().with_groups(answers);
    }
    let answer = answers.pop().unwrap_or_default();
    single(answer, context.version)
}

/// Versions before 8 ask for one group, in other fields.
fn groups(request: OffsetFetchRequestData, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= FIRST_WITH_MANY_GROUPS {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_topics(topics);
    vec![group]
}

async fn fetch(
    broker: &Broker,
    version: i16,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = broker.controller.image();
    let (topics, unknown) = match group.topics {
        Some(topics) => {
            let (topics, unknown) = named(&image, topics, version);
            (Some(topics), unknown)
        }
        None => (None, Vec::new()),
    };
    let wants_all = topics.is_none();
    let request = OffsetFetchRequest {
        group_id: group.group_id.as_str().to_owned(),
        topics: topics.clone(),
        require_stable,
    };
    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
    match broker.groups.ask(request).await {
        Ok(fetched) => {
            let fetched = fetched.into_iter();
            let fetched = fetched.filter_map(|topic| wire(&image, topic, version, wants_all));
            answer.with_topics(fetched.chain(unknown).collect())
        }
        Err(unavailable) => refused(
            answer,
            topics.unwrap_or_default(),
            unavailable.code(),
            version,
        ),
    }
}

/// The topics by name. Topics with an unknown id are answered here.
fn named(
    image: &MetadataImage,
    topics: Vec<OffsetFetchRequestTopics>,
    version: i16,
) -> (Vec<TopicToFetch>, Vec<OffsetFetchResponseTopics>) {
    let mut known = Vec::with_capacity(topics.len());
    let mut unknown = Vec::new();
    for topic in topics {
        let name = if version >= FIRST_WITH_TOPIC_IDS {
            image
                .topics
                .get(&topic.topic_id)
                .map(|topic| topic.name.clone())
        } else {
            Some(topic.name.as_str().to_owned())
        };
        match name {
            Some(name) => known.push(TopicToFetch {
                name,
                id: topic.topic_id,
                partitions: topic.partition_indexes,
            }),
            None => unknown.push(unknown_topic(&topic)),
        }
    }
    (known, unknown)
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter();
    let partitions = partitions.map(|index| {
        failed(*index, ErrorCode::UnknownTopicId).with_metadata(Some(KafkaString::default()))
    });
    OffsetFetchResponseTopics::default()
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions.collect())
}

fn failed(index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(KafkaString::default()))
        .with_error_code(code.code())
}

/// A topic of the answer; left out where the version names topics by id and the topic was deleted.
fn wire(
    image: &MetadataImage,
    topic: FetchedTopic,
    version: i16,
    wants_all: bool,
) -> Option<OffsetFetchResponseTopics> {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|(index, fetched)| partition(index, fetched));
    let response = OffsetFetchResponseTopics::default().with_partitions(partitions.collect());
    if version < FIRST_WITH_TOPIC_IDS {
        return Some(response.with_name(topic.name.into()));
    }
    let id = if wants_all {
        image.topic_ids.get(&topic.name).copied()
    } else {
        Some(topic.id)
    };
    let id = id.filter(|id| *id != KafkaUuid::ZERO)?;
    Some(response.with_topic_id(id))
}

fn partition(index: i32, fetched: Fetched) -> OffsetFetchResponsePartitions {
    match fetched {
        Fetched::Nothing => failed(index, ErrorCode::None),
        Fetched::Unstable => failed(index, ErrorCode::UnstableOffsetCommit),
        Fetched::Offset(committed) => OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch.unwrap_or(-1))
            .with_metadata(Some(committed.metadata.into())),
    }
}

/// Version 1 has room for an error at each partition only.
fn refused(
    answer: OffsetFetchResponseGroup,
    topics: Vec<TopicToFetch>,
    code: ErrorCode,
    version: i16,
) -> OffsetFetchResponseGroup {
    if version >= FIRST_WITH_ERROR {
        return answer.with_error_code(code.code());
    }
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| failed(*index, code));
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.into())
            .with_partitions(partitions.collect())
    });
    answer.with_topics(topics.collect())
}

/// One group's answer in the fields that older versions have.
fn single(answer: OffsetFetchResponseGroup, version: i16) -> OffsetFetchResponseData {
    let topics = answer.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            let response = OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code);
            if version >= 5 {
                response.with_committed_leader_epoch(partition.committed_leader_epoch)
            } else {
                response
            }
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    let response = OffsetFetchResponseData::default().with_topics(topics.collect());
    if version >= FIRST_WITH_ERROR {
        response.with_error_code(answer.error_code)
    } else {
        response
    }
}
