//! A fourth controller joins three, becomes a voter, and is removed again, by Kafka's requests. One alone becomes two.
//! Others add themselves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod controllers;
mod ports;

use std::path::Path;
use std::time::Duration;

use ottla_broker::config::BrokerConfig;
use ottla_client::{Connection, Options};
use ottla_log::files::disk::Disk;
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::add_raft_voter_request::Listener;
use ottla_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_protocol::messages::describe_quorum_response::{self, ReplicaState};
use ottla_protocol::messages::{
    AddRaftVoterRequestData, DescribeQuorumRequestData, ErrorCode, RemoveRaftVoterRequestData,
};
use ottla_protocol::time::Timestamp;
use ottla_quorum::{Format, Voter, VoterEndpoint, format};
use tokio::time::{sleep, timeout};

use controllers::{CLUSTER, start};

const LIMIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);

fn config(root: &Path, node: usize, ports: &[u16]) -> BrokerConfig {
    let bootstrap: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let quorum = format!(
        "controller.quorum.bootstrap.servers={}",
        bootstrap.join(",")
    );
    controllers::config(root, node, ports, &quorum)
}

/// Formats the directories of the first nodes, as `kafka-storage format --initial-controllers` does.
fn format_first(root: &Path, count: i32, ports: &[u16]) {
    let voters: Vec<Voter> = (1..=count)
        .map(|node| Voter {
            node_id: NodeId(node),
            directory_id: Uuid::from_parts(7, node.unsigned_abs().into()),
            endpoints: vec![VoterEndpoint {
                listener: "CONTROLLER".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: ports[usize::try_from(node).unwrap() - 1],
            }],
        })
        .collect();
    for voter in &voters {
        let directory = root.join(voter.node_id.to_string());
        let formatted = Format {
            cluster_id: CLUSTER,
            node_id: voter.node_id,
            directories: &[(&directory, voter.directory_id)],
            metadata_directory: &directory,
            voters: &voters,
            bootstrap: &[],
            version: MetadataVersion::OF_NEW_CLUSTERS,
            now: Timestamp(0),
        };
        format(&Disk, &formatted).unwrap();
    }
}

/// The connection to the active controller, and how it describes the quorum.
async fn described(ports: &[u16]) -> (Connection, describe_quorum_response::PartitionData) {
    loop {
        for port in ports {
            let address = format!("127.0.0.1:{port}");
            let Ok(connection) = Connection::open(&address, &Options::default()).await else {
                continue;
            };
            let topic = TopicData::default()
                .with_topic_name("__cluster_metadata".to_owned().into())
                .with_partitions(vec![PartitionData::default()]);
            let request = DescribeQuorumRequestData::default().with_topics(vec![topic]);
            let Ok(mut answer) = connection.call(&request).await else {
                continue;
            };
            let found = answer.topics.pop().unwrap().partitions.remove(0);
            if found.error_code == ErrorCode::None.code() {
                return (connection, found);
            }
        }
        sleep(PAUSE).await;
    }
}

/// Waits until the active controller describes what is wanted.
async fn until(
    ports: &[u16],
    is_wanted: impl Fn(&describe_quorum_response::PartitionData) -> bool,
) -> (Connection, describe_quorum_response::PartitionData) {
    let found = async {
        loop {
            let (connection, found) = described(ports).await;
            if is_wanted(&found) {
                return (connection, found);
            }
            sleep(PAUSE).await;
        }
    };
    timeout(LIMIT, found)
        .await
        .expect("it is described in time")
}

fn has_caught_up(replica: &ReplicaState, high_watermark: i64) -> bool {
    replica.log_end_offset >= high_watermark && replica.last_caught_up_timestamp > 0
}

fn addition(observer: &ReplicaState, port: u16) -> AddRaftVoterRequestData {
    AddRaftVoterRequestData::default()
        .with_cluster_id(Some(CLUSTER.to_owned().into()))
        .with_timeout_ms(30_000)
        .with_voter_id(observer.replica_id)
        .with_voter_directory_id(observer.replica_directory_id)
        .with_listeners(vec![
            Listener::default()
                .with_name("CONTROLLER".to_owned().into())
                .with_host("127.0.0.1".to_owned().into())
                .with_port(port),
        ])
        .with_ack_when_committed(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_joins_becomes_a_voter_and_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..4).map(|_| ports::held()).collect();
    format_first(root.path(), 3, &ports);
    let mut starts: Vec<_> = (1..=3)
        .map(|node| start(config(root.path(), node, &ports)))
        .collect();
    let (_, first) = until(&ports, |quorum| {
        let mut voters = quorum.current_voters.iter();
        voters.all(|voter| has_caught_up(voter, quorum.high_watermark))
    })
    .await;
    assert_eq!(first.current_voters.len(), 3);
    assert!(first.observers.is_empty(), "{:?}", first.observers);

    starts.push(start(config(root.path(), 4, &ports)));
    let (connection, joined) = until(&ports, |quorum| {
        let mut observers = quorum.observers.iter();
        observers.any(|one| one.replica_id == 4 && has_caught_up(one, quorum.high_watermark))
    })
    .await;
    let observer = joined.observers.into_iter().find(|one| one.replica_id == 4);
    let observer = observer.unwrap();
    let wanted = addition(&observer, ports[3]);
    let elsewhere = ports::held();
    let refused = [
        (
            wanted
                .clone()
                .with_cluster_id(Some("another".to_owned().into())),
            ErrorCode::InconsistentClusterId,
        ),
        (wanted.clone().with_voter_id(1), ErrorCode::DuplicateVoter),
        (wanted.clone().with_voter_id(9), ErrorCode::RequestTimedOut),
        (
            wanted.clone().with_listeners(Vec::new()),
            ErrorCode::InvalidRequest,
        ),
        (addition(&observer, elsewhere), ErrorCode::RequestTimedOut),
    ];
    for (request, code) in refused {
        let answer = connection.call(&request).await.unwrap();
        assert_eq!(answer.error_code, code.code(), "{:?}", answer.error_message);
        assert!(answer.error_message.is_some());
    }
    let answer = connection.call(&wanted).await.unwrap();
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let (connection, grown) = until(&ports, |quorum| {
        let mut voters = quorum.current_voters.iter();
        quorum.current_voters.len() == 4
            && voters.all(|voter| has_caught_up(voter, quorum.high_watermark))
    })
    .await;
    assert!(grown.observers.iter().all(|one| one.replica_id != 4));

    let mut removal = RemoveRaftVoterRequestData::default()
        .with_voter_id(4)
        .with_voter_directory_id(Uuid::from_parts(9, 9));
    let answer = connection.call(&removal).await.unwrap();
    assert_eq!(answer.error_code, ErrorCode::VoterNotFound.code());
    removal.voter_directory_id = observer.replica_directory_id;
    let answer = connection.call(&removal).await.unwrap();
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    until(&ports, |quorum| {
        let mut observers = quorum.observers.iter();
        quorum.current_voters.len() == 3
            && observers.any(|one| one.replica_id == 4 && has_caught_up(one, quorum.high_watermark))
    })
    .await;
    for start in starts {
        start.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_takes_another_voter_and_needs_it() {
    let root = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..2).map(|_| ports::held()).collect();
    format_first(root.path(), 1, &ports);
    let alone = start(config(root.path(), 1, &ports[..1]));
    let (connection, first) = until(&ports[..1], |quorum| quorum.leader_id == 1).await;
    assert_eq!(first.current_voters.len(), 1);
    let joining = start(config(root.path(), 2, &ports));
    let (_, joined) = until(&ports, |quorum| {
        let mut observers = quorum.observers.iter();
        observers.any(|one| one.replica_id == 2 && has_caught_up(one, quorum.high_watermark))
    })
    .await;
    let mut observers = joined.observers.into_iter();
    let observer = observers.find(|one| one.replica_id == 2).unwrap();
    let answer = connection.call(&addition(&observer, ports[1])).await;
    let answer = answer.unwrap();
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    let grown = |quorum: &describe_quorum_response::PartitionData| {
        let mut voters = quorum.current_voters.iter();
        quorum.current_voters.len() == 2
            && voters.all(|voter| has_caught_up(voter, quorum.high_watermark))
    };
    until(&ports, grown).await;
    // The first one leaves, and starts again as one of two.
    let running = alone.await.unwrap().unwrap();
    running.shut_down().await;
    let again = start(config(root.path(), 1, &ports));
    until(&ports, grown).await;
    for start in [again, joining] {
        start.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_add_themselves_and_one_with_a_new_disk_takes_its_old_place() {
    let root = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..3).map(|_| ports::held()).collect();
    let first = start(config(root.path(), 1, &ports[..1]));
    let joining = |node: usize| {
        let mut config = config(root.path(), node, &ports);
        config.quorum.joins_up_to = Some(usize::MAX);
        start(config)
    };
    let are = |nodes: &'static [i32]| {
        move |quorum: &describe_quorum_response::PartitionData| {
            let voters = &quorum.current_voters;
            let mut ids: Vec<i32> = voters.iter().map(|voter| voter.replica_id).collect();
            ids.sort_unstable();
            ids == nodes
                && voters
                    .iter()
                    .all(|voter| has_caught_up(voter, quorum.high_watermark))
        }
    };
    let second = joining(2);
    until(&ports, are(&[1, 2])).await;
    let third = joining(3);
    let (_, grown) = until(&ports, are(&[1, 2, 3])).await;
    let directory = |quorum: &describe_quorum_response::PartitionData| {
        let mut voters = quorum.current_voters.iter();
        let third = voters.find(|voter| voter.replica_id == 3);
        third.map(|voter| voter.replica_directory_id)
    };
    let old = directory(&grown);

    third.await.unwrap().unwrap().shut_down().await;
    std::fs::remove_dir_all(root.path().join("3")).unwrap();
    let third = joining(3);
    let all = are(&[1, 2, 3]);
    until(&ports, |quorum| all(quorum) && directory(quorum) != old).await;
    for start in [first, second, third] {
        start.abort();
    }
}
