//! A broker with few file descriptors: thousands of segments, then more clients than it has room
//! for, then no free descriptor at all. All acknowledged records are read back each time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{Cluster, Connection, Options, admin};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use ottla_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequestData, TopicProduceData,
};
use ottla_protocol::messages::{ErrorCode, KafkaString};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

const DESCRIPTORS: usize = 256;
/// The shares of `broker/descriptors.rs`: a quarter, an eighth, a half.
const LOG_FILES: usize = 64;
const HELD_FILES: usize = 32;
const CONNECTIONS: usize = 128;
const PARTITIONS: i32 = 20;
/// No partition was refused.
const NONE: [i16; 0] = [];

/// A broker in a process of its own; killed when dropped.
struct Broker {
    process: Child,
    /// Read up to the line with the address only; later lines fit into the pipe's buffer.
    said: BufReader<ChildStderr>,
    address: String,
}

impl Broker {
    fn start(data: &Path) -> Self {
        let script = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
        let listeners = "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";
        let data = format!("log.dirs={}", data.display());
        let mut process = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_ottla"), "serve"])
            .args(["--override", listeners, "--override", &data])
            .args(["--override", "ottla.http.listen="])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it does not start");
            if let Some((_, rest)) = line.split_once(" is ready on ") {
                break rest.split([';', ' ']).next().unwrap().trim().to_owned();
            }
        };
        Self {
            process,
            said,
            address,
        }
    }

    fn open_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        // A descriptor that was just closed has no target.
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        targets.map(|path| path.display().to_string()).collect()
    }

    /// The memory maps of files; only the program and its libraries are expected.
    fn file_maps(&self) -> Vec<String> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.process.id())).unwrap();
        let paths = maps.lines().filter_map(|line| line.split_once(" /"));
        paths.map(|(_, path)| path.to_owned()).collect()
    }

    /// Sets the process's limit of open files.
    fn limit_descriptors(&self, count: usize) {
        let limit = Rlimit {
            current: Some(count as u64),
            maximum: Some(DESCRIPTORS as u64),
        };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap()
    }

    /// Stops it with SIGTERM; returns its log.
    fn stop(mut self) -> String {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.process.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn create_topic(address: &str) {
    let topic = admin::NewTopic {
        name: "tiny".to_owned(),
        partitions: Some(PARTITIONS),
        configs: [("internal.segment.bytes".to_owned(), "200".to_owned())].into(),
        ..admin::NewTopic::default()
    };
    let cluster = Cluster::connect(&[address.to_owned()], Options::default()).await;
    let validation = admin::Validation::AndExecution;
    cluster
        .unwrap()
        .create_topic(&topic, validation)
        .await
        .unwrap();
}

async fn connect(address: &str) -> Connection {
    Connection::open(address, &Options::default())
        .await
        .unwrap()
}

/// Appends a batch of one record to each partition; returns the error codes of the refusals.
async fn produce(connection: &Connection) -> Vec<i16> {
    let partition_data = (0..PARTITIONS).map(|index| {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        let value = format!(
            "of partition {index}, padded so that a second does not fit: {:40}",
            ""
        );
        batch.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
        PartitionProduceData {
            index,
            records: Some(Bytes::from(batch.build().unwrap())),
            ..PartitionProduceData::default()
        }
    });
    let request = ProduceRequestData {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from_static("tiny"),
            partition_data: partition_data.collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    };
    let answer = connection.call(&request).await.unwrap();
    let partitions = answer.responses.iter();
    let partitions = partitions.flat_map(|topic| &topic.partition_responses);
    let codes = partitions.map(|partition| partition.error_code);
    codes.filter(|code| *code != 0).collect()
}

/// Reads the record at `offset` of every partition.
async fn read(connection: &Connection, offset: i64) {
    let mut missing: Vec<i32> = (0..PARTITIONS).collect();
    while !missing.is_empty() {
        let partitions = missing.iter().map(|partition| FetchPartition {
            partition: *partition,
            fetch_offset: offset,
            partition_max_bytes: 200,
            ..FetchPartition::default()
        });
        let request = FetchRequestData {
            max_wait_ms: 5000,
            min_bytes: 1,
            max_bytes: i32::MAX,
            topics: vec![FetchTopic {
                topic: KafkaString::from_static("tiny"),
                partitions: partitions.collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequestData::default()
        };
        let answer = connection.call(&request).await.unwrap();
        let before = missing.len();
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(partition.error_code, 0);
            let records = partition.records.as_deref().unwrap_or_default();
            if records.is_empty() {
                continue;
            }
            let batch = BatchView::first(records).unwrap();
            assert_eq!(batch.header().base_offset().0, offset);
            let value = batch
                .plain_records()
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .value;
            let expected = format!("of partition {},", partition.partition_index);
            assert!(value.unwrap().starts_with(expected.as_bytes()));
            missing.retain(|index| *index != partition.partition_index);
        }
        assert!(missing.len() < before, "{missing:?} have no record");
    }
}

/// A connection on which ApiVersions was answered; `None` after a timeout.
fn client(address: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Duration::from_millis(500);
    stream.set_read_timeout(Some(patience)).unwrap();
    // Length 10: ApiVersions (18), version 0, correlation id 7, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut [0; 8]).ok().map(|()| stream)
}

#[tokio::test]
async fn thousands_of_segments_take_few_descriptors_and_no_memory_maps() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let broker = Broker::start(&data);
    create_topic(&broker.address).await;
    let connection = connect(&broker.address).await;
    let maps = broker.file_maps();
    for _ in 0..150 {
        assert_eq!(produce(&connection).await, NONE);
    }
    let segments = std::fs::read_dir(data.join("tiny-7")).unwrap();
    let segments = segments.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".log")
    });
    assert_eq!(segments.count(), 150);
    for offset in [0, 75, 149] {
        read(&connection, offset).await;
    }
    let of_data = broker.open_files();
    let of_data = of_data.iter().filter(|path| path.contains("tiny-")).count();
    assert!((1..=LOG_FILES + HELD_FILES).contains(&of_data), "{of_data}");
    assert_eq!(broker.file_maps(), maps);
    broker.stop();
    let broker = Broker::start(&data);
    let connection = connect(&broker.address).await;
    for offset in [0, 75, 149] {
        read(&connection, offset).await;
    }
    assert_eq!(broker.file_maps().len(), maps.len());
    broker.stop();
}

#[tokio::test]
async fn neither_clients_nor_log_files_take_the_descriptors_of_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    create_topic(&broker.address).await;
    let connection = connect(&broker.address).await;
    let mut clients = Vec::new();
    while let Some(client) = client(&broker.address) {
        clients.push(client);
        assert!(clients.len() <= CONNECTIONS, "more than there is room for");
    }
    assert!(clients.len() >= CONNECTIONS / 2, "{}", clients.len());
    for offset in 0..20 {
        assert_eq!(produce(&connection).await, NONE);
        read(&connection, offset).await;
    }
    drop(clients);
    assert!(client(&broker.address).is_some(), "there is room again");
    let said = broker.stop();
    assert!(said.contains("raise the limit of open files"), "{said}");
}

#[tokio::test]
async fn a_broker_without_a_descriptor_left_comes_back_when_there_are_some() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    create_topic(&broker.address).await;
    let connection = connect(&broker.address).await;
    assert_eq!(produce(&connection).await, NONE);
    // No further file can be opened before the log files are closed.
    broker.limit_descriptors(3);
    let refused = produce(&connection).await;
    assert_eq!(refused.len(), 20, "every append begins a segment");
    let code = ErrorCode::NotEnoughReplicas.code();
    assert!(
        refused.iter().all(|refused| *refused == code),
        "{refused:?}"
    );
    assert!(client(&broker.address).is_none());
    broker.limit_descriptors(DESCRIPTORS);
    assert!(client(&broker.address).is_some());
    for _ in 0..3 {
        assert_eq!(produce(&connection).await, NONE);
    }
    for offset in 0..4 {
        read(&connection, offset).await;
    }
    broker.stop();
}
