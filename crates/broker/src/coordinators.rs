//! The group coordinators of this broker: one task for each partition of `__consumer_offsets` that it leads.
//!
//! [`GroupCoordinators`] finds the task that owns a group and hands it commands; `owner` is such a task. Tasks
//! come and go as the metadata says ([`GroupCoordinators::reconcile`]). One that is still reading its partition
//! answers so, and keeps nobody waiting but those who ask it.

mod follow;
pub(crate) mod load;
mod owner;
pub(crate) mod records;
mod uncommitted;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ottla_coordinator::group::classic::{JoinReply, JoinRequest, SyncReply, SyncRequest};
use ottla_coordinator::{Action, Config, Decision, Shard, partition_for};
use ottla_metadata::{MetadataImage, Topic};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::Compression;
use ottla_protocol::time::Now;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::owner::{Command, Owner};
use crate::clock::Clock;
use crate::config::BrokerConfig;
use crate::internal_topics::CONSUMER_OFFSETS;
use crate::replicas::{Found, Partition, Replicas};

pub use self::follow::follow;

/// Commands that may wait for one coordinator; beyond it callers wait to be queued.
const MAX_WAITING: usize = 1024;
/// Partitions that are read at the same time.
const LOADS_AT_ONCE: usize = 2;
/// How long a request waits for a coordinator that is being read, before its client is told to come back.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why a coordinator did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It is reading its partition.
    #[error("the coordinator is loading")]
    Loading,
    /// This broker does not lead the group's partition, or has just lost what it wrote there.
    #[error("this broker is not the coordinator")]
    NotCoordinator,
    /// It cannot write now, or what it wrote is not committed in time.
    #[error("the coordinator cannot write")]
    NotAvailable,
    /// What it would have to write is larger than the topic takes.
    #[error("the record is too large for {CONSUMER_OFFSETS}")]
    TooLarge,
}

impl Unavailable {
    /// Kafka's code.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::NotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge => ErrorCode::UnknownServerError,
        }
    }
}

/// Whether a coordinator can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Active,
    /// Its partition cannot be read.
    Failed,
}

/// How a coordinator's task is reached. The task ends when the last of these is dropped.
#[derive(Debug, Clone)]
struct Handle {
    topic: Uuid,
    epoch: i32,
    commands: mpsc::Sender<Command>,
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
    /// How many partitions the topic has; none while it does not exist.
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
    /// No coordinators yet: the metadata says which.
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

    /// The settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Has the coordinator of a group decide; returns its reply once the records are committed.
    pub async fn decide<R, F>(&self, group_id: &str, decide: F) -> Result<R, Unavailable>
    where
        R: Send + 'static,
        F: FnOnce(&Shard, Now) -> Decision<R> + Send + 'static,
    {
        let handle = self.handle_of(group_id)?;
        ask(handle, move |owner, reply| owner.decide(decide, reply)).await
    }

    /// Tells the coordinator of a group what has happened; returns its reply once what that leads to is committed.
    pub async fn tell<R, F>(&self, group_id: &str, event: F) -> Result<R, Unavailable>
    where
        R: Send + 'static,
        F: FnOnce(&mut Shard, Now) -> (R, Vec<Action>) + Send + 'static,
    {
        let handle = self.handle_of(group_id)?;
        ask(handle, move |owner, reply| owner.tell(event, reply)).await
    }

    /// Joins a group; the reply may take as long as a rebalance.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinReply, Unavailable> {
        let handle = self.handle_of(&request.group_id)?;
        ask(handle, move |owner, reply| owner.join(&request, reply)).await
    }

    /// Asks for an assignment; the reply may take until the leader has made it.
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncReply, Unavailable> {
        let handle = self.handle_of(&request.group_id)?;
        ask(handle, move |owner, reply| owner.sync(&request, reply)).await
    }

    /// Asks every coordinator; those that are not here any more are left out.
    pub async fn ask_all<R, F>(&self, read: F) -> Result<Vec<R>, Unavailable>
    where
        R: Send + 'static,
        F: Fn(&Shard) -> R + Clone + Send + 'static,
    {
        let mut replies = Vec::new();
        for handle in self.handles() {
            let read = read.clone();
            let decide = move |shard: &Shard, _: Now| Decision::reply(read(shard));
            match ask(handle, move |owner, reply| owner.decide(decide, reply)).await {
                Ok(reply) => replies.push(reply),
                Err(Unavailable::NotCoordinator) => {}
                Err(unavailable) => return Err(unavailable),
            }
        }
        Ok(replies)
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

    /// The task of a partition: the one that is there if nothing has changed, or a new one.
    fn lead(&self, partition: Arc<Partition>, epoch: i32, known: Option<Handle>) -> Handle {
        let topic = partition.topic_id;
        if let Some(known) = known.filter(|known| known.topic == topic && known.epoch == epoch) {
            return known;
        }
        let (commands, mailbox) = mpsc::channel(MAX_WAITING);
        let (settle, phase) = watch::channel(Phase::Loading);
        let owner = Owner::new(
            (partition, Arc::clone(self.replicas.disk_work())),
            self.config.clone(),
            self.compression,
            self.commit_timeout,
            self.clock,
        );
        tokio::spawn(owner.run(mailbox, settle, Arc::clone(&self.loads)));
        Handle {
            topic,
            epoch,
            commands,
            phase,
        }
    }

    /// Ends all coordinators; what is committed stays.
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

/// Where a coordinator sends its answer.
type Answer<R> = oneshot::Sender<Result<R, Unavailable>>;

/// Hands a command to a coordinator's task and waits for the answer. Once handed over, the command is carried out
/// whole, whether or not somebody still waits. An answer that never comes means that the coordinator has lost what
/// the command wrote, or has ended.
async fn ask<R, F>(handle: Handle, command: F) -> Result<R, Unavailable>
where
    R: Send + 'static,
    F: FnOnce(&mut Owner, Answer<R>) + Send + 'static,
{
    handle.ready().await?;
    let (sender, answer) = oneshot::channel();
    let command: Command = Box::new(move |owner| command(owner, sender));
    let sent = handle.commands.send(command).await;
    sent.map_err(|_| Unavailable::NotCoordinator)?;
    // Whoever waits for a rebalance must not keep alive the task that is to end it.
    drop(handle);
    answer.await.unwrap_or(Err(Unavailable::NotCoordinator))
}
