//! `OffsetCommit` (key 8), versions 2 to 10.
//!
//! - 2 to 4: retention time. 6: leader epochs. 7: static members. 8: flexible.
//! - 9: `GROUP_ID_NOT_FOUND`, member epochs. 10: topics by id.

use std::time::Duration;

use ottla_coordinator::group::offsets::{CommitRequest, CommitTopic, OffsetToCommit};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::{
    ErrorCode, KafkaString, KafkaUuid, OffsetCommitRequestData, OffsetCommitResponseData,
};

use super::join_group::owned;
use crate::broker::Broker;
use crate::context::RequestContext;

/// From this version on topics are named by id.
const FIRST_WITH_TOPIC_IDS: i16 = 10;
/// From this version on clients know `GROUP_ID_NOT_FOUND`.
const FIRST_WITH_MISSING_GROUPS: i16 = 9;

/// Commits the offsets of partitions that exist.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetCommitRequestData,
) -> OffsetCommitResponseData {
    let mut answer = Answer {
        by_id: context.version >= FIRST_WITH_TOPIC_IDS,
        topics: Vec::new(),
    };
    let image = broker.controller.image();
    let found = request
        .topics
        .into_iter()
        .filter_map(|topic| existing(&image, topic, &mut answer));
    let topics: Vec<CommitTopic> = found.collect();
    if topics.is_empty() {
        return answer.finish();
    }
    let partitions = places(&topics);
    let commit = CommitRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        retention: u64::try_from(request.retention_time_ms)
            .ok()
            .map(Duration::from_millis),
        knows_missing_groups: context.version >= FIRST_WITH_MISSING_GROUPS,
        topics,
    };
    match broker.groups.ask(commit).await {
        Ok(Ok(topics)) => {
            for topic in topics {
                for partition in topic.partitions {
                    let code = partition.outcome.code();
                    answer.add((&topic.name, topic.id), partition.partition, code);
                }
            }
        }
        Ok(Err(error)) => answer.add_all(&partitions, error.code()),
        Err(unavailable) => answer.add_all(&partitions, unavailable.code()),
    }
    answer.finish()
}

type Place = (String, KafkaUuid, i32);

fn places(topics: &[CommitTopic]) -> Vec<Place> {
    let topics = topics.iter();
    let places = topics.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|offset| (topic.name.clone(), topic.id, offset.partition))
    });
    places.collect()
}

/// The partitions of a topic that exist. The others are answered here.
fn existing(
    image: &MetadataImage,
    topic: OffsetCommitRequestTopic,
    answer: &mut Answer,
) -> Option<CommitTopic> {
    let (found, missing) = if answer.by_id {
        (image.topics.get(&topic.topic_id), ErrorCode::UnknownTopicId)
    } else {
        let found = image.topic(topic.name.as_str());
        (found, ErrorCode::UnknownTopicOrPartition)
    };
    let Some(found) = found else {
        for partition in &topic.partitions {
            let place = (topic.name.as_str(), topic.topic_id);
            answer.add(place, partition.partition_index, missing);
        }
        return None;
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        let index = PartitionIndex(partition.partition_index);
        if found.partitions.contains_key(&index) {
            partitions.push(offset(&partition));
        } else {
            let place = (found.name.as_str(), found.id);
            answer.add(place, index.0, ErrorCode::UnknownTopicOrPartition);
        }
    }
    (!partitions.is_empty()).then(|| CommitTopic {
        name: found.name.clone(),
        id: found.id,
        partitions,
    })
}

fn offset(partition: &OffsetCommitRequestPartition) -> OffsetToCommit {
    OffsetToCommit {
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: owned(partition.committed_metadata.as_ref()),
    }
}

/// The answer under construction; each topic is in it once.
struct Answer {
    by_id: bool,
    topics: Vec<(Key, Vec<OffsetCommitResponsePartition>)>,
}

#[derive(PartialEq)]
enum Key {
    Id(KafkaUuid),
    Name(String),
}

impl Answer {
    fn add(&mut self, (name, id): (&str, KafkaUuid), partition: i32, code: ErrorCode) {
        let key = if self.by_id {
            Key::Id(id)
        } else {
            Key::Name(name.to_owned())
        };
        let response = OffsetCommitResponsePartition::default()
            .with_partition_index(partition)
            .with_error_code(code.code());
        match self.topics.iter_mut().find(|(known, _)| *known == key) {
            Some((_, partitions)) => partitions.push(response),
            None => self.topics.push((key, vec![response])),
        }
    }

    fn add_all(&mut self, places: &[Place], code: ErrorCode) {
        for (name, id, partition) in places {
            self.add((name, *id), *partition, code);
        }
    }

    fn finish(self) -> OffsetCommitResponseData {
        let topics = self.topics.into_iter().map(|(key, partitions)| {
            let topic = OffsetCommitResponseTopic::default().with_partitions(partitions);
            match key {
                Key::Id(id) => topic.with_topic_id(id),
                Key::Name(name) => topic.with_name(KafkaString::from(name)),
            }
        });
        OffsetCommitResponseData::default().with_topics(topics.collect())
    }
}
