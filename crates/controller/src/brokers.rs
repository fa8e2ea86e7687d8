//! Brokers come, become usable, and go: registration, unfencing, fencing.

use ottla_metadata::partition::NO_LEADER_CHANGE;
use ottla_metadata::{BrokerRegistration, MetadataImage, Partition};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::register_broker_record::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::messages::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, PartitionChangeRecord, RegisterBrokerRecord,
};

use crate::{Decision, Refusal, View};

/// Decides BrokerRegistration. `epoch` is the offset that the first record of the proposal will have: larger
/// than every earlier epoch. A broker that is registered already is registered anew, fenced, and leads nothing
/// until it is unfenced.
pub fn register(
    view: View<'_>,
    broker: &BrokerRegistration,
    epoch: i64,
) -> Decision<Result<i64, Refusal>> {
    if let Some(refusal) = unsupported_feature(view.image, broker) {
        return Decision::reply(Err(refusal));
    }
    let mut records = lose_leaderships(view.image, broker.id);
    let endpoints = broker.endpoints.iter().map(|endpoint| BrokerEndpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
        ..BrokerEndpoint::default()
    });
    let features = broker.features.iter().map(|feature| BrokerFeature {
        name: feature.name.clone(),
        min_supported_version: feature.minimum,
        max_supported_version: feature.maximum,
        ..BrokerFeature::default()
    });
    // The registration comes last in its batch: its own leaderships were given up by the old incarnation.
    records.push(
        RegisterBrokerRecord {
            broker_id: broker.id.0,
            incarnation_id: broker.incarnation,
            broker_epoch: epoch,
            end_points: endpoints.collect(),
            features: features.collect(),
            rack: broker.rack.clone(),
            fenced: true,
            log_dirs: broker.directories.clone(),
            ..RegisterBrokerRecord::default()
        }
        .into(),
    );
    Decision {
        records,
        reply: Ok(epoch),
    }
}

fn unsupported_feature(image: &MetadataImage, broker: &BrokerRegistration) -> Option<Refusal> {
    let supports = |name: &str, level: i16| {
        let range = broker.features.iter().find(|feature| feature.name == name);
        range.map_or(level == 0, |range| {
            (range.minimum..=range.maximum).contains(&level)
        })
    };
    let (name, level) = image
        .features
        .iter()
        .find(|(name, level)| !supports(name, **level))?;
    Some(Refusal::UnsupportedFeature(format!(
        "unable to register because the broker does not support finalized version {level} of {name}"
    )))
}

/// Decides the end of fencing: the broker has caught up, and may lead again what has no leader.
pub fn unfence(view: View<'_>, id: NodeId, epoch: i64) -> Decision<Result<(), Refusal>> {
    let Some(broker) = view.image.brokers.get(&id) else {
        return Decision::reply(Err(Refusal::UnknownBroker(id.0)));
    };
    if broker.epoch != epoch {
        return Decision::reply(Err(Refusal::StaleBrokerEpoch));
    }
    if !broker.fenced {
        return Decision::reply(Ok(()));
    }
    let change = BrokerRegistrationChangeRecord {
        broker_id: id.0,
        broker_epoch: epoch,
        fenced: -1,
        ..BrokerRegistrationChangeRecord::default()
    };
    let mut records = vec![MetadataRecord::from(change)];
    let led = partitions_of(view.image, id)
        .filter(|(_, _, partition)| partition.leader.is_none() && partition.isr.contains(&id));
    records.extend(led.map(|(topic, index, _)| leader_change(topic, index, id.0)));
    Decision {
        records,
        reply: Ok(()),
    }
}

/// The records by which a broker gives up what it leads. The last in-sync replica stays in the ISR: it alone
/// has every acknowledged record, and leads again when it comes back.
fn lose_leaderships(image: &MetadataImage, id: NodeId) -> Vec<MetadataRecord> {
    if image.brokers.get(&id).is_none_or(|broker| broker.fenced) {
        return Vec::new();
    }
    partitions_of(image, id)
        .filter(|(_, _, partition)| partition.leader == Some(id))
        .map(|(topic, index, partition)| {
            let active = |other: &&NodeId| {
                **other != id
                    && image
                        .brokers
                        .get(*other)
                        .is_some_and(|broker| broker.is_active())
            };
            let next = partition
                .replicas
                .iter()
                .filter(|node| partition.isr.contains(node))
                .find(active);
            leader_change(topic, index, next.map_or(-1, |node| node.0))
        })
        .collect()
}

fn leader_change(topic: Uuid, index: PartitionIndex, leader: i32) -> MetadataRecord {
    debug_assert_ne!(leader, NO_LEADER_CHANGE, "a change of leader names one");
    PartitionChangeRecord {
        topic_id: topic,
        partition_id: index.0,
        leader,
        ..PartitionChangeRecord::default()
    }
    .into()
}

fn partitions_of(
    image: &MetadataImage,
    id: NodeId,
) -> impl Iterator<Item = (Uuid, PartitionIndex, &Partition)> {
    image
        .topics
        .values()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|(index, partition)| (topic.id, *index, partition))
        })
        .filter(move |(_, _, partition)| partition.replicas.contains(&id))
}
