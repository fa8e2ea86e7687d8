//! The configuration of a broker, resolved: every field has its value.
//!
//! Values come from the command line, else from the environment, else from Kafka's `server.properties`, else from the table
//! of keys in `metadata::config_keys`. Configs that may change while the broker runs are merged with these by
//! `metadata::effective`.

mod environment;
mod joining;
pub mod listeners;
pub mod problems;
pub mod properties;
mod quorum;
pub mod read;
pub mod values;

use std::path::PathBuf;
use std::time::Duration;

use ottla_metadata::config_keys::together;
use ottla_metadata::effective::StaticConfigs;
use ottla_protocol::ids::{NodeId, Uuid};

pub use joining::Joining;
pub use listeners::{HostPort, ListenerConfig};
pub use problems::Problems;
pub use quorum::{QuorumConfig, Roles};

use listeners::Listeners;
use read::{Notes, Settings};
use values::Values;

/// The only selector of replicas beside the default.
const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Bound of the bytes of requests in flight if `queued.max.request.bytes` sets none. Kafka has no bound then.
const REQUESTS_IN_FLIGHT: u64 = 256 * 1024 * 1024;

/// The values without a configuration file: one node on loopback that needs no other node.
const SINGLE_NODE: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    (
        "listeners",
        "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
    ),
    ("controller.listener.names", "CONTROLLER"),
    ("log.dirs", "./ottla-data"),
    ("default.replication.factor", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
];

/// The configuration of one broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// The incarnation of this process, if its node id is kept for it already.
    pub incarnation: Option<Uuid>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The role of this node, and where the controllers are.
    pub quorum: QuorumConfig,
    /// Listeners and their limits.
    pub network: NetworkConfig,
    /// Directories and files.
    pub storage: StorageConfig,
    /// Defaults of new topics.
    pub topics: TopicsConfig,
    /// Produce and fetch.
    pub records: RecordsConfig,
    /// Replication between brokers.
    pub replication: ReplicationConfig,
    /// Groups and their offsets.
    pub groups: GroupsConfig,
    /// The metadata log.
    pub metadata: MetadataConfig,
    /// The elections that the controller makes by itself.
    pub elections: ElectionsConfig,
    /// `ottla.http.listen`; `None` when empty.
    pub http: Option<HostPort>,
    /// Every key that was set, with its value as text. DescribeConfigs shows these, and topics take defaults from them.
    pub statics: StaticConfigs,
}

/// Listeners and the limits of connections and requests.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `listeners`, without the controller's.
    pub listeners: Vec<ListenerConfig>,
    /// The listeners of `controller.listener.names`.
    pub controller_listeners: Vec<ListenerConfig>,
    /// Whether a controller's listener may take another port, if its own is busy: there is no configuration file.
    pub may_move_controller: bool,
    /// The same of the listeners for clients: the node joins a cluster, whose first node may run on this machine.
    pub may_move_listeners: bool,
    /// `inter.broker.listener.name`.
    pub inter_broker_listener: String,
    /// `connections.max.idle.ms`.
    pub connections_max_idle: Duration,
    /// `socket.request.max.bytes`.
    pub max_request_bytes: usize,
    /// `ottla.request.max.bytes`.
    pub max_request_bytes_without_records: usize,
    /// `queued.max.request.bytes`; where it sets no bound, 256 MiB.
    pub max_bytes_in_flight: u64,
    /// `ottla.request.receive.timeout.ms`.
    pub receive_timeout: Duration,
    /// `socket.listen.backlog.size`.
    pub backlog: i32,
}

/// Log directories and their regular jobs.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// The directories that the start could not use. They are not in `log_dirs`.
    pub offline_log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, by default the first of `log.dirs`.
    pub metadata_log_dir: PathBuf,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_point_interval: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_interval: Duration,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Duration,
    /// `ottla.flush.max.delay.ms`.
    pub flush_max_delay: Duration,
    /// `ottla.disk.reserve` in bytes, where it is set.
    pub disk_reserve: Option<u64>,
    /// `ottla.max.open.files`, where it is set.
    pub max_open_files: Option<usize>,
}

/// Defaults of new topics, where the request does not set them.
#[derive(Debug, Clone)]
pub struct TopicsConfig {
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub delete: bool,
    /// `num.partitions`.
    pub partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
}

/// Produce and fetch.
#[derive(Debug, Clone)]
pub struct RecordsConfig {
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `ottla.fetch.buffered.max.bytes`.
    pub fetch_buffered_max_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions: usize,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval: Duration,
    /// `ottla.decompressed.max.bytes`.
    pub decompressed_max_bytes: usize,
    /// `max.request.partition.size.limit`.
    pub described_partitions: usize,
}

/// Replication between brokers.
#[derive(Debug, Clone)]
pub struct ReplicationConfig {
    /// `replica.lag.time.max.ms`.
    pub max_lag: Duration,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait: Duration,
    /// `replica.fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `replica.fetch.max.bytes`, of one partition.
    pub fetch_partition_bytes: i32,
    /// `replica.fetch.response.max.bytes`.
    pub fetch_bytes: i32,
    /// `replica.socket.timeout.ms`.
    pub socket_timeout: Duration,
    /// `replica.selector.class`.
    pub read_from: ReadFrom,
}

/// Which replica consumers are told to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    Leader,
    /// One in their rack, if there is one.
    Rack,
}

/// Groups and their offsets.
#[derive(Debug, Clone)]
pub struct GroupsConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: i32,
    /// `offsets.topic.compression.codec`: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub offsets_compression: i8,
}

/// The metadata log.
#[derive(Debug, Clone)]
pub struct MetadataConfig {
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub snapshot_bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None` when 0.
    pub snapshot_interval: Option<Duration>,
    /// `broker.session.timeout.ms`.
    pub broker_session: Duration,
    /// `ottla.broker.unreachable.fence.enable`.
    pub fences_unreachable: bool,
}

/// The elections that the controller makes by itself.
#[derive(Debug, Clone, Copy)]
pub struct ElectionsConfig {
    /// `leader.imbalance.check.interval.seconds`; `None` without `auto.leader.rebalance.enable`.
    pub preferred_interval: Option<Duration>,
    /// `unclean.leader.election.interval.ms`.
    pub unclean_interval: Duration,
}

/// A valid configuration, and what to log about it.
#[derive(Debug)]
pub struct Loaded {
    pub config: BrokerConfig,
    /// Lines for the operator.
    pub warnings: Vec<String>,
}

/// A properties file that was read.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its path, as it was given.
    pub name: &'a str,
    pub text: &'a str,
}

/// An environment variable: its name and its value.
pub type Variable = (String, String);

/// Reads a configuration: `file`, or the values of a single node where there is none, with `overrides` over it.
pub fn load(file: Option<File<'_>>, overrides: &[String]) -> Result<Loaded, Problems> {
    load_with_environment(file, &[], overrides)
}

/// Reads a configuration as [`load`] does; keys that `environment` sets override the file, and `overrides` override both.
pub fn load_with_environment(
    file: Option<File<'_>>,
    environment: &[Variable],
    overrides: &[String],
) -> Result<Loaded, Problems> {
    load_on(Base::File(file), environment, overrides)
}

/// Reads the configuration of a node that joins a cluster without a file.
pub fn load_joining(
    joining: &Joining,
    environment: &[Variable],
    overrides: &[String],
) -> Result<Loaded, Problems> {
    load_on(Base::Joining(joining), environment, overrides)
}

/// What a configuration begins with.
#[derive(Clone, Copy)]
enum Base<'a> {
    /// A file; without one, the values of a single node.
    File(Option<File<'a>>),
    Joining(&'a Joining),
}

impl Base<'_> {
    /// The node that joins; it is no controller where `process.roles` is set and says so.
    fn joining(&self, settings: &Settings) -> Option<Joining> {
        let Self::Joining(joining) = *self else {
            return None;
        };
        Some(Joining {
            is_controller: joining.is_controller && settings.may_be("process.roles", "controller"),
            ..joining.clone()
        })
    }
}

fn load_on(
    base: Base<'_>,
    environment: &[Variable],
    overrides: &[String],
) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let mut settings = Settings::default();
    if let Base::File(Some(file)) = &base {
        settings.add_file(file.name, file.text);
    }
    for variable in environment {
        if let Some(key) = environment::key(variable) {
            settings.add_variable(key, variable);
        }
    }
    for text in overrides {
        settings.add_override(text, &mut problems);
    }
    let joining = base.joining(&settings);
    if matches!(base, Base::File(None)) {
        settings.add_listener("CONTROLLER", "CONTROLLER://127.0.0.1:9093");
        settings.add_base(SINGLE_NODE);
    }
    if let Some(joining) = &joining {
        joining.add_to(&mut settings);
    }
    let may_move = !matches!(base, Base::File(Some(_))) && !settings.is_set("listeners");
    let (values, notes) = read::check(settings, &mut problems);
    for broken in together::of_start(&|key| Some(values.text(key))) {
        problems.add(&broken.keys[0], broken.why);
    }
    let mut config = resolve(values, &mut problems);
    config.network.may_move_controller = !matches!(base, Base::File(Some(_)));
    config.network.may_move_listeners = may_move && matches!(base, Base::Joining(_));
    if let Some(joining) = joining {
        joining.apply(&mut config);
    }
    let warnings = warnings(&notes, &config);
    problems.or(Loaded { config, warnings })
}

impl BrokerConfig {
    /// One node without a configuration file: its data is in `directory`, and it listens on loopback only.
    pub fn embedded(directory: PathBuf, port: u16) -> Self {
        let overrides = [format!("listeners=PLAINTEXT://127.0.0.1:{port}")];
        let mut config = load(None, &overrides)
            .expect("the values of a single node are valid")
            .config;
        config.http = None;
        config.storage.metadata_log_dir.clone_from(&directory);
        config.storage.log_dirs = vec![directory];
        config
    }
}

impl BrokerConfig {
    /// The same configuration without the log directories that cannot be used.
    #[must_use]
    pub fn without_directories(mut self, offline: Vec<PathBuf>) -> Self {
        self.storage.log_dirs.retain(|path| !offline.contains(path));
        self.storage.offline_log_dirs = offline;
        self
    }
}

fn resolve(values: Values, problems: &mut Problems) -> BrokerConfig {
    let node_id = node_id(&values, problems);
    let roles = quorum::roles(&values, problems);
    let listeners = listeners::read(&values, roles, problems);
    let quorum = quorum::read(&values, (node_id, roles), &listeners, problems);
    let http = match values.text("ottla.http.listen").as_str() {
        "" => None,
        address => {
            let parsed = listeners::parse_address(address);
            if parsed.is_none() {
                problems.add("ottla.http.listen", format!("{address} is not host:port"));
            }
            parsed
        }
    };
    BrokerConfig {
        node_id,
        incarnation: None,
        rack: values
            .set("broker.rack")
            .map(str::trim)
            .filter(|rack| !rack.is_empty())
            .map(str::to_owned),
        quorum,
        network: network(&values, listeners),
        storage: storage(&values, problems),
        topics: TopicsConfig {
            auto_create: values.flag("auto.create.topics.enable"),
            delete: values.flag("delete.topic.enable"),
            partitions: values.count("num.partitions"),
            replication_factor: values.count("default.replication.factor"),
        },
        records: RecordsConfig {
            fetch_max_bytes: values.count("fetch.max.bytes"),
            fetch_buffered_max_bytes: values.count("ottla.fetch.buffered.max.bytes"),
            fetch_sessions: values.count("max.incremental.fetch.session.cache.slots"),
            producer_id_expiration_check_interval: values
                .duration("producer.id.expiration.check.interval.ms"),
            decompressed_max_bytes: values.count("ottla.decompressed.max.bytes"),
            described_partitions: values.count("max.request.partition.size.limit"),
        },
        replication: replication(&values),
        groups: groups(&values),
        metadata: MetadataConfig {
            snapshot_bytes: values.count("metadata.log.max.record.bytes.between.snapshots"),
            snapshot_interval: Some(values.duration("metadata.log.max.snapshot.interval.ms"))
                .filter(|interval| !interval.is_zero()),
            broker_session: values.duration("broker.session.timeout.ms"),
            fences_unreachable: values.flag("ottla.broker.unreachable.fence.enable"),
        },
        elections: ElectionsConfig {
            preferred_interval: values.flag("auto.leader.rebalance.enable").then(|| {
                Duration::from_secs(values.count("leader.imbalance.check.interval.seconds"))
            }),
            unclean_interval: values.duration("unclean.leader.election.interval.ms"),
        },
        http,
        statics: StaticConfigs {
            node: node_id,
            values: values.into_set(),
        },
    }
}

fn node_id(values: &Values, problems: &mut Problems) -> NodeId {
    match (values.set("node.id"), values.set("broker.id")) {
        (Some(_), older) => {
            if older.is_some_and(|older| older.trim() != values.text("node.id")) {
                problems.add("broker.id", "it differs from node.id; remove it".to_owned());
            }
            NodeId(values.count("node.id"))
        }
        (None, Some(_)) => NodeId(values.count("broker.id")),
        (None, None) => {
            problems.add(
                "node.id",
                "it must be set: the number of this node, unique in the cluster".to_owned(),
            );
            NodeId(0)
        }
    }
}

fn network(values: &Values, listeners: Listeners) -> NetworkConfig {
    let in_flight = values.number("queued.max.request.bytes");
    NetworkConfig {
        listeners: listeners.broker,
        controller_listeners: listeners.controller,
        may_move_controller: false,
        may_move_listeners: false,
        inter_broker_listener: listeners.inter_broker,
        connections_max_idle: values.duration("connections.max.idle.ms"),
        max_request_bytes: values.count("socket.request.max.bytes"),
        max_request_bytes_without_records: values.count("ottla.request.max.bytes"),
        max_bytes_in_flight: u64::try_from(in_flight)
            .ok()
            .filter(|bytes| *bytes > 0)
            .unwrap_or(REQUESTS_IN_FLIGHT),
        receive_timeout: values.duration("ottla.request.receive.timeout.ms"),
        backlog: values.count("socket.listen.backlog.size"),
    }
}

fn storage(values: &Values, problems: &mut Problems) -> StorageConfig {
    let set = if values.set("log.dirs").is_some() {
        "log.dirs"
    } else {
        "log.dir"
    };
    let log_dirs: Vec<PathBuf> = values.list(set).into_iter().map(PathBuf::from).collect();
    if log_dirs.is_empty() {
        problems.add("log.dirs", "it must name a directory".to_owned());
    }
    let metadata_log_dir = values
        .set("metadata.log.dir")
        .map(|directory| PathBuf::from(directory.trim()))
        .or_else(|| log_dirs.first().cloned())
        .unwrap_or_default();
    StorageConfig {
        log_dirs,
        offline_log_dirs: Vec::new(),
        metadata_log_dir,
        retention_check_interval: values.duration("log.retention.check.interval.ms"),
        recovery_point_interval: values.duration("log.flush.offset.checkpoint.interval.ms"),
        high_watermark_interval: values.duration("replica.high.watermark.checkpoint.interval.ms"),
        initial_task_delay: values.duration("log.initial.task.delay.ms"),
        flush_max_delay: values.duration("ottla.flush.max.delay.ms"),
        disk_reserve: values
            .set("ottla.disk.reserve")
            .map(|_| values.count("ottla.disk.reserve")),
        max_open_files: values
            .set("ottla.max.open.files")
            .map(|_| values.count("ottla.max.open.files")),
    }
}

fn replication(values: &Values) -> ReplicationConfig {
    ReplicationConfig {
        max_lag: values.duration("replica.lag.time.max.ms"),
        fetch_wait: values.duration("replica.fetch.wait.max.ms"),
        fetch_min_bytes: values.count("replica.fetch.min.bytes"),
        fetch_partition_bytes: values.count("replica.fetch.max.bytes"),
        fetch_bytes: values.count("replica.fetch.response.max.bytes"),
        socket_timeout: values.duration("replica.socket.timeout.ms"),
        read_from: match values.set("replica.selector.class") {
            Some(RACK_AWARE_SELECTOR) => ReadFrom::Rack,
            _ => ReadFrom::Leader,
        },
    }
}

fn groups(values: &Values) -> GroupsConfig {
    GroupsConfig {
        min_session_timeout: values.duration("group.min.session.timeout.ms"),
        max_session_timeout: values.duration("group.max.session.timeout.ms"),
        initial_rebalance_delay: values.duration("group.initial.rebalance.delay.ms"),
        max_size: values.count("group.max.size"),
        offset_metadata_max_bytes: values.count("offset.metadata.max.bytes"),
        offsets_retention: Duration::from_mins(values.count("offsets.retention.minutes")),
        offsets_retention_check_interval: values.duration("offsets.retention.check.interval.ms"),
        commit_timeout: values.duration("offsets.commit.timeout.ms"),
        offsets_partitions: values.count("offsets.topic.num.partitions"),
        offsets_replication_factor: values.count("offsets.topic.replication.factor"),
        offsets_segment_bytes: values.count("offsets.topic.segment.bytes"),
        offsets_compression: i8::try_from(values.number("offsets.topic.compression.codec"))
            .unwrap_or(0),
    }
}

/// What a node that may stay alone is warned of.
fn needed_brokers(config: &BrokerConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let offsets = config.groups.offsets_replication_factor;
    if offsets > 1 {
        warnings.push(format!(
            "offsets.topic.replication.factor is {offsets}: __consumer_offsets cannot be created and no group will work \
             before there are {offsets} brokers; for one node, set offsets.topic.replication.factor=1"
        ));
    }
    let default = config.topics.replication_factor;
    if default > 1 {
        warnings.push(format!(
            "default.replication.factor is {default}: before there are {default} brokers, a topic is created only if the \
             request names fewer replicas; for one node, set default.replication.factor=1"
        ));
    }
    warnings
}

fn warnings(notes: &Notes, config: &BrokerConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if !notes.without_effect.is_empty() {
        warnings.push(format!(
            "accepted, but without effect in this release: {}",
            notes.without_effect.join(", ")
        ));
    }
    if !notes.unknown.is_empty() {
        warnings.push(format!(
            "unknown, perhaps for a plugin of Kafka: {}",
            notes.unknown.join(", ")
        ));
    }
    if config.quorum.roles == Roles::BrokerAndController && config.quorum.voters.len() < 2 {
        warnings.extend(needed_brokers(config));
    }
    warnings
}

#[cfg(test)]
mod tests;
