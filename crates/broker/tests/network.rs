//! The network's limits, each passed from outside over a real socket, and the order of answers.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_broker::Running;
use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_log::files::disk::Disk;
use ottla_log::files::{File as _, Files as _, Open};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::{
    ApiKey, ApiVersionsRequestData, ApiVersionsResponseData, ErrorCode, FetchRequestData,
    FetchResponseData, KafkaString, MetadataRequestData, ProduceRequestData, ProduceResponseData,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions};

/// A broker on a port of its own.
async fn broker(adjust: impl FnOnce(&mut BrokerConfig)) -> (Running, SocketAddr) {
    // Kept until the process ends: the broker may still close files in it when its test is over.
    let directory = tempfile::tempdir().unwrap().keep();
    let mut config = BrokerConfig::embedded(directory, 0);
    adjust(&mut config);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let address = running.addresses[0].1;
    (running, address)
}

/// Drops what the page cache holds of the topic's records.
fn make_cold(running: &Running, topic: &str) {
    let directory = &running.broker.config.storage.log_dirs[0];
    let segment = directory.join(format!("{topic}-0/00000000000000000000.log"));
    let file = Disk.open(&segment, Open::Write).unwrap();
    let length = file.length().unwrap();
    file.sync_data().unwrap();
    file.forget_cached(0, 1 << 40);
    assert!(!file.is_cached(0, length));
}

/// Sets a key as the configuration file would.
fn set(config: &mut BrokerConfig, key: &str, value: &str) {
    config
        .statics
        .values
        .insert(key.to_owned(), value.to_owned());
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn request(api: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i16(api);
    frame.put_i16(version);
    frame.put_i32(correlation);
    frame.put_i16(-1);
    frame.put_slice(body);
    let mut bytes = Vec::new();
    bytes.put_i32(frame.len() as i32);
    bytes.put_slice(&frame);
    bytes
}

fn response(stream: &mut TcpStream) -> (i32, Bytes) {
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    let length = i32::from_be_bytes(head[..4].try_into().unwrap());
    let correlation = i32::from_be_bytes(head[4..].try_into().unwrap());
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).unwrap();
    (correlation, body.into())
}

/// Whether the other side closes; a reset counts, for it is what unread bytes turn a close into.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let (running, address) = broker(|_| {}).await;
    let mut stream = connect(address);
    let mut bytes = Vec::new();
    for correlation in 0..100 {
        bytes.extend(request(API_VERSIONS, 0, correlation, &[]));
    }
    // Bytes arrive in pieces that have nothing to do with frames.
    for piece in bytes.chunks(7) {
        stream.write_all(piece).unwrap();
    }
    for correlation in 0..100 {
        let (answered, mut body) = response(&mut stream);
        assert_eq!(answered, correlation);
        let versions = ApiVersionsResponseData::read(&mut body, 0).unwrap();
        assert!(
            versions
                .api_keys
                .iter()
                .any(|api| api.api_key == API_VERSIONS)
        );
        assert!(body.is_empty());
    }
    drop(stream);
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_protocol_is_told_so_in_its_own() {
    let (_running, address) = broker(|_| {}).await;
    let mut tls = connect(address);
    tls.write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3])
        .unwrap();
    let mut alert = [0; 7];
    tls.read_exact(&mut alert).unwrap();
    // An alert record of two bytes: fatal, handshake_failure.
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 40]);
    assert!(is_closed(&mut tls));
    let mut http = connect(address);
    http.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    http.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("Kafka's protocol"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_api_versions_version_is_answered_in_version_0() {
    let (_running, address) = broker(|_| {}).await;
    let mut stream = connect(address);
    // The header of a flexible version ends with its tagged fields.
    stream
        .write_all(&request(API_VERSIONS, 99, 5, &[0]))
        .unwrap();
    let (correlation, mut body) = response(&mut stream);
    assert_eq!(correlation, 5);
    let versions = ApiVersionsResponseData::read(&mut body, 0).unwrap();
    assert_eq!(versions.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(versions.api_keys.len(), 1);
    stream.write_all(&request(API_VERSIONS, 0, 6, &[])).unwrap();
    assert_eq!(response(&mut stream).0, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_another_broker_is_told_so_and_served_on() {
    let (running, address) = broker(|_| {}).await;
    let here = running.broker.cluster_id.as_str().to_owned();
    let (nothing, half, other) = (
        ErrorCode::None,
        ErrorCode::InvalidRequest,
        ErrorCode::RebootstrapRequired,
    );
    let mut stream = connect(address);
    for (cluster, node, expected) in [
        (None, -1, nothing),
        (Some(here.as_str()), 1, nothing),
        (Some(here.as_str()), -1, half),
        (None, 1, half),
        (Some(here.as_str()), 2, other),
        (Some(here.as_str()), -2, other),
        (Some("another"), 1, other),
        (Some(""), 1, other),
    ] {
        let asked = ApiVersionsRequestData {
            cluster_id: cluster.map(|id| id.to_owned().into()),
            node_id: node,
            ..ApiVersionsRequestData::default()
                .with_client_software_name("test".to_owned().into())
                .with_client_software_version("1".to_owned().into())
        };
        // The header of a flexible version ends with its tagged fields.
        let mut body = BytesMut::from(&[0][..]);
        asked.write(&mut body, 5).unwrap();
        stream
            .write_all(&request(API_VERSIONS, 5, node, &body))
            .unwrap();
        let (correlation, mut body) = response(&mut stream);
        assert_eq!(correlation, node);
        let versions = ApiVersionsResponseData::read(&mut body, 5).unwrap();
        assert_eq!(versions.error_code, expected.code(), "{cluster:?} {node}");
        assert_eq!(versions.api_keys.is_empty(), expected != nothing);
        assert!(body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_closes_the_connection_after_earlier_answers() {
    let (_running, address) = broker(|_| {}).await;
    for refused in [
        request(3000, 0, 2, &[]),
        request(ApiKey::Produce as i16, 2, 2, &[]),
        request(ApiKey::Produce as i16, 3, 2, &[1, 2, 3]),
        vec![0, 0, 0, 1, 9],
        vec![0, 0, 0, 0],
        vec![0xff; 4],
    ] {
        let mut stream = connect(address);
        stream.write_all(&request(API_VERSIONS, 0, 1, &[])).unwrap();
        stream.write_all(&refused).unwrap();
        stream.write_all(&request(API_VERSIONS, 0, 3, &[])).unwrap();
        assert_eq!(response(&mut stream).0, 1, "{refused:?}");
        assert!(is_closed(&mut stream), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_above_their_limit_close_the_connection() {
    let (_running, address) = broker(|config| {
        config.network.max_request_bytes = 2000;
        config.network.max_request_bytes_without_records = 1000;
    })
    .await;
    let mut stream = connect(address);
    stream.write_all(&2001_i32.to_be_bytes()).unwrap();
    assert!(is_closed(&mut stream));
    let mut stream = connect(address);
    stream.write_all(&1001_i32.to_be_bytes()).unwrap();
    stream.write_all(&API_VERSIONS.to_be_bytes()).unwrap();
    assert!(is_closed(&mut stream));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_above_its_connections_is_turned_away() {
    let (_running, address) = broker(|config| set(config, "max.connections.per.ip", "2")).await;
    let mut one = connect(address);
    let mut two = connect(address);
    for stream in [&mut one, &mut two] {
        stream.write_all(&request(API_VERSIONS, 0, 1, &[])).unwrap();
        assert_eq!(response(stream).0, 1);
    }
    assert!(is_closed(&mut connect(address)));
    drop(one);
    // The broker sees the close a moment later, so the next attempts may still be turned away.
    let admitted = (0..1000).any(|_| {
        let mut stream = connect(address);
        stream.write_all(&request(API_VERSIONS, 0, 1, &[])).is_ok() && !is_closed(&mut stream)
    });
    assert!(admitted);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_maximum_wait_for_a_free_one() {
    let (_running, address) = broker(|config| set(config, "max.connections", "1")).await;
    let mut first = connect(address);
    first.write_all(&request(API_VERSIONS, 0, 1, &[])).unwrap();
    assert_eq!(response(&mut first).0, 1);
    let mut second = connect(address);
    second.write_all(&request(API_VERSIONS, 0, 2, &[])).unwrap();
    second
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let unanswered = second.read(&mut [0; 1]).unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    second
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(response(&mut second).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_to_which_nobody_connects_takes_no_connection_from_another() {
    let (running, _) = broker(|config| {
        set(config, "max.connections", "1");
        let mut other = config.network.listeners[0].clone();
        other.name = "OTHER".to_owned();
        config.network.listeners.push(other);
    })
    .await;
    let addresses = running.addresses.iter().map(|(_, address)| *address);
    for address in addresses {
        let mut stream = connect(address);
        assert!(is_served(&mut stream));
    }
    running.shut_down().await;
}

/// Sets a config of all brokers, as one of them.
fn alter(stream: &mut TcpStream, key: &str, value: &str) {
    let text = |body: &mut Vec<u8>, text: &str| {
        body.put_i16(text.len() as i16);
        body.put_slice(text.as_bytes());
    };
    let mut body = Vec::new();
    body.put_i32(1);
    body.put_i8(4);
    text(&mut body, "");
    body.put_i32(1);
    text(&mut body, key);
    body.put_i8(0);
    text(&mut body, value);
    body.put_i8(0);
    let api = ApiKey::IncrementalAlterConfigs as i16;
    stream.write_all(&request(api, 0, 9, &body)).unwrap();
    let (correlation, answer) = response(stream);
    assert_eq!(
        (correlation, &answer[8..10]),
        (9, &[0, 0][..]),
        "{answer:?}"
    );
}

fn is_served(stream: &mut TcpStream) -> bool {
    stream
        .write_all(&request(API_VERSIONS, 0, 1, &[]))
        .and_then(|()| stream.read_exact(&mut [0; 8]))
        .is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_the_connections_of_an_address_holds_at_once_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = async || {
        let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
        let running = ottla_broker::start(config, Clock::start()).await.unwrap();
        let address = running.addresses[0].1;
        (running, address)
    };
    let (running, address) = start().await;
    let mut first = connect(address);
    let mut second = connect(address);
    assert!(is_served(&mut second));
    alter(&mut first, "max.connections.per.ip", "2");
    assert!(is_closed(&mut connect(address)));
    alter(
        &mut first,
        "max.connections.per.ip.overrides",
        "127.0.0.1:3",
    );
    let mut third = connect(address);
    assert!(is_served(&mut third));
    assert!(is_closed(&mut connect(address)));
    running.shut_down().await;

    let (running, address) = start().await;
    let mut three = [connect(address), connect(address), connect(address)];
    assert!(three.iter_mut().all(is_served));
    assert!(is_closed(&mut connect(address)));
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_the_connections_in_all_holds_at_once() {
    let (_running, address) = broker(|_| {}).await;
    let mut first = connect(address);
    alter(&mut first, "max.connections", "1");
    let mut second = connect(address);
    second.write_all(&request(API_VERSIONS, 0, 2, &[])).unwrap();
    second
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let unanswered = second.read(&mut [0; 1]).unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::WouldBlock);
    second
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    alter(&mut first, "max.connections", "2");
    assert_eq!(response(&mut second).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let (_running, address) = broker(|config| {
        config.network.connections_max_idle = Duration::from_millis(50);
    })
    .await;
    assert!(is_closed(&mut connect(address)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_waits_for_memory_and_must_then_arrive_in_time() {
    let (_running, address) = broker(|config| {
        config.network.max_bytes_in_flight = 1;
        config.network.receive_timeout = Duration::from_millis(200);
    })
    .await;
    let announce = |stream: &mut TcpStream| {
        stream.write_all(&1_000_000_i32.to_be_bytes()).unwrap();
        stream
            .write_all(&(ApiKey::Produce as i16).to_be_bytes())
            .unwrap();
    };
    let mut hoarder = connect(address);
    announce(&mut hoarder);
    let mut waiting = connect(address);
    announce(&mut waiting);
    // Small requests are not held up by it.
    let mut other = connect(address);
    other.write_all(&request(API_VERSIONS, 0, 1, &[])).unwrap();
    assert_eq!(response(&mut other).0, 1);
    assert!(is_closed(&mut hoarder));
    assert!(is_closed(&mut waiting));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_produce_without_an_answer_is_no_violation_of_the_protocol() {
    let (running, address) = broker(|_| {}).await;
    let topic = TopicProduceData::default()
        .with_name(KafkaString::from_static("unknown"))
        .with_partition_data(vec![PartitionProduceData::default()]);
    let produce = ProduceRequestData::default()
        .with_acks(0)
        .with_topic_data(vec![topic]);
    let mut body = BytesMut::new();
    produce.write(&mut body, 7).unwrap();
    // The second ends in the middle of its body, which is a violation.
    for body in [&body[..], &body[..1]] {
        let mut stream = connect(address);
        let bytes = request(ApiKey::Produce as i16, 7, 1, body);
        stream.write_all(&bytes).unwrap();
        assert!(is_closed(&mut stream));
    }
    let broker = Arc::clone(&running.broker);
    // It waits for the connections to have been counted.
    running.shut_down().await;
    assert_eq!(broker.metrics.protocol_violations.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_closes_idle_connections() {
    let (running, address) = broker(|_| {}).await;
    let mut stream = connect(address);
    stream.write_all(&request(API_VERSIONS, 0, 1, &[])).unwrap();
    assert_eq!(response(&mut stream).0, 1);
    running.shut_down().await;
    assert!(is_closed(&mut stream));
    assert!(TcpStream::connect(address).is_err());
}

/// Creates the topic unless it exists, and appends a batch of `size` bytes to it; returns what was sent after the offset.
fn append(stream: &mut TcpStream, topic: &'static str, size: usize, fill: u8) -> Vec<u8> {
    let topic = KafkaString::from_static(topic);
    let mut body = BytesMut::new();
    let metadata = MetadataRequestData::default()
        .with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(topic.clone())),
        ]))
        .with_allow_auto_topic_creation(true);
    metadata.write(&mut body, 4).unwrap();
    stream
        .write_all(&request(ApiKey::Metadata as i16, 4, 1, &body))
        .unwrap();
    response(stream);
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1, Some(b"k"), Some(&vec![fill; size]), &[]);
    let batch = builder.build().unwrap();
    let partition =
        PartitionProduceData::default().with_records(Some(Bytes::copy_from_slice(&batch)));
    let produce = ProduceRequestData::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic)
                .with_partition_data(vec![partition]),
        ]);
    let mut body = BytesMut::new();
    produce.write(&mut body, 7).unwrap();
    stream
        .write_all(&request(ApiKey::Produce as i16, 7, 2, &body))
        .unwrap();
    let (_, mut body) = response(stream);
    let answer = ProduceResponseData::read(&mut body, 7).unwrap();
    assert_eq!(
        answer.responses[0].partition_responses[0].error_code, 0,
        "{answer:?}"
    );
    // The broker fills in the offset and the leader epoch in front of the magic byte.
    batch[16..].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_sent_from_their_file_arrive_whole_at_a_slow_reader() {
    let (running, address) = broker(|_| {}).await;
    let mut stream = connect(address);
    let batches: Vec<Vec<u8>> = (0..8)
        .map(|number| append(&mut stream, "large", 900_000 + usize::from(number), number))
        .collect();
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(50_000_000);
    let fetch = FetchRequestData::default()
        .with_replica_id(-1)
        .with_max_bytes(50_000_000)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(KafkaString::from_static("large"))
                .with_partitions(vec![partition]),
        ]);
    let mut body = BytesMut::new();
    fetch.write(&mut body, 11).unwrap();
    // Two answers behind each other, more than the socket takes at once, read in small pieces.
    for correlation in [3, 4] {
        let bytes = request(ApiKey::Fetch as i16, 11, correlation, &body);
        stream.write_all(&bytes).unwrap();
    }
    for correlation in [3, 4] {
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(
            i32::from_be_bytes(head[4..].try_into().unwrap()),
            correlation
        );
        let mut body = vec![0; i32::from_be_bytes(head[..4].try_into().unwrap()) as usize - 4];
        for piece in body.chunks_mut(10_007) {
            stream.read_exact(piece).unwrap();
        }
        let mut body = Bytes::from(body);
        let answer = FetchResponseData::read(&mut body, 11).unwrap();
        assert!(body.is_empty());
        let records = answer.responses[0].partitions[0].records.clone().unwrap();
        let mut rest = &records[..];
        for (offset, batch) in (0_i64..).zip(&batches) {
            assert_eq!(rest[..8], offset.to_be_bytes());
            assert!(rest[16..].starts_with(batch), "batch {offset}");
            rest = &rest[16 + batch.len()..];
        }
        assert!(rest.is_empty());
    }
    drop(stream);
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_cold_and_hot_records_is_the_one_with_hot_records_alone() {
    let (running, address) = broker(|_| {}).await;
    let mut stream = connect(address);
    let topics = ["small-cold", "large-cold", "small-hot", "large-hot"];
    for (number, topic) in (0..).zip(topics) {
        for _ in 0..3 {
            // Together below what is sent from the file, and more than planning the read brings in.
            let size = if topic.starts_with("small") {
                20_000
            } else {
                900_000
            };
            append(&mut stream, topic, size, number);
        }
    }
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(50_000_000);
    let wishes = topics.map(|topic| {
        FetchTopic::default()
            .with_topic(KafkaString::from_static(topic))
            .with_partitions(vec![partition.clone()])
    });
    let fetch = FetchRequestData::default()
        .with_replica_id(-1)
        .with_max_bytes(50_000_000)
        .with_session_epoch(-1)
        .with_topics(wishes.to_vec());
    let mut body = BytesMut::new();
    fetch.write(&mut body, 11).unwrap();
    let mut answer = || {
        let bytes = request(ApiKey::Fetch as i16, 11, 3, &body);
        stream.write_all(&bytes).unwrap();
        response(&mut stream).1
    };
    let hot = answer();
    assert!(hot.len() > 2 * 3 * 900_000);
    assert_eq!(running.broker.cold_reads.loaded(), 0);
    make_cold(&running, "small-cold");
    make_cold(&running, "large-cold");
    assert!(answer() == hot, "the same bytes in the same order");
    let loaded = running.broker.cold_reads.loaded();
    assert!(loaded > 6, "{loaded} pieces of both topics and their heads");
    assert!(answer() == hot);
    assert_eq!(running.broker.cold_reads.loaded(), loaded);
    drop(stream);
    running.shut_down().await;
}
