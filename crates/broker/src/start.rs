//! Start-up and shutdown: the order in which the parts of a broker are started and stopped.

mod cluster;
mod directories;
mod first_records;
mod in_turn;
mod joining;
mod known;
mod listen;
pub mod lock;
mod metadata_log;
mod observed;
mod quorum;
mod refusals;
mod threads;
mod unserved_state;
mod voter;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ottla_controller::brokers::Registration;
use ottla_metadata::Endpoint;
use ottla_protocol::ids::Uuid;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use self::cluster::Metadata;
pub use self::known::{Known, known};
use self::listen::{bind_brokers, bind_controllers, bind_http, telling_http};
use self::lock::DirectoryLock;
pub use self::refusals::{DirectoryError, StartError};
use self::threads::{ControllerThread, follow_controller, watch_disks};
use self::unserved_state::UnservedState;
use crate::broker::Broker;
use crate::cluster::lifecycle::Lifecycle;
use crate::cluster::{assign_directories, isr_changes, registration, sessions};
use crate::config::{BrokerConfig, HostPort, Roles};
use crate::config_changes;
use crate::coordinators;
use crate::drivers::disk_work::{LOOK, blocking};
use crate::drivers::due_elections;
use crate::drivers::opening::LogsError;
use crate::drivers::{auto_join, dead_brokers, fetchers, unreachable_brokers, voter_concerns};
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
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// The task that beats; setting the flag lets it leave the cluster.
    life: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    /// The thread of the controller, if there is one.
    controller: Option<ControllerThread>,
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
    let listeners = bind_brokers(&mut config.network).await?;
    let http = match &config.http {
        Some(address) => Some(bind_http(address, &config).await?),
        None => None,
    };
    let (shutdown, stopping) = watch::channel(false);
    // A start may take long, and says so on `/ready`.
    let (mut tasks, serving) = (JoinSet::new(), http::Serving::default());
    let http_address = http.as_ref().and_then(|http| http.local_addr().ok());
    if let Some(http) = http {
        tasks.spawn(http::serve(http, Arc::clone(&serving), stopping.clone()));
    }
    let opened = cluster::open(config, clock).await?;
    let config = telling_http(opened.config, http_address);
    let (cluster_id, controller) = (opened.cluster_id, opened.controller);
    let broker = Broker::new(config, clock, cluster_id, controller, handlers::served);
    serving.get_or_init(|| Arc::clone(&broker));
    let mut running = Running {
        addresses: addresses(&listeners),
        controller_addresses: addresses(&controllers),
        broker: Arc::clone(&broker),
        http_address,
        is_new: opened.is_new,
        shutdown,
        tasks,
        life: None,
        controller: None,
        _watching: watch_disks(&broker).map_err(StartError::Thread)?,
        _locks: opened.locks,
    };
    let connections = connection_settings(&broker.config);
    let registration = identify(&broker, &listeners, opened.directories).await?;
    let fencing = sessions::fence_silent(Arc::clone(&broker), stopping.clone());
    running.tasks.spawn(fencing);
    let looking = dead_brokers::run(Arc::clone(&broker), stopping.clone());
    running.tasks.spawn(looking);
    if broker.config.quorum.roles != Roles::Broker {
        let trying = unreachable_brokers::run(Arc::clone(&broker), stopping.clone());
        running.tasks.spawn(trying);
        if let Some(most) = broker.config.quorum.joins_up_to {
            let joining = auto_join::run(Arc::clone(&broker), most, stopping.clone());
            running.tasks.spawn(joining);
        }
        let looking = voter_concerns::run(Arc::clone(&broker), stopping.clone());
        running.tasks.spawn(looking);
    }
    running.tasks.spawn(due_elections::run(
        broker.controller.clone(),
        broker.config.elections,
        stopping.clone(),
    ));
    let is_broker = broker.config.quorum.roles != Roles::Controller;
    let registration = is_broker.then_some(registration);
    // Other controllers and brokers need this one before its broker can register.
    running.accept(controllers, &connections, &stopping);
    let joined = running.join(opened.metadata, registration, &stopping);
    if let Some(mut lifecycle) = joined.await? {
        lifecycle.unfence().await?;
        running.follow_metadata(&stopping);
        running.live(lifecycle);
    }
    running.accept(listeners, &connections, &stopping);
    broker.set_ready(true);
    Ok(running)
}

fn addresses(listeners: &[Listener]) -> Vec<(String, SocketAddr)> {
    let bound = listeners
        .iter()
        .filter_map(|listener| Some((listener.name().to_owned(), listener.address().ok()?)));
    bound.collect()
}

/// Gives the log directories their ids, and makes the registration of this process.
async fn identify(
    broker: &Arc<Broker>,
    listeners: &[Listener],
    directories: Vec<Uuid>,
) -> Result<Registration, LogsError> {
    for (directory, id) in broker.replicas.directories().iter().zip(&directories) {
        let known = directory.id.get_or_init(|| *id);
        assert_eq!(known, id, "a log directory has one id");
    }
    let replicas = Arc::clone(&broker.replicas);
    let previous_epoch = blocking(move || replicas.node().previous_epoch()).await?;
    let (config, image) = (&broker.config, broker.controller.image());
    let endpoints = endpoints(config, listeners);
    let last = (directories, previous_epoch);
    Ok(registration::registration(config, &image, endpoints, last))
}

/// Opens the partitions that the metadata knows, and refuses what this release cannot serve.
async fn load_partitions(broker: &Arc<Broker>) -> Result<(), StartError> {
    let storage = &broker.config.storage;
    let intervals = Intervals {
        retention: storage.retention_check_interval,
        producers: broker.config.records.producer_id_expiration_check_interval,
        recovery_points: storage.recovery_point_interval,
        high_watermarks: storage.high_watermark_interval,
        initial_delay: storage.initial_task_delay,
    };
    let drivers = Arc::clone(&broker.drivers);
    let image = broker.controller.image();
    blocking(move || drivers.load(&image, intervals)).await?;
    refuse_unserved_state(broker).await?;
    config_changes::warn_of_stored(&broker.controller.image());
    Ok(())
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

fn connection_settings(config: &BrokerConfig) -> ConnectionSettings {
    let network = &config.network;
    ConnectionSettings {
        frames: FrameLimits {
            any: network.max_request_bytes,
            without_records: network.max_request_bytes_without_records,
        },
        max_idle: network.connections_max_idle,
        receive_timeout: network.receive_timeout,
        memory: RequestMemory::new(network.max_bytes_in_flight),
    }
}

/// The addresses at which other nodes and clients reach the listeners.
fn endpoints(config: &BrokerConfig, listeners: &[Listener]) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (listener, configured) in listeners.iter().zip(&config.network.listeners) {
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
    endpoints
}

impl Running {
    /// Leaves the cluster, hands over to another controller, stops accepting, answers the requests that have arrived, and
    /// closes the logs.
    pub async fn shut_down(mut self) {
        if let Some((leaving, life)) = self.life.take() {
            leaving.send_replace(true);
            // A task that has panicked has left, too.
            let _ = life.await;
        }
        quorum::resign(&self.broker).await;
        self.broker.set_ready(false);
        self.shutdown.send_replace(true);
        tokio::select! {
            () = async { while self.tasks.join_next().await.is_some() {} } => {}
            () = stalled(&self.broker) => {
                tracing::error!("stopping without waiting for requests blocked on a stalled log directory");
            }
        }
        let drivers = Arc::clone(&self.broker.drivers);
        let epoch = self.broker.epoch();
        if let Err(error) = blocking(move || drivers.close(epoch)).await {
            tracing::error!(%error, "cannot close the logs; the next start recovers them");
        }
        if let Some(controller) = self.controller.take() {
            controller.close().await;
        }
    }

    /// Starts the tasks that follow the metadata: one starts and ends coordinators, one reports to the controller in
    /// which directory each replica is, one fetches from leaders. Two others find
    /// changes of ISRs and send them.
    fn follow_metadata(&mut self, stopping: &watch::Receiver<bool>) {
        let groups = Arc::clone(&self.broker.groups);
        groups.reconcile(&self.broker.controller.image());
        let images = self.broker.controller.follow();
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

    /// Starts what follows the metadata, and opens the partitions. A broker registers, if there is a registration.
    async fn join(
        &mut self,
        metadata: Metadata,
        registration: Option<Registration>,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Option<Lifecycle>, StartError> {
        let broker = Arc::clone(&self.broker);
        match (metadata, registration) {
            (Metadata::Own(member), registration) => {
                member.show(&broker);
                load_partitions(&broker).await?;
                self.controller = Some(member.own.run(&broker)?);
                let Some(registration) = registration else {
                    return Ok(None);
                };
                Ok(Some(Lifecycle::register(broker, registration).await?))
            }
            // The image in which this process is registered comes first: the last process may have led partitions.
            (Metadata::Shared(member), registration) => {
                member.show(&broker);
                let (member, thread) = member.run(&broker)?;
                self.controller = Some(thread);
                let lifecycle = match registration {
                    Some(registration) => Some(member.register(&broker, registration).await?),
                    None => None,
                };
                let follower = member.until_registered(&broker).await?;
                load_partitions(&broker).await?;
                follow_controller(&broker, follower).map_err(StartError::Thread)?;
                Ok(lifecycle)
            }
            (Metadata::Elsewhere(mut observed), Some(registration)) => {
                let lifecycle = Lifecycle::register(Arc::clone(&broker), registration).await?;
                observed.until_registered(&broker).await?;
                load_partitions(&broker).await?;
                let observing = observed.run(&broker, stopping.clone())?;
                self.tasks.spawn(observing);
                Ok(Some(lifecycle))
            }
            (Metadata::Elsewhere(_), None) => unreachable!("it is a broker"),
        }
    }

    /// Starts the heartbeats.
    fn live(&mut self, lifecycle: Lifecycle) {
        let (leaving, left) = watch::channel(false);
        self.life = Some((leaving, tokio::spawn(lifecycle.live(left))));
    }

    fn accept(
        &mut self,
        listeners: Vec<Listener>,
        settings: &ConnectionSettings,
        stopping: &watch::Receiver<bool>,
    ) {
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
