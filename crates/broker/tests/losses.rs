//! What a node writes into its loss ledger.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_controller::UncleanElection;
use ottla_controller::create_topics::NewTopic;
use ottla_controller::request::CreateTopics;
use ottla_controller::unclean_election::Cause;
use ottla_metadata::{Changes, MetadataImage, Partition};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_replica::loss_ledger::{LossEntry, LossKind};

const ID: Uuid = Uuid::from_parts(1, 2);
const INDEX: PartitionIndex = PartitionIndex(0);

fn topic() -> CreateTopics {
    CreateTopics {
        topics: vec![NewTopic {
            name: "orders".to_owned(),
            partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
            id: ID,
        }],
        validate_only: false,
    }
}

/// The metadata with another state of the partition.
fn changed(image: &MetadataImage, by: impl FnOnce(&mut Partition)) -> MetadataImage {
    let mut image = image.clone();
    let topic = Arc::make_mut(image.topics.get_mut(&ID).unwrap());
    by(topic.partitions.get_mut(&INDEX).unwrap());
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclean_election_is_recorded_by_its_controller_and_by_its_leader() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let broker = &running.broker;
    broker.controller.ask(topic()).await.unwrap();
    let losses = broker.replicas.losses();
    let elected = |replicas| UncleanElection {
        topic: "orders".to_owned(),
        topic_id: ID,
        partition: INDEX,
        replicas,
        old_leader: Some(NodeId(7)),
        new_leader: NodeId(1),
        old_epoch: LeaderEpoch(3),
        new_epoch: LeaderEpoch(4),
        cause: Cause::Request,
    };
    // The only replica of a partition lacks nothing that another one has.
    losses.elected(&elected(1));
    losses.elected(&elected(2));
    let image = broker.controller.image();
    let mut changes = Changes::default();
    changes.partitions.insert((ID, INDEX));
    let elected = |recovering: bool, leader: i32| {
        changed(&image, |partition| {
            partition.replicas = vec![NodeId(1), NodeId(2)];
            partition.recovering = recovering;
            partition.leader = Some(NodeId(leader));
            partition.leader_epoch = LeaderEpoch(4);
        })
    };
    for (recovering, leader) in [(false, 1), (true, 2), (true, 1)] {
        let after = elected(recovering, leader);
        losses.led(&broker.replicas, (&image, &after), &changes);
        // The same leader changes its ISR.
        losses.led(&broker.replicas, (&after, &after), &changes);
    }
    let entries = losses.entries().unwrap();
    let seen = |entry: &LossEntry| (entry.what, entry.from, entry.old_leader, entry.new_epoch);
    let epoch = LeaderEpoch(4);
    let expected = [
        (LossKind::ElectedByRequest, None, Some(NodeId(7)), epoch),
        (LossKind::Led, Some(Offset(0)), Some(NodeId(1)), epoch),
    ];
    assert_eq!(entries.iter().map(seen).collect::<Vec<_>>(), expected);
    running.shut_down().await;
}
