//! Brokers come, become usable, and go: registration, unfencing, fencing.

use ottla_metadata::partition::{NO_LEADER_CHANGE, NO_RECOVERY_CHANGE};
use ottla_metadata::{BrokerRegistration, MetadataImage, Partition};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::register_broker_record::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::messages::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, PartitionChangeRecord, RegisterBrokerRecord,
};

use crate::{Decision, Refusal, View};

/// `LeaderRecoveryState.RECOVERING`.
const RECOVERING: i8 = 1;

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
    let without_leader =
        partitions_of(view.image, id).filter(|(_, _, partition)| partition.leader.is_none());
    // What lies in a directory that is away stays without a leader until that is back.
    let without_leader = without_leader.filter(|(_, _, partition)| broker.is_online(partition));
    records.extend(
        without_leader
            .filter_map(|(topic, index, partition)| lead_again(topic, index, partition, id)),
    );
    Decision {
        records,
        reply: Ok(()),
    }
}

/// The record by which a broker leads a partition that has no leader, if it has every acknowledged record: it is in
/// sync, or it is an eligible leader replica (KIP-966), as a partition is left by a clean shutdown of Kafka. Where
/// only the last known leader is left, as after an unclean shutdown, it leads with the partition recovering.
fn lead_again(
    topic: Uuid,
    index: PartitionIndex,
    partition: &Partition,
    id: NodeId,
) -> Option<MetadataRecord> {
    if partition.isr.contains(&id) {
        return Some(leader_change(topic, index, id.0));
    }
    let is_eligible = partition.eligible_leaders.contains(&id);
    let is_last_known = partition.isr.is_empty()
        && partition.eligible_leaders.is_empty()
        && partition.last_known_eligible_leaders == [id];
    if !is_eligible && !is_last_known {
        return None;
    }
    let others = partition
        .eligible_leaders
        .iter()
        .filter(|other| **other != id);
    let record = PartitionChangeRecord {
        topic_id: topic,
        partition_id: index.0,
        leader: id.0,
        isr: Some(vec![id.0]),
        eligible_leader_replicas: Some(others.map(|other| other.0).collect()),
        last_known_elr: Some(Vec::new()),
        leader_recovery_state: if is_eligible {
            NO_RECOVERY_CHANGE
        } else {
            RECOVERING
        },
        ..PartitionChangeRecord::default()
    };
    Some(record.into())
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

#[cfg(test)]
mod tests {
    use super::unfence;
    use crate::{Settings, View};
    use ottla_metadata::{MetadataDelta, MetadataImage};
    use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
    use ottla_protocol::messages::metadata::{
        MetadataRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
    };

    /// A partition of broker 1 without a leader, as `left` says it was left.
    fn after_unfencing(left: PartitionRecord) -> ottla_metadata::Partition {
        let topic_id = Uuid::from_parts(7, 7);
        let broker = RegisterBrokerRecord {
            broker_id: 1,
            broker_epoch: 5,
            fenced: true,
            ..RegisterBrokerRecord::default()
        };
        let topic = TopicRecord {
            name: "t".into(),
            topic_id,
            ..TopicRecord::default()
        };
        let partition = PartitionRecord {
            topic_id,
            partition_id: 0,
            replicas: vec![1],
            leader: -1,
            leader_epoch: 3,
            ..left
        };
        let mut delta = MetadataDelta::new(MetadataImage::default());
        let first: [MetadataRecord; 3] = [broker.into(), topic.into(), partition.into()];
        for record in &first {
            delta.replay(record);
        }
        let settings = Settings::default();
        let image = delta.image().clone();
        let view = View {
            image: &image,
            settings: &settings,
        };
        let decision = unfence(view, NodeId(1), 5);
        decision
            .records
            .iter()
            .for_each(|record| delta.replay(record));
        let partition = delta.image().partition(topic_id, PartitionIndex(0));
        partition.unwrap().clone()
    }

    #[test]
    fn a_partition_left_by_a_clean_shutdown_of_kafka_is_led_again() {
        let partition = after_unfencing(PartitionRecord {
            eligible_leader_replicas: Some(vec![1]),
            last_known_elr: Some(vec![1]),
            ..PartitionRecord::default()
        });
        assert_eq!(partition.leader, Some(NodeId(1)));
        assert_eq!(partition.isr, [NodeId(1)]);
        assert!(partition.eligible_leaders.is_empty() && !partition.recovering);
        assert_eq!(partition.leader_epoch.0, 4);
    }

    #[test]
    fn the_last_known_leader_leads_again_recovering() {
        let partition = after_unfencing(PartitionRecord {
            last_known_elr: Some(vec![1]),
            ..PartitionRecord::default()
        });
        assert_eq!(partition.leader, Some(NodeId(1)));
        assert!(partition.recovering);
    }

    #[test]
    fn a_replica_that_may_lack_records_does_not_lead_by_itself() {
        let partition = after_unfencing(PartitionRecord {
            eligible_leader_replicas: Some(vec![2]),
            ..PartitionRecord::default()
        });
        assert_eq!(partition.leader, None);
    }
}
