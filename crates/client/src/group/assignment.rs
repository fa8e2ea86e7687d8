//! The range assignor, and subscriptions and assignments as bytes of the consumer protocol.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ottla_protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignmentData, TopicPartition as AssignedTopic,
};
use ottla_protocol::messages::{ConsumerProtocolSubscriptionData, KafkaString, ProtocolError};

use crate::{Result, TopicPartition};

/// The version of subscriptions and assignments that every consumer reads.
const CONSUMER_PROTOCOL_VERSION: i16 = 1;

/// Assigns each topic to the members that subscribe to it. Each member gets consecutive partitions, in the order of the
/// members. If they cannot be shared evenly, the first members get one more.
pub fn range_assignment<M: Ord + Clone>(
    subscriptions: &BTreeMap<M, Vec<String>>,
    partition_counts: &BTreeMap<String, usize>,
) -> BTreeMap<M, Vec<TopicPartition>> {
    let nobody = |member: &M| (member.clone(), Vec::new());
    let mut assignment: BTreeMap<_, _> = subscriptions.keys().map(nobody).collect();
    for (topic, count) in partition_counts {
        let wants =
            |(member, topics): (&M, &Vec<String>)| topics.contains(topic).then(|| member.clone());
        let members: Vec<_> = subscriptions.iter().filter_map(wants).collect();
        let mut first = 0;
        for (place, member) in members.iter().enumerate() {
            let extra = usize::from(place < count % members.len());
            let share = count / members.len() + extra;
            let assigned = assignment
                .get_mut(member)
                .expect("every member has an entry");
            for partition in first..first + share {
                let index = i32::try_from(partition).expect("partitions have 32-bit indexes");
                assigned.push(TopicPartition::new(topic, index));
            }
            first += share;
        }
    }
    assignment
}

pub(super) fn encode_subscription(topics: &[String]) -> Bytes {
    let subscription = ConsumerProtocolSubscriptionData {
        topics: topics.iter().cloned().map(KafkaString::from).collect(),
        ..ConsumerProtocolSubscriptionData::default()
    };
    let mut out = BytesMut::new();
    out.put_i16(CONSUMER_PROTOCOL_VERSION);
    let written = subscription.write(&mut out, CONSUMER_PROTOCOL_VERSION);
    written.expect("a topic name is shorter than 32 KiB");
    out.freeze()
}

pub(crate) fn decode_subscription(bytes: &Bytes) -> Result<Vec<String>, ProtocolError> {
    let mut bytes = bytes.clone();
    let version = bytes.try_get_i16().unwrap_or(0).clamp(0, 3);
    let subscription = ConsumerProtocolSubscriptionData::read(&mut bytes, version)?;
    Ok(subscription
        .topics
        .iter()
        .map(ToString::to_string)
        .collect())
}

pub(super) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let topics = crate::offsets::by_topic(partitions).into_iter();
    let topic = |(topic, partitions): (&str, _)| AssignedTopic {
        topic: KafkaString::from(topic.to_owned()),
        partitions,
        ..AssignedTopic::default()
    };
    let assignment = ConsumerProtocolAssignmentData {
        assigned_partitions: topics.map(topic).collect(),
        ..ConsumerProtocolAssignmentData::default()
    };
    let mut out = BytesMut::new();
    out.put_i16(CONSUMER_PROTOCOL_VERSION);
    let written = assignment.write(&mut out, CONSUMER_PROTOCOL_VERSION);
    written.expect("a topic name is shorter than 32 KiB");
    out.freeze()
}

/// The partitions of an encoded assignment. Empty bytes are the assignment of a member without partitions.
pub(crate) fn decode_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, ProtocolError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = bytes.clone();
    let version = bytes.try_get_i16().unwrap_or(0).clamp(0, 3);
    let assignment = ConsumerProtocolAssignmentData::read(&mut bytes, version)?;
    let mut partitions = Vec::new();
    for topic in &assignment.assigned_partitions {
        let name = topic.topic.as_str();
        let of_topic = topic.partitions.iter();
        partitions.extend(of_topic.map(|partition| TopicPartition::new(name, *partition)));
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{decode_assignment, encode_assignment, range_assignment};
    use crate::TopicPartition;

    fn assigned(subscriptions: &[(&str, &[&str])], counts: &[(&str, usize)]) -> Vec<String> {
        let topics = |topics: &[&str]| topics.iter().map(ToString::to_string).collect();
        let subscriptions = subscriptions.iter();
        let subscriptions: BTreeMap<_, Vec<String>> = subscriptions
            .map(|(member, of)| (*member, topics(of)))
            .collect();
        let counts = counts
            .iter()
            .map(|(topic, count)| ((*topic).to_owned(), *count));
        let assignment = range_assignment(&subscriptions, &counts.collect());
        let names =
            |of: &Vec<TopicPartition>| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        let line = |(member, of): (&&str, &Vec<TopicPartition>)| {
            format!("{member}: {}", names(of).join(" "))
        };
        assignment.iter().map(line).collect()
    }

    #[test]
    fn the_first_members_get_one_partition_more() {
        let members = [("a", &["t"][..]), ("b", &["t"]), ("c", &["t"])];
        let expected = ["a: t-0 t-1 t-2", "b: t-3 t-4", "c: t-5 t-6"];
        assert_eq!(assigned(&members, &[("t", 7)]), expected);
    }

    #[test]
    fn a_topic_goes_only_to_members_that_want_it() {
        let members = [("a", &["t"][..]), ("b", &["t", "u"])];
        let expected = ["a: t-0", "b: u-0 u-1"];
        assert_eq!(assigned(&members, &[("t", 1), ("u", 2)]), expected);
    }

    #[test]
    fn an_assignment_survives_its_encoding() {
        let partitions = vec![TopicPartition::new("t", 0), TopicPartition::new("u", 3)];
        let decoded = decode_assignment(&encode_assignment(&partitions)).unwrap();
        assert_eq!(decoded, partitions);
    }
}
