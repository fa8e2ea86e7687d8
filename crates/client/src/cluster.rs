//! The brokers of one cluster: connections, metadata, leaders of partitions and coordinators of groups.
//!
//! Connections are opened on demand and replaced when they break. The metadata of a topic is requested when it is needed
//! and not known, older than `metadata_max_age`, or forgotten because it was wrong ([`Cluster::forget`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ottla_protocol::messages::{
    FindCoordinatorRequestData, KafkaString, MetadataRequestData, MetadataRequestTopic,
};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::{
    ClientError, ClusterMetadata, Connection, Request, Result, TopicMetadata, TopicPartition,
};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name by which the broker's logs and metrics show this client.
    pub client_id: String,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long a broker may take to answer.
    pub request_timeout: Duration,
    /// How long a broker may leave packets unconfirmed before its connection fails, if there is a bound. Slow answers do not
    /// matter: the kernel of a broker confirms packets while its process is busy.
    pub unconfirmed_for: Option<Duration>,
    /// How long a call is tried again after retriable errors.
    pub retry_for: Duration,
    /// The age at which the metadata of a topic is requested again (`metadata.max.age.ms`).
    pub metadata_max_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "ottla".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            unconfirmed_for: None,
            retry_for: Duration::from_secs(30),
            metadata_max_age: Duration::from_mins(5),
        }
    }
}

/// A client of one cluster.
#[derive(Debug)]
pub struct Cluster {
    bootstrap: Vec<String>,
    options: Options,
    /// Many tasks share one cluster; the lock is held for a lookup or a replacement only, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bootstrap: Option<Arc<Connection>>,
    nodes: HashMap<i32, Arc<Connection>>,
    metadata: Arc<ClusterMetadata>,
    /// When the metadata of each topic was last requested.
    asked: HashMap<String, Instant>,
}

impl Cluster {
    /// Connects to the first address of `bootstrap` (`host:port`) that answers, and asks it for the brokers.
    pub async fn connect(bootstrap: &[String], options: Options) -> Result<Self> {
        let cluster = Self {
            bootstrap: bootstrap.to_vec(),
            options,
            state: Mutex::default(),
        };
        cluster.request_metadata(Some(&[]), false).await?;
        Ok(cluster)
    }

    /// How this client behaves.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The metadata as last received.
    pub fn metadata(&self) -> Arc<ClusterMetadata> {
        Arc::clone(&self.state().metadata)
    }

    /// Requests the metadata of all topics.
    pub async fn refresh_all(&self) -> Result<Arc<ClusterMetadata>> {
        self.request_metadata(None, false).await?;
        Ok(self.metadata())
    }

    /// Requests the metadata of these topics. Returns the errors of single topics by name.
    pub async fn refresh(&self, topics: &[String]) -> Result<BTreeMap<String, ErrorCode>> {
        self.request_metadata(Some(topics), false).await
    }

    /// The topic, which must exist. Known metadata is used unless it is old. Asks again while the topic has no leader.
    pub async fn topic(&self, name: &str) -> Result<TopicMetadata> {
        self.topic_with(name, Creation::Never).await
    }

    /// The topic, created by the broker if it is missing and `auto.create.topics.enable` allows it.
    pub async fn topic_or_create(&self, name: &str) -> Result<TopicMetadata> {
        self.topic_with(name, Creation::AsTheBrokerAllows).await
    }

    async fn topic_with(&self, name: &str, creation: Creation) -> Result<TopicMetadata> {
        let names = [name.to_owned()];
        if let Some(topic) = self.metadata().topics.get(name) {
            if !self.is_old(name) {
                return Ok(topic.clone());
            }
            match self.request_metadata(Some(&names), false).await {
                // The old metadata is used while no broker can be reached.
                Err(error) if error.is_retriable() => return Ok(topic.clone()),
                answer => answer?,
            };
            if let Some(topic) = self.metadata().topics.get(name) {
                return Ok(topic.clone());
            }
        }
        let mut backoff = Backoff::new(self.options.retry_for);
        loop {
            let create = creation == Creation::AsTheBrokerAllows;
            let errors = self.request_metadata(Some(&names), create).await?;
            if let Some(topic) = self.metadata().topics.get(name) {
                return Ok(topic.clone());
            }
            let code = errors.get(name).copied();
            let code = code.unwrap_or(ErrorCode::UnknownTopicOrPartition);
            let passes = code == ErrorCode::LeaderNotAvailable
                || (create && code == ErrorCode::UnknownTopicOrPartition);
            if !passes || !backoff.wait().await {
                return Err(ClientError::refused(format!("topic {name}"), code));
            }
        }
    }

    /// The leader of a partition; waits while it has none.
    pub async fn leader(&self, partition: &TopicPartition) -> Result<i32> {
        let mut backoff = Backoff::new(self.options.retry_for);
        let mut topic = self.topic(&partition.topic).await?;
        loop {
            let Some(found) = topic.partitions.get(&partition.partition) else {
                let code = ErrorCode::UnknownTopicOrPartition;
                return Err(ClientError::refused(format!("partition {partition}"), code));
            };
            if let Some(leader) = found.leader {
                return Ok(leader);
            }
            if !backoff.wait().await {
                let code = ErrorCode::LeaderNotAvailable;
                return Err(ClientError::refused(format!("partition {partition}"), code));
            }
            self.forget(&partition.topic);
            topic = self.topic(&partition.topic).await?;
        }
    }

    /// Drops the metadata of a topic, so that it is requested when it is needed next.
    pub fn forget(&self, topic: &str) {
        let mut state = self.state();
        if state.metadata.topics.contains_key(topic) {
            Arc::make_mut(&mut state.metadata).topics.remove(topic);
        }
    }

    /// Calls one broker.
    pub async fn call<R: Request>(&self, node: i32, request: &R) -> Result<R::Response> {
        let connection = self.node(node).await?;
        connection.call(request).await
    }

    /// Calls any broker. After a retriable error it calls once more, perhaps another broker.
    pub async fn call_any<R: Request>(&self, request: &R) -> Result<R::Response> {
        let connection = self.any().await?;
        match connection.call(request).await {
            Err(error) if error.is_retriable() => self.any().await?.call(request).await,
            answer => answer,
        }
    }

    /// Calls the broker that takes admin requests. Brokers of Kafka 3.3 and later all forward them.
    pub async fn call_controller<R: Request>(&self, request: &R) -> Result<R::Response> {
        let metadata = self.metadata();
        match metadata.controller {
            Some(controller) if metadata.nodes.contains_key(&controller) => {
                self.call(controller, request).await
            }
            _ => self.call_any(request).await,
        }
    }

    /// The coordinator of a group; waits while there is none yet.
    pub async fn coordinator(&self, group: &str) -> Result<i32> {
        let request = FindCoordinatorRequestData {
            key_type: 0,
            coordinator_keys: vec![KafkaString::from(group.to_owned())],
            ..FindCoordinatorRequestData::default()
        };
        let mut backoff = Backoff::new(self.options.retry_for);
        loop {
            let response = self.call_any(&request).await?;
            let found = response.coordinators.first();
            let code = found.map_or(ErrorCode::CoordinatorNotAvailable, |found| {
                ErrorCode::from(found.error_code)
            });
            match found {
                Some(found) if !code.is_error() => {
                    self.learn_node(found.node_id, &found.host, found.port);
                    return Ok(found.node_id);
                }
                _ if code.is_retriable() && backoff.wait().await => {}
                _ => {
                    return Err(ClientError::refused(
                        format!("coordinator of group {group}"),
                        code,
                    ));
                }
            }
        }
    }

    /// The connection to a broker.
    pub async fn node(&self, id: i32) -> Result<Arc<Connection>> {
        if let Some(connection) = self.state().open_node(id) {
            return Ok(connection);
        }
        let known = self.metadata().nodes.get(&id).cloned();
        let node = known.ok_or(ClientError::UnknownNode(id))?;
        let opened = Connection::open(&node.address(), &self.options).await?;
        let mut state = self.state();
        // Tasks that start together may each open a connection. The first is kept, because it may have requests that are
        // not written yet.
        if let Some(earlier) = state.open_node(id) {
            return Ok(earlier);
        }
        let opened = Arc::new(opened);
        state.nodes.insert(id, Arc::clone(&opened));
        Ok(opened)
    }

    /// Closes the connection to a broker, so that the next call opens another. Calls that wait on it fail.
    pub(crate) fn disconnect(&self, id: i32) {
        self.state().nodes.remove(&id);
    }

    /// A connection to any broker: an open one, else to a bootstrap address, else to a known broker.
    async fn any(&self) -> Result<Arc<Connection>> {
        {
            let state = self.state();
            let mut open = state.nodes.values().chain(&state.bootstrap);
            if let Some(connection) = open.find(|connection| !connection.is_broken()) {
                return Ok(Arc::clone(connection));
            }
        }
        let known = self.metadata();
        let advertised = known.nodes.values().map(crate::Node::address);
        let mut last = None;
        for address in self.bootstrap.iter().cloned().chain(advertised) {
            match Connection::open(&address, &self.options).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    self.state().bootstrap = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                // The error of the first address is kept, because the user knows that one.
                Err(error) => last = last.or(Some(error)),
            }
        }
        Err(last.unwrap_or(ClientError::UnknownNode(-1)))
    }

    fn is_old(&self, topic: &str) -> bool {
        let asked = self.state().asked.get(topic).copied();
        asked.is_none_or(|at| at.elapsed() >= self.options.metadata_max_age)
    }

    async fn request_metadata(
        &self,
        topics: Option<&[String]>,
        allow_auto_topic_creation: bool,
    ) -> Result<BTreeMap<String, ErrorCode>> {
        if let Some(topics) = topics {
            let now = Instant::now();
            let asked = topics.iter().map(|topic| (topic.clone(), now));
            self.state().asked.extend(asked);
        }
        let by_name = |name: &String| MetadataRequestTopic {
            name: Some(KafkaString::from(name.clone())),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequestData {
            topics: topics.map(|names| names.iter().map(by_name).collect()),
            allow_auto_topic_creation,
            ..MetadataRequestData::default()
        };
        let response = self.call_any(&request).await?;
        ClientError::check(response.error_code, None, "metadata")?;
        let mut state = self.state();
        let known = match topics {
            Some(_) => state.metadata.topics.clone(),
            None => BTreeMap::new(),
        };
        let (next, errors) = ClusterMetadata::updated(known, &response);
        if topics.is_none() {
            let now = Instant::now();
            state.asked = next
                .topics
                .keys()
                .map(|topic| (topic.clone(), now))
                .collect();
        }
        state.metadata = Arc::new(next);
        Ok(errors)
    }

    fn learn_node(&self, id: i32, host: &KafkaString, port: i32) {
        let mut state = self.state();
        if !state.metadata.nodes.contains_key(&id) {
            let node = crate::Node {
                id,
                host: host.to_string(),
                port,
                rack: None,
            };
            Arc::make_mut(&mut state.metadata).nodes.insert(id, node);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    fn open_node(&self, id: i32) -> Option<Arc<Connection>> {
        let known = self.nodes.get(&id);
        known.filter(|known| !known.is_broken()).map(Arc::clone)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Creation {
    Never,
    AsTheBrokerAllows,
}
