//! Three controllers in one process: they elect one of them, and refuse those that do not belong to them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controllers;
mod ports;

use std::path::Path;
use std::time::Duration;

use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_client::{Connection, Options};
use ottla_protocol::messages::{
    DescribeQuorumRequestData, ErrorCode, describe_quorum_request, describe_quorum_response,
};

use controllers::{CLUSTER, start};

fn ports(count: usize) -> Vec<u16> {
    (0..count).map(|_| ports::held()).collect()
}

/// A node whose controller listens on the port of its id among `ports`, and whose configuration names `voters`.
fn config(
    root: &Path,
    (node, cluster): (usize, &str),
    ports: &[u16],
    voters: &[usize],
) -> BrokerConfig {
    let voters: Vec<String> = voters
        .iter()
        .map(|id| format!("{id}@127.0.0.1:{}", ports[id - 1]))
        .collect();
    let voters = voters.join(",");
    let quorum = format!("controller.quorum.voters={voters}\nottla.cluster.id={cluster}");
    controllers::config(root, node, ports, &quorum)
}

/// What a controller says of the quorum: an error, or its state.
async fn describe(port: u16) -> Option<describe_quorum_response::PartitionData> {
    let address = format!("127.0.0.1:{port}");
    let connection = Connection::open(&address, &Options::default()).await.ok()?;
    let partition = describe_quorum_request::PartitionData::default();
    let topic = describe_quorum_request::TopicData::default()
        .with_topic_name("__cluster_metadata".to_owned().into())
        .with_partitions(vec![partition]);
    let request = DescribeQuorumRequestData::default().with_topics(vec![topic]);
    let mut answer = connection.call(&request).await.ok()?;
    Some(answer.topics.pop()?.partitions.remove(0))
}

/// Waits until one of the controllers leads, and returns its description of the quorum.
async fn led(ports: &[u16]) -> describe_quorum_response::PartitionData {
    loop {
        for port in ports {
            if let Some(found) = describe(*port).await
                && found.error_code == ErrorCode::None.code()
            {
                return found;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_controllers_elect_one_of_them() {
    let root = tempfile::tempdir().unwrap();
    let ports = ports(3);
    let all = [1, 2, 3];
    let starts: Vec<_> = all
        .into_iter()
        .map(|node| start(config(root.path(), (node, CLUSTER), &ports, &all)))
        .collect();
    let quorum = led(&ports).await;
    let voters: Vec<i32> = quorum
        .current_voters
        .iter()
        .map(|voter| voter.replica_id)
        .collect();
    assert_eq!(voters, all.map(|node| i32::try_from(node).unwrap()));
    let leader = usize::try_from(quorum.leader_id).unwrap();
    for node in all.into_iter().filter(|node| *node != leader) {
        let other = describe(ports[node - 1]).await.unwrap();
        assert_eq!(other.error_code, ErrorCode::NotLeaderOrFollower.code());
    }
    for start in starts {
        start.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    let root = tempfile::tempdir().unwrap();
    let ports = ports(3);
    let all = [1, 2, 3];
    let starts = all.map(|node| start(config(root.path(), (node, CLUSTER), &ports, &all)));
    let mut nodes = Vec::new();
    for start in starts {
        nodes.push(start.await.unwrap().unwrap());
    }
    let leader = led(&ports).await.leader_id;
    let at = nodes
        .iter()
        .position(|node| node.broker.config.node_id.0 == leader);
    let stopping = nodes.swap_remove(at.unwrap());
    let status = stopping.broker.quorum.get().unwrap().clone();
    let before = status.borrow().epoch;
    stopping.shut_down().await;
    let after = status.borrow().clone();
    assert!(after.epoch > before, "{after:?}");
    let next = after.leader.unwrap();
    assert!(next.0 != leader, "{after:?}");
    for node in nodes {
        node.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_do_not_belong_together_are_refused_and_named() {
    let root = tempfile::tempdir().unwrap();
    let ports = ports(4);
    let foreign = "AAAAAAAAAAAAAAAAAAAABw";
    let nodes = [
        ((1, CLUSTER), [1, 2, 3]),
        ((2, CLUSTER), [1, 2, 4]),
        ((3, foreign), [1, 2, 3]),
    ];
    let starts = nodes.map(|(node, voters)| start(config(root.path(), node, &ports, &voters)));
    let mut refusals = Vec::new();
    for start in starts {
        refusals.push(start.await.unwrap().unwrap_err().to_string());
    }
    let lists = "controller.quorum.voters names 1,2,";
    assert!(refusals[1].contains(lists), "{refusals:?}");
    assert!(refusals[2].contains(foreign), "{refusals:?}");
}

#[tokio::test]
async fn new_nodes_of_one_cluster_need_one_id() {
    let root = tempfile::tempdir().unwrap();
    let ports = ports(3);
    let mut config = config(root.path(), (1, CLUSTER), &ports, &[1, 2, 3]);
    config.quorum.cluster_id = None;
    let refused = ottla_broker::start(config, Clock::start()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("ottla.cluster.id"), "{refused}");
    assert!(!root.path().join("1").exists(), "nothing is formatted");
}
