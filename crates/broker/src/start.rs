//! Start-up and shutdown: the order in which the parts of a broker are started and stopped.

mod directories;
mod first_records;
mod listen;
pub mod lock;
mod metadata_log;
mod refusals;
mod threads;
mod unserved_state;
mod voter;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ottla_controller::Settings;
use ottla_metadata::Endpoint;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::KafkaString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::listen::{bind, bind_controllers, bind_http, telling_http};
use self::lock::DirectoryLock;
pub use self::refusals::{DirectoryError, StartError};
use self::threads::{follow_controller, run_controller, watch_disks};
use self::unserved_state::UnservedState;
use crate::broker::Broker;
use crate::cluster::sessions::{self, Sessions};
use crate::cluster::{assign_directories, isr_changes, registration};
use crate::config::{BrokerConfig, HostPort};
use crate::config_changes;
use crate::context::ListenerRole;
use crate::coordinators;
use crate::drivers::disk_work::{LOOK, blocking};
use crate::drivers::due_elections;
use crate::drivers::opening::LogsError;
use crate::drivers::{controller, fetchers};
use crate::handlers;
use crate::http;
use crate::network::Listener;
use crate::network::connection::ConnectionSettings;
use crate::network::inbox::FrameLimits;
use crate::network::limits::RequestMemory;
use crate::process::clock::Clock;
use ottla_replica::housekeeping::Intervals;

/// How long a shutdown waits for the answers to requests. After that it waits only while no log directory is stalled.
const GRACE: Duration = Duration::from_secs(5);

/// A running broker.
#[derive(Debug)]
pub struct Running {
    /// Its shared state.
    pub broker: Arc<Broker>,
    /// The bound address of each listener, by name.
    pub addresses: Vec<(String, SocketAddr)>,
    /// The same of the controller's listeners.
    pub controller_addresses: Vec<(String, SocketAddr)>,
    /// The address of `/metrics`, if it is served.
    pub http_address: Option<SocketAddr>,
    /// Whether the log directories were new, and have been formatted.
    pub is_new: bool,
    /// The epoch of this registration.
    epoch: i64,
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// Ends the thread that watches [`DiskWork`](crate::drivers::disk_work::DiskWork).
    _watching: mpsc::Sender<()>,
    /// Held until everything is closed.
    _locks: Vec<DirectoryLock>,
}

/// Starts a broker. When this returns, clients are served.
pub async fn start(config: BrokerConfig, clock: Clock) -> Result<Running, StartError> {
    // Ports come first: a second start on the same configuration must fail before it touches a directory.
    let mut config = config;
    let controllers = bind_controllers(&mut config.network).await?;
    let mut listeners = Vec::new();
    for listener in &config.network.listeners {
        listeners.push(bind(listener, ListenerRole::Broker, config.network.backlog).await?);
    }
    let http = match &config.http {
        Some(address) => Some(bind_http(address, &config).await?),
        None => None,
    };
    let (config, opened) = blocking(move || {
        let opened = metadata_log::open(&config, clock);
        (config, opened)
    })
    .await;
    let opened = opened?;
    let config = telling_http(config.without_directories(opened.offline), http.as_ref());
    let (status, view) = (opened.log.follow_status(), opened.log.follow_view());
    let session = config.metadata.broker_session;
    let sessions = Arc::new(Sessions::new(config.node_id, session, clock));
    let settings = controller_settings(&config);
    let (controller, owner, follower) =
        controller::controller(opened.image, settings, opened.log, sessions);
    let cluster_id = KafkaString::from(opened.cluster_id);
    let broker = Broker::new(config, clock, cluster_id, controller, handlers::served);
    let is_first = broker.quorum.set(status).is_ok() && broker.metadata_log.set(view).is_ok();
    assert!(is_first, "a broker has one metadata log");
    let (shutdown, stopping) = watch::channel(false);
    let mut running = Running {
        addresses: addresses(&listeners),
        controller_addresses: addresses(&controllers),
        broker: Arc::clone(&broker),
        http_address: None,
        is_new: opened.is_new,
        epoch: -1,
        shutdown,
        tasks: JoinSet::new(),
        _watching: watch_disks(&broker).map_err(StartError::Thread)?,
        _locks: opened.locks,
    };
    running.serve_http(http, &stopping);
    let previous_epoch = load_partitions(&broker, &opened.directories).await?;
    refuse_unserved_state(&broker).await?;
    config_changes::warn_of_stored(&broker.controller.image());
    run_controller(&broker, owner).map_err(StartError::Thread)?;
    follow_controller(&broker, follower).map_err(StartError::Thread)?;
    let last = (opened.directories, previous_epoch);
    running.epoch = join_cluster(&broker, &listeners, last).await?;
    running.follow_metadata(&stopping);
    let fencing = sessions::fence_silent(Arc::clone(&broker), stopping.clone());
    running.tasks.spawn(fencing);
    listeners.extend(controllers);
    running.accept(listeners, &stopping);
    broker.set_ready(true);
    Ok(running)
}

fn addresses(listeners: &[Listener]) -> Vec<(String, SocketAddr)> {
    let bound = listeners
        .iter()
        .filter_map(|listener| Some((listener.name().to_owned(), listener.address().ok()?)));
    bound.collect()
}

/// Opens the partitions that the metadata knows. Returns the epoch with which the last process shut down cleanly, or -1.
async fn load_partitions(broker: &Arc<Broker>, directories: &[Uuid]) -> Result<i64, LogsError> {
    for (directory, id) in broker.replicas.directories().iter().zip(directories) {
        let known = directory.id.get_or_init(|| *id);
        assert_eq!(known, id, "a log directory has one id");
    }
    let storage = &broker.config.storage;
    let intervals = Intervals {
        retention: storage.retention_check_interval,
        producers: broker.config.records.producer_id_expiration_check_interval,
        recovery_points: storage.recovery_point_interval,
        high_watermarks: storage.high_watermark_interval,
        initial_delay: storage.initial_task_delay,
    };
    let drivers = Arc::clone(&broker.drivers);
    let replicas = Arc::clone(&broker.replicas);
    let image = broker.controller.image();
    blocking(move || {
        let previous_epoch = replicas.node().previous_epoch()?;
        drivers.load(&image, intervals)?;
        Ok(previous_epoch)
    })
    .await
}

/// Refuses a start with state that this release would break. A refused start closes the logs with the epoch of the last
/// registration, as the broker before it did, so that Kafka finds a clean shutdown.
async fn refuse_unserved_state(broker: &Arc<Broker>) -> Result<(), StartError> {
    let replicas = Arc::clone(&broker.replicas);
    let drivers = Arc::clone(&broker.drivers);
    let image = broker.controller.image();
    let epoch = image
        .brokers
        .get(&broker.config.node_id)
        .map_or(-1, |last| last.epoch);
    let found = blocking(move || {
        let found = UnservedState::find(&image, &replicas);
        if !found.is_empty()
            && let Err(error) = drivers.close(epoch)
        {
            tracing::error!(%error, "cannot close the logs; the next start recovers them");
        }
        found
    })
    .await;
    if found.is_empty() {
        Ok(())
    } else {
        Err(StartError::Unserved(found))
    }
}

fn controller_settings(config: &BrokerConfig) -> Settings {
    Settings {
        default_partitions: config.topics.partitions,
        default_replication_factor: config.topics.replication_factor,
        delete_topics: config.topics.delete,
        statics: config.statics.clone(),
    }
}

/// Registers the broker, ends its fencing, and returns its epoch.
async fn join_cluster(
    broker: &Broker,
    listeners: &[Listener],
    last: (Vec<Uuid>, i64),
) -> Result<i64, StartError> {
    let mut endpoints = Vec::new();
    for (listener, configured) in listeners.iter().zip(&broker.config.network.listeners) {
        let Ok(bound) = listener.address() else {
            continue;
        };
        let address = configured.advertised.clone();
        let bound = || HostPort {
            host: bound.ip().to_canonical().to_string(),
            port: bound.port(),
        };
        let HostPort { host, port } = address.unwrap_or_else(bound);
        let listener = listener.name().to_owned();
        endpoints.push(Endpoint {
            listener,
            host,
            port,
            security_protocol: 0,
        });
    }
    let config = &broker.config;
    let epoch = registration::register(&broker.controller, config, endpoints, last).await?;
    registration::unfence(&broker.controller, config, epoch).await?;
    Ok(epoch)
}

impl Running {
    /// Stops accepting, answers the requests that have arrived, and closes the logs.
    pub async fn shut_down(mut self) {
        self.broker.set_ready(false);
        self.shutdown.send_replace(true);
        tokio::select! {
            () = async { while self.tasks.join_next().await.is_some() {} } => {}
            () = stalled(&self.broker) => {
                tracing::error!("stopping without waiting for requests blocked on a stalled log directory");
            }
        }
        let drivers = Arc::clone(&self.broker.drivers);
        let epoch = self.epoch;
        if let Err(error) = blocking(move || drivers.close(epoch)).await {
            tracing::error!(%error, "cannot close the logs; the next start recovers them");
        }
    }

    fn serve_http(&mut self, listener: Option<TcpListener>, stopping: &watch::Receiver<bool>) {
        let Some(listener) = listener else { return };
        self.http_address = listener.local_addr().ok();
        let broker = Arc::clone(&self.broker);
        self.tasks
            .spawn(http::serve(listener, broker, stopping.clone()));
    }

    /// Starts the tasks that follow the metadata: one starts and ends coordinators, one reports to the controller in
    /// which directory each replica is, one fetches from leaders, one asks for the elections that are due. Two others find
    /// changes of ISRs and send them.
    fn follow_metadata(&mut self, stopping: &watch::Receiver<bool>) {
        let groups = Arc::clone(&self.broker.groups);
        groups.reconcile(&self.broker.controller.image());
        let images = self.broker.controller.follow();
        self.tasks.spawn(due_elections::run(
            self.broker.controller.clone(),
            self.broker.config.elections,
            stopping.clone(),
        ));
        self.tasks.spawn(assign_directories::follow(
            Arc::clone(&self.broker),
            images.clone(),
            stopping.clone(),
        ));
        self.tasks
            .spawn(coordinators::follow(groups, images, stopping.clone()));
        self.tasks
            .spawn(fetchers::follow(Arc::clone(&self.broker), stopping.clone()));
        self.tasks.spawn(isr_changes::send(
            Arc::clone(&self.broker),
            stopping.clone(),
        ));
        self.tasks.spawn(isr_changes::shrink(
            Arc::clone(&self.broker),
            stopping.clone(),
        ));
    }

    fn accept(&mut self, listeners: Vec<Listener>, stopping: &watch::Receiver<bool>) {
        let network = &self.broker.config.network;
        let settings = ConnectionSettings {
            frames: FrameLimits {
                any: network.max_request_bytes,
                without_records: network.max_request_bytes_without_records,
            },
            max_idle: network.connections_max_idle,
            receive_timeout: network.receive_timeout,
            memory: RequestMemory::new(network.max_bytes_in_flight),
        };
        for listener in listeners {
            self.tasks.spawn(listener.run(
                Arc::clone(&self.broker),
                Arc::clone(&self.broker.connections),
                settings.clone(),
                stopping.clone(),
            ));
        }
    }
}

/// Completes once a log directory is stalled, but not before [`GRACE`] has passed.
async fn stalled(broker: &Broker) {
    tokio::time::sleep(GRACE).await;
    let directories = broker.replicas.directories();
    let is_stalled = || {
        let now = broker.clock.monotonic();
        directories
            .iter()
            .any(|directory| directory.stalls.is_stalled(now))
    };
    while !is_stalled() {
        tokio::time::sleep(LOOK).await;
    }
}
