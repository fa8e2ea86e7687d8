//! `OffsetDelete` (key 47), version 0.

use ottla_coordinator::group::offsets::OffsetDeleteRequest;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::messages::{
    ErrorCode, KafkaString, OffsetDeleteRequestData, OffsetDeleteResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Deletes offsets of partitions that exist and that no member of the group subscribes to.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: OffsetDeleteRequestData,
) -> OffsetDeleteResponseData {
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let mut answer = Answer::default();
    let delete = OffsetDeleteRequest {
        group_id: request.group_id.as_str().to_owned(),
        topics: existing(&broker.controller.image(), request, &mut answer),
    };
    match broker.groups.ask(delete).await {
        Ok(Ok(topics)) => {
            for (topic, partitions) in topics {
                for (partition, outcome) in partitions {
                    answer.add(&topic, partition, outcome.code());
                }
            }
            answer.finish()
        }
        Ok(Err(error)) => refused(error.code()),
        Err(unavailable) => refused(unavailable.code()),
    }
}

fn refused(code: ErrorCode) -> OffsetDeleteResponseData {
    OffsetDeleteResponseData::default().with_error_code(code.code())
}

/// The partitions that exist. The others are answered here.
fn existing(
    image: &MetadataImage,
    request: OffsetDeleteRequestData,
    answer: &mut Answer,
) -> Vec<(String, Vec<i32>)> {
    let mut topics = Vec::new();
    for topic in request.topics {
        let name = topic.name.as_str();
        let found = image.topic(name);
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let index = partition.partition_index;
            if found.is_some_and(|found| found.partitions.contains_key(&PartitionIndex(index))) {
                partitions.push(index);
            } else {
                answer.add(name, index, ErrorCode::UnknownTopicOrPartition);
            }
        }
        if !partitions.is_empty() {
            topics.push((name.to_owned(), partitions));
        }
    }
    topics
}

/// The answer under construction; each topic is in it once.
#[derive(Default)]
struct Answer(Vec<(String, Vec<OffsetDeleteResponsePartition>)>);

impl Answer {
    fn add(&mut self, topic: &str, partition: i32, code: ErrorCode) {
        let response = OffsetDeleteResponsePartition::default()
            .with_partition_index(partition)
            .with_error_code(code.code());
        match self.0.iter_mut().find(|(known, _)| known == topic) {
            Some((_, partitions)) => partitions.push(response),
            None => self.0.push((topic.to_owned(), vec![response])),
        }
    }

    fn finish(self) -> OffsetDeleteResponseData {
        let topics = self.0.into_iter().map(|(name, partitions)| {
            OffsetDeleteResponseTopic::default()
                .with_name(KafkaString::from(name))
                .with_partitions(partitions)
        });
        OffsetDeleteResponseData::default().with_topics(topics.collect())
    }
}
