//! The state that all handlers and tasks of one broker share.
//!
//! Everything here is either immutable, behind its own owner (a task that takes messages), or a counter.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use ottla_log::files::disk::Disk;
use ottla_protocol::messages::{ApiKey, KafkaString};
use ottla_quorum::{LogView, QuorumStatus};
use tokio::sync::watch;

use crate::cluster::channel::Controller;
use crate::cluster::elections::Elections;
use crate::cluster::isr_changes::IsrChanges;
use crate::cluster::lost_leaders::LostLeaders;
use crate::cluster::observers::Observers;
use crate::cluster::producer_ids::ProducerIds;
use crate::cluster::quorum_inbox::QuorumInbox;
use crate::config::BrokerConfig;
use crate::context::ListenerRole;
use crate::coordinators::GroupCoordinators;
use crate::drivers::Drivers;
use crate::drivers::cold_reads::ColdReads;
use crate::fetch_sessions::FetchSessions;
use crate::metrics::Metrics;
use crate::network::allowed::AllowedConnections;
use crate::network::closed_log::ClosedLog;
use crate::network::limits::ConnectionLimits;
use crate::process::clock::Clock;
use crate::process::descriptors::Shares;
use crate::process::held_files::HeldFiles;
use crate::process::log_levels::LogLevels;
use crate::process::read_buffers::ReadBuffers;
use crate::refused_transactions::RefusedTransactions;
use crate::replicas::Replicas;
use crate::weak_acks::WeakAcks;

/// One running broker. Handlers get it by reference; tasks hold it in an `Arc`.
#[derive(Debug)]
pub struct Broker {
    pub config: BrokerConfig,
    pub clock: Clock,
    /// `cluster.id`.
    pub cluster_id: KafkaString,
    /// Changes metadata, and has the committed metadata.
    pub controller: Controller,
    /// The leader of the metadata quorum and the offsets of its log; set at the start.
    pub quorum: OnceLock<watch::Receiver<QuorumStatus>>,
    /// What other nodes may read of the metadata log; set at the start of a controller.
    pub metadata_log: OnceLock<watch::Receiver<LogView<Disk>>>,
    /// Where the messages of other controllers arrive; set at the start of a controller that has others.
    pub quorum_inbox: OnceLock<Arc<QuorumInbox>>,
    /// The controllers that follow this one, while it is the active one; set at the start of a controller that has others.
    pub following: OnceLock<watch::Receiver<ottla_quorum::Replicas>>,
    /// The nodes that follow the metadata log of this controller.
    pub observers: Observers,
    /// The APIs that a listener serves, as the tables of handlers list them.
    pub served: fn(ListenerRole) -> &'static [ApiKey],
    pub metrics: Metrics,
    /// The partitions of this node.
    pub replicas: Arc<Replicas>,
    /// The threads that work on them.
    pub drivers: Arc<Drivers>,
    pub fetch_sessions: FetchSessions,
    /// The leaders to which this node has just lost its connection.
    pub lost_leaders: Arc<LostLeaders>,
    /// The elections of partition leaders.
    pub elections: Arc<Elections>,
    /// The changes of ISRs for the controller.
    pub isr_changes: Arc<IsrChanges>,
    ready: AtomicBool,
    /// See [`Broker::epoch`].
    epoch: AtomicI64,
    /// See [`Broker::has_controller`].
    has_controller: AtomicBool,
    /// See [`Broker::is_fenced`].
    is_fenced: AtomicBool,
    /// The buffers into which records are read.
    pub read_buffers: Arc<ReadBuffers>,
    /// Loads records that are not in the page cache.
    pub cold_reads: Arc<ColdReads<Disk>>,
    /// The log files that answers hold open.
    pub held_files: Arc<HeldFiles>,
    /// How the file descriptors of the process are divided.
    pub descriptors: Shares,
    /// Which closed connections have been logged.
    pub closed_log: ClosedLog,
    pub producer_ids: ProducerIds,
    /// The clients that asked for transactions.
    pub refused_transactions: RefusedTransactions,
    /// The clients that do not wait for the replicas.
    pub weak_acks: WeakAcks,
    pub groups: Arc<GroupCoordinators>,
    /// Counts and bounds the open connections.
    pub connections: Arc<ConnectionLimits>,
    pub log_levels: LogLevels,
}

impl Broker {
    /// The shared state of a broker; nothing runs yet.
    pub fn new(
        config: BrokerConfig,
        clock: Clock,
        cluster_id: KafkaString,
        controller: Controller,
        served: fn(ListenerRole) -> &'static [ApiKey],
    ) -> Arc<Self> {
        let descriptors = Shares::of_process(config.storage.max_open_files);
        let replicas = Replicas::new(&config, descriptors.log_files, clock);
        let syncs = replicas.directories().iter().map(|directory| {
            let path = directory.log.path().to_path_buf();
            (path, Arc::clone(&directory.flusher.syncs))
        });
        let cold_reads = Arc::new(ColdReads::new(syncs));
        let allowed = AllowedConnections::resolve(&controller.image(), &config.statics);
        Arc::new(Self {
            connections: ConnectionLimits::new(allowed, descriptors.connections),
            log_levels: LogLevels::default(),
            groups: GroupCoordinators::new(&config, clock, Arc::clone(&replicas)),
            read_buffers: ReadBuffers::new(config.records.fetch_buffered_max_bytes),
            cold_reads,
            held_files: HeldFiles::new(descriptors.held_files),
            descriptors,
            fetch_sessions: FetchSessions::new(config.records.fetch_sessions),
            lost_leaders: Arc::default(),
            elections: Arc::default(),
            isr_changes: Arc::default(),
            config,
            clock,
            cluster_id,
            controller,
            quorum: OnceLock::new(),
            metadata_log: OnceLock::new(),
            quorum_inbox: OnceLock::new(),
            following: OnceLock::new(),
            observers: Observers::default(),
            served,
            metrics: Metrics::new(served(ListenerRole::Broker)),
            drivers: Drivers::new(Arc::clone(&replicas)),
            replicas,
            ready: AtomicBool::new(false),
            epoch: AtomicI64::new(-1),
            has_controller: AtomicBool::new(true),
            is_fenced: AtomicBool::new(true),
            closed_log: ClosedLog::default(),
            producer_ids: ProducerIds::default(),
            refused_transactions: RefusedTransactions::default(),
            weak_acks: WeakAcks::default(),
        })
    }

    /// Whether clients are served.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The epoch of the registration of this process; -1 before there is one.
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether an active controller took the last heartbeat.
    pub fn has_controller(&self) -> bool {
        self.has_controller.load(Ordering::Acquire)
    }

    /// Whether the controller keeps this broker fenced, as it said last.
    pub fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Acquire)
    }

    /// Sets whether the controller keeps this broker fenced.
    pub fn set_fenced(&self, is_fenced: bool) {
        self.is_fenced.store(is_fenced, Ordering::Release);
    }

    /// Sets whether an active controller takes heartbeats.
    pub fn set_has_controller(&self, has_controller: bool) {
        self.has_controller.store(has_controller, Ordering::Release);
    }

    /// The controller has registered this process at `epoch`.
    pub fn set_epoch(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Sets whether clients are served.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }
}
