//! Registers and unfences brokers, and moves the leaderships that this affects.

use ottla_metadata::registration::UNFENCE;
use ottla_metadata::{BrokerRegistration, MetadataImage, Partition};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::register_broker_record::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::messages::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord,
};

use crate::partition_change::{Claim, PartitionChange};
use crate::{Decision, Refusal, View};

/// Decides BrokerRegistration. `epoch` is the offset of the proposal's first record, and so larger than every earlier
/// epoch. A broker that is registered already is registered again. It is fenced and leads no partition until it is
/// unfenced.
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
    // The changes of leader come first: they belong to the old registration.
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
    Some(Refusal::UnsupportedFeature {
        name: name.clone(),
        level: *level,
    })
}

/// Decides that a broker is unfenced, because it has caught up. It becomes the leader of its partitions that have none,
/// where its `Claim` allows that.
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
        fenced: UNFENCE,
        ..BrokerRegistrationChangeRecord::default()
    };
    let mut records = vec![MetadataRecord::from(change)];
    let may_lead = |partition: &Partition| {
        let has_no_leader = partition.leader.is_none();
        // A partition in a directory that is offline stays without a leader until that is back.
        has_no_leader && broker.is_online(partition) && Claim::of(partition, id) != Claim::None
    };
    let led = partitions_of(view.image, id).filter(|(_, _, partition)| may_lead(partition));
    records.extend(led.filter_map(|(topic, index, partition)| {
        let change = PartitionChange::new(topic, index, partition);
        change.elect(id).record()
    }));
    Decision {
        records,
        reply: Ok(()),
    }
}

/// The records by which a broker gives up what it leads. Each partition goes to the next in-sync replica on an active
/// broker. Where there is none it has no leader, and this broker stays in the ISR: it alone has every acknowledged record.
fn lose_leaderships(image: &MetadataImage, id: NodeId) -> Vec<MetadataRecord> {
    if image.brokers.get(&id).is_none_or(|broker| broker.fenced) {
        return Vec::new();
    }
    partitions_of(image, id)
        .filter(|(_, _, partition)| partition.leader == Some(id))
        .filter_map(|(topic, index, partition)| {
            let change = PartitionChange::new(topic, index, partition);
            let mut others = partition.replicas.iter().filter(|other| **other != id);
            let next = others.find(|other| {
                Claim::of(partition, **other) == Claim::InSync && image.is_active(**other)
            });
            match next {
                Some(next) => change.elect(*next),
                None => change.without_leader(),
            }
            .record()
        })
        .collect()
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
