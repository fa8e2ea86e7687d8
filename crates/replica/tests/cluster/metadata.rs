//! The cluster's metadata: its brokers, and one topic with one partition.

use std::sync::Arc;

use ottla_metadata::{
    BrokerRegistration, ConfigResource, MetadataImage, Partition, Topic, ottla_configs,
};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_replica::Durability;

pub(crate) const TOPIC: Uuid = Uuid::from_parts(9, 1);
pub(crate) const INDEX: PartitionIndex = PartitionIndex(0);
/// The nodes with a replica.
pub(crate) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// A new partition: node 1 leads, all replicas are in sync.
pub(crate) fn new_partition() -> Partition {
    Partition {
        replicas: NODES.to_vec(),
        directories: NODES.iter().map(|_| Uuid::from_parts(5, 1)).collect(),
        isr: NODES.to_vec(),
        removing: Vec::new(),
        adding: Vec::new(),
        leader: Some(NODES[0]),
        recovering: false,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        eligible_leaders: Vec::new(),
        last_known_eligible_leaders: Vec::new(),
    }
}

/// A broker that was started for the `epoch`th time in the cluster.
pub(crate) fn broker(id: NodeId, epoch: i64) -> BrokerRegistration {
    BrokerRegistration {
        id,
        epoch,
        ..BrokerRegistration::default()
    }
}

pub(crate) fn image(
    partition: &Partition,
    brokers: &[BrokerRegistration],
    durability: Durability,
) -> MetadataImage {
    let topic = Topic {
        name: "t".to_owned(),
        id: TOPIC,
        partitions: [(INDEX, partition.clone())].into_iter().collect(),
    };
    let mut image = MetadataImage::default();
    image.topic_ids.insert("t".to_owned(), TOPIC);
    image.topics.insert(TOPIC, Arc::new(topic));
    for broker in brokers {
        image.brokers.insert(broker.id, Arc::new(broker.clone()));
    }
    let durability = match durability {
        Durability::Fsync => "fsync",
        Durability::PageCache => "page-cache",
    };
    let name = ottla_configs::stored_name(TOPIC, "ottla.ack.durability");
    set(&mut image, ConfigResource::cluster(), &name, durability);
    let of_topic = [
        ("min.insync.replicas", "2"),
        ("internal.segment.bytes", "900"),
    ];
    for (name, value) in of_topic {
        set(&mut image, ConfigResource::topic("t"), name, value);
    }
    image
}

fn set(image: &mut MetadataImage, resource: ConfigResource, name: &str, value: &str) {
    let configs = image.configs.entry(resource).or_default();
    configs.insert(name.to_owned(), value.to_owned());
}
