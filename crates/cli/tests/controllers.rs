//! Three nodes as processes: the active controller is killed, a node that was away catches up, and the majority is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "configurations and logs of processes are no data of theirs"
)]

#[path = "../../broker/tests/ports/mod.rs"]
mod ports;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ottla_client::{Connection, Options};
use ottla_protocol::messages::{
    CreateTopicsRequestData, DescribeQuorumRequestData, IncrementalAlterConfigsRequestData,
    MetadataRequestData, create_topics_request, describe_quorum_request, describe_quorum_response,
    incremental_alter_configs_request,
};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_mins(1);

struct Nodes {
    root: tempfile::TempDir,
    /// Of the brokers and of the controllers.
    ports: [u16; 6],
    running: [Option<Child>; 3],
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in 0..3 {
            self.kill(node);
        }
    }
}

impl Nodes {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            ports: [(); 6].map(|()| ports::held()),
            running: [None, None, None],
        }
    }

    fn config(&self, node: usize) -> PathBuf {
        let path = self.root.path().join(format!("{node}.properties"));
        let voters: Vec<String> = (0..3)
            .map(|id| format!("{id}@127.0.0.1:{}", self.ports[3 + id]))
            .collect();
        let text = format!(
            "process.roles=broker,controller\nnode.id={node}\nlog.dirs={}\n\
             listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.voters={}\n\
             ottla.cluster.id=AAAAAAAAAAAAAAAAAAAABg\nottla.http.listen=\n\
             metadata.log.max.record.bytes.between.snapshots=1000000\n",
            self.directory(node).display(),
            self.ports[node],
            self.ports[3 + node],
            voters.join(","),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn directory(&self, node: usize) -> PathBuf {
        self.root.path().join(node.to_string())
    }

    fn start(&mut self, node: usize) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command.arg("serve").arg("--config").arg(self.config(node));
        let log = std::fs::File::create(self.root.path().join(format!("{node}.log"))).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.running[node] = Some(command.spawn().unwrap());
    }

    /// Ends the process with SIGKILL.
    fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.running[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether a node has logged a line with this part.
    fn logged(&self, node: usize, part: &str) -> bool {
        let log = self.root.path().join(format!("{node}.log"));
        std::fs::read_to_string(log).unwrap().contains(part)
    }

    async fn connect(&self, port: usize) -> Option<Connection> {
        let address = format!("127.0.0.1:{}", self.ports[port]);
        Connection::open(&address, &Options::default()).await.ok()
    }

    /// The state of the quorum, if this node has the active controller.
    async fn describe(&self, node: usize) -> Option<describe_quorum_response::PartitionData> {
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name("__cluster_metadata".to_owned().into())
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequestData::default().with_topics(vec![topic]);
        let connection = self.connect(3 + node).await?;
        let mut answer = connection.call(&request).await.ok()?;
        let partition = answer.topics.pop()?.partitions.pop()?;
        (partition.error_code == 0).then_some(partition)
    }

    /// Waits for the active controller.
    async fn active(&self) -> usize {
        eventually(async || {
            for node in 0..3 {
                if self.running[node].is_some() && self.describe(node).await.is_some() {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    async fn create(&self, node: usize, name: &str) -> Option<i16> {
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(name.to_owned().into())
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequestData::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let connection = self.connect(node).await?;
        Some(
            connection
                .call(&request)
                .await
                .ok()?
                .topics
                .pop()?
                .error_code,
        )
    }

    /// The names of the topics that this node knows.
    async fn topics(&self, node: usize) -> Option<Vec<String>> {
        let request = MetadataRequestData::default().with_topics(None);
        let answer = self.connect(node).await?.call(&request).await.ok()?;
        let names = answer.topics.iter().filter_map(|topic| topic.name.as_ref());
        let mut names: Vec<String> = names.map(|name| name.as_str().to_owned()).collect();
        names.sort();
        Some(names)
    }

    /// Writes more than a megabyte of metadata.
    async fn fill(&self, node: usize) {
        let connection = self.connect(node).await.unwrap();
        for round in 0..12 {
            let value: Vec<String> = (0..4_000).map(|at| format!("{at}:{round}")).collect();
            let value = value.join(",");
            let resources = (0..3).map(|topic| {
                let config = |key: &str| {
                    incremental_alter_configs_request::AlterableConfig::default()
                        .with_name(format!("{key}.replication.throttled.replicas").into())
                        .with_value(Some(value.clone().into()))
                };
                incremental_alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(format!("topic-{topic}").into())
                    .with_configs(vec![config("leader"), config("follower")])
            });
            let request =
                IncrementalAlterConfigsRequestData::default().with_resources(resources.collect());
            let answer = connection.call(&request).await.unwrap();
            assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
        }
    }
}

async fn eventually<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(LONG, search).await;
    found.expect("it takes too long")
}

fn has_snapshot(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory.join("__cluster_metadata-0")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .into_iter()
        .any(|name| name.ends_with(".checkpoint") && !name.starts_with("00000000000000000000-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_survives_the_kill_of_the_active_controller_and_waits_for_a_majority() {
    let mut nodes = Nodes::new();
    (0..3).for_each(|node| nodes.start(node));
    let first = nodes.active().await;
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    for node in 0..3 {
        let name = format!("topic-{node}");
        eventually(async || nodes.create(node, &name).await.filter(|code| *code == 0)).await;
    }

    nodes.kill(first);
    let next = nodes.active().await;
    assert_ne!(next, first);
    nodes.fill(second).await;
    eventually(async || has_snapshot(&nodes.directory(next)).then_some(())).await;
    assert_eq!(nodes.create(third, "without").await, Some(0));

    nodes.start(first);
    let all = ["topic-0", "topic-1", "topic-2", "without"];
    let knows_all = async || nodes.topics(first).await.filter(|topics| *topics == all);
    eventually(knows_all).await;
    assert!(nodes.logged(first, "the metadata goes on after a snapshot"));

    nodes.kill(second);
    nodes.kill(third);
    let refused = nodes.create(first, "refused").await.unwrap();
    assert_ne!(refused, 0, "one of three controllers is no majority");
    assert_eq!(nodes.topics(first).await.unwrap(), all, "reads go on");
    let lost = "no controller takes the heartbeats of this broker: reads and writes go on";
    eventually(async || nodes.logged(first, lost).then_some(())).await;
    nodes.start(second);
    eventually(async || nodes.create(first, "again").await.filter(|code| *code == 0)).await;
}
