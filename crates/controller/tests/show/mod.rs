//! Records and replies as lines of a story.

use std::fmt::Debug;

use ottla_controller::Refusal;
use ottla_controller::create_topics;
use ottla_controller::delete_topics::Named;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::MetadataRecord;

/// How a reply names a topic.
pub fn topic(named: &Named) -> String {
    let words = [named.name.clone(), named.id.map(id)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn id(id: Uuid) -> String {
    format!("id-{}", id.least_significant_bits())
}

/// One record, with what differs from its defaults.
pub fn record(record: &MetadataRecord) -> String {
    let text = match record {
        MetadataRecord::Topic(topic) => format!("Topic {} {}", topic.name, id(topic.topic_id)),
        MetadataRecord::Partition(partition) => format!(
            "Partition {}-{} replicas {:?} isr {:?} leader {}",
            id(partition.topic_id),
            partition.partition_id,
            partition.replicas,
            partition.isr,
            partition.leader
        ),
        MetadataRecord::PartitionChange(change) if change.directories.is_some() => format!(
            "PartitionChange {}-{} directories {:?}",
            id(change.topic_id),
            change.partition_id,
            change
                .directories
                .iter()
                .flatten()
                .map(|directory| directory.least_significant_bits())
                .collect::<Vec<_>>()
        ),
        MetadataRecord::PartitionChange(change) => format!(
            "PartitionChange {}-{} leader {} isr {:?} recovery {}",
            id(change.topic_id),
            change.partition_id,
            change.leader,
            change.isr,
            change.leader_recovery_state
        ),
        MetadataRecord::RemoveTopic(topic) => format!("RemoveTopic {}", id(topic.topic_id)),
        MetadataRecord::Config(config) => format!(
            "Config {}:{} {} = {:?}",
            config.resource_type, config.resource_name, config.name, config.value
        ),
        MetadataRecord::RegisterBroker(broker) => {
            format!(
                "RegisterBroker {} epoch {} fenced {}",
                broker.broker_id, broker.broker_epoch, broker.fenced
            )
        }
        MetadataRecord::BrokerRegistrationChange(change) => {
            format!(
                "BrokerRegistrationChange {} fenced {}",
                change.broker_id, change.fenced
            )
        }
        MetadataRecord::ProducerIds(ids) => {
            format!(
                "ProducerIds broker {} next {}",
                ids.broker_id, ids.next_producer_id
            )
        }
        other => format!("{other:?}"),
    };
    format!("{text}\n")
}

/// A reply about one thing.
pub fn outcome<T: Debug>(what: &str, result: &Result<T, Refusal>) -> String {
    match result {
        Ok(value) => format!("{what}: ok {value:?}\n"),
        Err(refusal) => refused(what, refusal),
    }
}

/// Replies about several things.
pub fn outcomes<'a, T: 'a>(
    results: impl Iterator<Item = (String, &'a Result<T, Refusal>)>,
) -> String {
    results
        .map(|(what, result)| match result {
            Ok(_) => format!("{what}: ok\n"),
            Err(refusal) => refused(&what, refusal),
        })
        .collect()
}

/// The reply of CreateTopics.
pub fn created(reply: &create_topics::Reply) -> String {
    reply
        .iter()
        .map(|(name, result)| match result {
            Ok(topic) => format!(
                "{name}: ok {} {} partition(s) {} replica(s)\n",
                id(topic.id),
                topic.partitions,
                topic.replication_factor
            ),
            Err(refusal) => refused(name, refusal),
        })
        .collect()
}

fn refused(what: &str, refusal: &Refusal) -> String {
    format!("{what}: {:?}: {refusal}\n", refusal.code())
}
