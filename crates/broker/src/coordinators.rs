//! The group coordinators of this broker: one task for each partition of `__consumer_offsets` that it leads.
//!
//! [`GroupCoordinators`] finds the task that owns a group, and sends requests to it; `drivers/coordinator.rs` is such a
//! task.
//! [`GroupCoordinators::reconcile`] starts and ends tasks as leadership changes. A task that is still loading its
//! partition delays only the requests that are sent to it.

mod follow;
pub(crate) mod load;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ottla_coordinator::group::requests::{Call, GroupCall, Notice};
use ottla_coordinator::{Config, partition_for};
use ottla_metadata::{MetadataImage, Topic};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::records::Compression;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::BrokerConfig;
use crate::drivers::coordinator::{Log, Message, Owner, Phase};
use crate::internal_topics::CONSUMER_OFFSETS;
use crate::process::clock::Clock;
use crate::replicas::{Found, Partition, Replicas};

pub use self::follow::follow;
pub use ottla_coordinator::Unavailable;

/// Upper bound of the partitions that are loaded at the same time.
const LOADS_AT_ONCE: usize = 2;
/// How long a request waits for a coordinator that is loading. Then it is answered with `COORDINATOR_LOAD_IN_PROGRESS`.
const PATIENCE: Duration = Duration::from_millis(100);

/// How a coordinator's task is reached. The task ends when the last of these is dropped.
#[derive(Debug, Clone)]
struct Handle {
    topic: Uuid,
    epoch: i32,
    messages: mpsc::Sender<Message>,
    phase: watch::Receiver<Phase>,
}

impl Handle {
    async fn ready(&self) -> Result<(), Unavailable> {
        let mut phase = self.phase.clone();
        let settled = phase.wait_for(|phase| *phase != Phase::Loading);
        match tokio::time::timeout(PATIENCE, settled).await {
            Ok(Ok(phase)) if *phase == Phase::Active => Ok(()),
            Ok(_) => Err(Unavailable::NotCoordinator),
            Err(_) => Err(Unavailable::Loading),
        }
    }
}

#[derive(Debug, Default)]
struct Registry {
    /// The number of partitions of `__consumer_offsets`; `None` while it does not exist.
    partitions: Option<i32>,
    handles: BTreeMap<i32, Handle>,
}

/// All group coordinators of this broker.
#[derive(Debug)]
pub struct GroupCoordinators {
    config: Config,
    compression: Compression,
    expiry_interval: Duration,
    commit_timeout: Duration,
    clock: Clock,
    replicas: Arc<Replicas>,
    loads: Arc<Semaphore>,
    /// Held for lookups and for handing out tasks, never across an await.
    registry: RwLock<Registry>,
}

impl GroupCoordinators {
    /// No coordinators yet; [`GroupCoordinators::reconcile`] starts them.
    pub fn new(config: &BrokerConfig, clock: Clock, replicas: Arc<Replicas>) -> Arc<Self> {
        let groups = &config.groups;
        let compression = u8::try_from(groups.offsets_compression).ok();
        Arc::new(Self {
            config: Config {
                initial_rebalance_delay: groups.initial_rebalance_delay,
                min_session_timeout: groups.min_session_timeout,
                max_session_timeout: groups.max_session_timeout,
                max_size: groups.max_size,
                offset_metadata_max: groups.offset_metadata_max_bytes,
                offsets_retention: groups.offsets_retention,
                ..Config::default()
            },
            compression: compression
                .and_then(Compression::from_id)
                .unwrap_or(Compression::None),
            expiry_interval: groups.offsets_retention_check_interval,
            commit_timeout: groups.commit_timeout,
            clock,
            replicas,
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            registry: RwLock::default(),
        })
    }

    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Asks the coordinator of a group. The reply comes once everything appended before it is committed; for a join or
    /// a sync it may take as long as a rebalance.
    pub async fn ask<C: GroupCall>(&self, request: C) -> Result<C::Reply, Unavailable> {
        let handle = self.handle_of(request.group_id())?;
        ask(handle, request).await
    }

    /// Asks every coordinator of this broker. Those that have ended meanwhile, or whose partition cannot be read, are left
    /// out. One that is loading is an error.
    pub async fn ask_all<C: Call + Clone>(&self, request: C) -> Result<Vec<C::Reply>, Unavailable> {
        let mut replies = Vec::new();
        for handle in self.handles() {
            match ask(handle, request.clone()).await {
                Ok(reply) => replies.push(reply),
                Err(Unavailable::NotCoordinator) => {}
                Err(unavailable) => return Err(unavailable),
            }
        }
        Ok(replies)
    }

    /// Asks the coordinators of this broker that can answer now. Those that are loading are left out too.
    pub async fn ask_active<C: Call + Clone>(&self, request: C) -> Vec<C::Reply> {
        let mut replies = Vec::new();
        for handle in self.handles() {
            let is_active = *handle.phase.borrow() == Phase::Active;
            if is_active && let Ok(reply) = send(handle, request.clone()).await {
                replies.push(reply);
            }
        }
        replies
    }

    /// Sends a notice to every coordinator of this broker. One that has just ended does not need it.
    async fn notify_all(&self, notice: &Notice) {
        for handle in self.handles() {
            let _ = handle.messages.send(Message::Notice(notice.clone())).await;
        }
    }

    /// The partition of `__consumer_offsets` that owns a group; none while the topic does not exist.
    pub fn partition_of(image: &MetadataImage, group_id: &str) -> Option<PartitionIndex> {
        let count = image.topic(CONSUMER_OFFSETS)?.partitions.len();
        let count = i32::try_from(count).ok().filter(|count| *count > 0)?;
        Some(PartitionIndex(partition_for(group_id, count)))
    }

    /// Starts the coordinators of the partitions that this broker leads, and ends the others.
    pub fn reconcile(&self, image: &MetadataImage) {
        let topic = image.topic(CONSUMER_OFFSETS);
        // Looked up before the lock: a partition may have to wait for its disk.
        let led = topic.map(|topic| self.led(topic)).unwrap_or_default();
        let mut registry = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registry.partitions = topic.and_then(|topic| i32::try_from(topic.partitions.len()).ok());
        let mut handles = BTreeMap::new();
        for (partition, epoch) in led {
            let index = partition.index.0;
            let known = registry.handles.remove(&index);
            handles.insert(index, self.lead(partition, epoch, known));
        }
        registry.handles = handles;
    }

    /// The partitions of `topic` that this broker leads, each with its leader epoch.
    fn led(&self, topic: &Topic) -> Vec<(Arc<Partition>, i32)> {
        let here = topic.partitions.keys().filter_map(|index| {
            match self.replicas.by_id(topic.id, *index) {
                Found::Here(partition) => Some(partition),
                _ => None,
            }
        });
        let led = here.filter_map(|partition| {
            let role = self.replicas.disk_work().run(|| partition.role());
            role.is_leader().then_some((partition, role.leader_epoch.0))
        });
        led.collect()
    }

    /// The task of a partition: the existing one if nothing has changed, or a new one.
    fn lead(&self, partition: Arc<Partition>, epoch: i32, known: Option<Handle>) -> Handle {
        let topic = partition.topic_id;
        if let Some(known) = known.filter(|known| known.topic == topic && known.epoch == epoch) {
            return known;
        }
        let log = Log {
            partition,
            disk_work: Arc::clone(self.replicas.disk_work()),
            compression: self.compression,
            clock: self.clock,
        };
        let owner = Owner::new(log, self.config.clone(), self.commit_timeout);
        let (messages, phase) = owner.start(Arc::clone(&self.loads));
        Handle {
            topic,
            epoch,
            messages,
            phase,
        }
    }

    /// Ends all coordinators. Requests whose records wait for their commit are still answered.
    pub fn stop(&self) {
        let mut registry = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registry.handles.clear();
    }

    fn handle_of(&self, group_id: &str) -> Result<Handle, Unavailable> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let count = registry.partitions.filter(|count| *count > 0);
        let count = count.ok_or(Unavailable::NotCoordinator)?;
        let handle = registry.handles.get(&partition_for(group_id, count));
        handle.cloned().ok_or(Unavailable::NotCoordinator)
    }

    fn handles(&self) -> Vec<Handle> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.handles.values().cloned().collect()
    }
}

/// Waits until a coordinator is loaded, but not for long, and sends it a request.
async fn ask<C: Call>(handle: Handle, request: C) -> Result<C::Reply, Unavailable> {
    handle.ready().await?;
    send(handle, request).await
}

/// Sends a request to a coordinator's task and waits for the reply. Once sent, the request is carried out whole, even
/// if the client goes away. A dropped reply channel means that the coordinator has ended.
async fn send<C: Call>(handle: Handle, request: C) -> Result<C::Reply, Unavailable> {
    let (answer, reply) = oneshot::channel();
    let message = Message::Request(Box::new(request.into()), answer);
    let sent = handle.messages.send(message).await;
    sent.map_err(|_| Unavailable::NotCoordinator)?;
    // A request that waits for a rebalance must not keep alive a task that is to end.
    drop(handle);
    let reply = reply.await.unwrap_or(Err(Unavailable::NotCoordinator))?;
    Ok(C::reply_from(reply).expect("a shard answers a request with the reply of the same name"))
}

#[cfg(test)]
mod tests;
