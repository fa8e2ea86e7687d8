//! CreatePartitions.

use std::collections::BTreeMap;

use ottla_metadata::Topic;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::assignments::{InvalidAssignment, check_replicas, new_partition};
use crate::placement::{self, Replicas};
use crate::refusal::MAX_PARTITIONS_PER_REQUEST;
use crate::{Decision, Refusal, View};

/// A topic that gets more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The topic's name.
    pub topic: String,
    /// The number of all partitions that it will have.
    pub count: i32,
    /// The replicas of each new partition, if the request assigns them.
    pub assignments: Option<Vec<Replicas>>,
}

/// The reply for each name, in the order in which the request names them first.
pub type Reply = Vec<(String, Result<(), Refusal>)>;

/// Decides CreatePartitions; each topic grows or is refused by itself. A topic that the request has more than once does
/// not grow, and gets one error.
pub fn decide(view: View<'_>, growths: &[Growth], validate_only: bool) -> Decision<Reply> {
    let mut records = Vec::new();
    let mut reply = Vec::new();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for growth in growths {
        *times.entry(&growth.topic).or_default() += 1;
    }
    for growth in growths {
        let result = match times.remove(growth.topic.as_str()) {
            Some(1) => grow(view, growth),
            Some(_) => Err(Refusal::DuplicateTopicName),
            // The first of the same name was answered.
            None => continue,
        };
        reply.push((
            growth.topic.clone(),
            result.map(|its_records| records.extend(its_records)),
        ));
    }
    if validate_only {
        records.clear();
    }
    Decision::new(records, reply)
}

fn grow(view: View<'_>, growth: &Growth) -> Result<Vec<MetadataRecord>, Refusal> {
    let topic = view
        .image
        .topic(&growth.topic)
        .ok_or(Refusal::UnknownTopic)?;
    let additional = additional(topic, growth)?;
    let first = topic.partitions.len();
    let replication_factor = topic
        .partitions
        .values()
        .next()
        .map_or(0, |partition| partition.replicas.len());
    let assignments = match &growth.assignments {
        Some(chosen) if chosen.len() != additional => {
            let assigned = chosen.len();
            return Err(InvalidAssignment::WrongCount {
                additional,
                assigned,
            }
            .into());
        }
        Some(chosen) => {
            for replicas in chosen {
                check_replicas(view.image, replicas, Some(replication_factor))?;
            }
            chosen.clone()
        }
        None => {
            let replication_factor = i16::try_from(replication_factor).unwrap_or(i16::MAX);
            placement::place(
                view.image,
                additional,
                replication_factor,
                view.image.topics.len() + first,
            )?
        }
    };
    let mut records = Vec::new();
    for (number, replicas) in (first..).zip(&assignments) {
        let index = PartitionIndex(i32::try_from(number).unwrap_or(i32::MAX));
        records.push(
            new_partition(view.image, index, replicas)?
                .to_record(topic.id, index)
                .into(),
        );
    }
    Ok(records)
}

fn additional(topic: &Topic, growth: &Growth) -> Result<usize, Refusal> {
    let has = topic.partitions.len();
    let count = usize::try_from(growth.count).unwrap_or(0);
    if count == has {
        return Err(Refusal::SamePartitions { has });
    }
    if count < has {
        return Err(Refusal::FewerPartitions {
            topic: growth.topic.clone(),
            has,
            wanted: growth.count,
        });
    }
    if count - has > MAX_PARTITIONS_PER_REQUEST {
        return Err(Refusal::TooManyAddedPartitions);
    }
    Ok(count - has)
}
