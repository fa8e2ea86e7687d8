//! Start-up and shutdown: the order in which the parts of a broker come and go.

pub mod lock;
pub mod spare;
pub mod unserved_state;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ottla_controller::Settings;
use ottla_metadata::Endpoint;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::KafkaString;
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::cluster::assign_directories;
use crate::cluster::metadata_events;
use crate::cluster::registration::{self, NotRegistered};
use crate::config::{BrokerConfig, HostPort, ListenerConfig};
use crate::config_changes;
use crate::coordinators;
use crate::drivers::applier::log_failures;
use crate::drivers::controller::{self, ControllerLoop, Follower};
use crate::drivers::disk_work::{LOOK, Watch, blocking};
use crate::drivers::housekeeper::Intervals;
use crate::drivers::opening::LogsError;
use crate::handlers;
use crate::http;
use crate::network::Listener;
use crate::network::allowed::AllowedConnections;
use crate::network::connection::ConnectionSettings;
use crate::network::inbox::FrameLimits;
use crate::network::limits::RequestMemory;
use crate::process::clock::Clock;
use crate::quorum::{self, CommittedLog, QuorumError};
use crate::start::lock::DirectoryLock;
use crate::start::unserved_state::LiveState;

/// How long a stop waits for the answers to what was asked, where a log directory stands still.
const GRACE: Duration = Duration::from_secs(5);

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address of the HTTP listener cannot be bound.
    #[error(
        "cannot listen on {host}:{port} (key ottla.http.listen; another port, or nothing for none): {source}"
    )]
    Http {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A listener's address cannot be bound.
    #[error("cannot listen on {host}:{port} (key listeners, listener {name}): {source}")]
    Listen {
        /// The listener.
        name: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The directories or the metadata log cannot be used.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The logs cannot be opened.
    #[error(transparent)]
    Logs(#[from] LogsError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// They hold what only Kafka can go on with.
    #[error("{0}")]
    Live(LiveState),
    /// The controller did not take the broker.
    #[error(transparent)]
    Register(#[from] NotRegistered),
}

/// A running broker.
#[derive(Debug)]
pub struct Running {
    /// Its shared state.
    pub broker: Arc<Broker>,
    /// Where each listener listens, by name.
    pub addresses: Vec<(String, SocketAddr)>,
    /// Where `/metrics` is, if anywhere.
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
    let mut listeners = Vec::new();
    for listener in &config.network.listeners {
        listeners.push(bind(listener, config.network.backlog).await?);
    }
    let http = match &config.http {
        Some(address) => Some(bind_http(address, &config).await?),
        None => None,
    };
    let (config, quorum) = blocking(move || {
        let quorum = quorum::open(&config, clock);
        (config, quorum)
    })
    .await;
    let quorum = quorum?;
    let config = telling_http(config.without_directories(quorum.offline), http.as_ref());
    let (controller, owner, follower) =
        controller::controller(quorum.image, controller_settings(&config), quorum.log);
    let cluster_id = KafkaString::from(quorum.cluster_id);
    let broker = Broker::new(config, clock, cluster_id, controller, handlers::SERVED);
    broker
        .quorum
        .set(quorum.status)
        .expect("a broker has one metadata log");
    let (shutdown, stopping) = watch::channel(false);
    let mut running = Running {
        addresses: listeners
            .iter()
            .filter_map(|listener| Some((listener.name().to_owned(), listener.address().ok()?)))
            .collect(),
        broker: Arc::clone(&broker),
        http_address: None,
        is_new: quorum.is_new,
        epoch: -1,
        shutdown,
        tasks: JoinSet::new(),
        _watching: watch_disks(&broker).map_err(StartError::Thread)?,
        _locks: quorum.locks,
    };
    running.serve_http(http, &stopping);
    load_partitions(&broker, &quorum.directories).await?;
    refuse_live_state(&broker).await?;
    config_changes::say_stored(&broker.controller.image());
    run_controller(&broker, owner)?;
    follow_controller(&broker, follower)?;
    running.epoch = join_cluster(&broker, &listeners, quorum.directories).await?;
    running.follow_metadata(&stopping);
    running.accept(listeners, &stopping);
    broker.set_ready(true);
    Ok(running)
}

/// Starts the thread that keeps the runtime going while disks hold it up, and says so; it ends with what is returned.
fn watch_disks(broker: &Broker) -> io::Result<mpsc::Sender<()>> {
    let (watching, watched) = mpsc::channel();
    let drivers = Arc::clone(&broker.drivers);
    let mut works = Watch::new(broker.replicas.disk_work());
    let watch = move || {
        while watched.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
            works.look();
            drivers.watch_directories();
        }
    };
    std::thread::Builder::new()
        .name("disk-watch".to_owned())
        .spawn(watch)?;
    Ok(watching)
}

/// Opens the partitions that the metadata knows.
async fn load_partitions(broker: &Arc<Broker>, directories: &[Uuid]) -> Result<(), LogsError> {
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
    let image = broker.controller.image();
    blocking(move || drivers.load(&image, intervals)).await
}

/// Refuses what would be broken by serving it. Everything is closed again, as the last broker left it.
async fn refuse_live_state(broker: &Arc<Broker>) -> Result<(), StartError> {
    let replicas = Arc::clone(&broker.replicas);
    let drivers = Arc::clone(&broker.drivers);
    let image = broker.controller.image();
    let epoch = image
        .brokers
        .get(&broker.config.node_id)
        .map_or(-1, |last| last.epoch);
    let found = blocking(move || {
        let found = LiveState::find(&image, &replicas);
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
        Err(StartError::Live(found))
    }
}

/// Starts the controller's thread. It ends when the last handle to it is gone.
fn run_controller(
    broker: &Arc<Broker>,
    owner: ControllerLoop<CommittedLog>,
) -> Result<(), StartError> {
    let of_broker = Arc::downgrade(broker);
    let run = move || {
        let ended = owner.run();
        if let Err(error) = ended {
            tracing::error!(%error, "the controller has ended: metadata cannot be changed until the next start");
            if let Some(broker) = of_broker.upgrade() {
                broker.set_ready(false);
            }
        }
    };
    std::thread::Builder::new()
        .name("controller".to_owned())
        .spawn(run)
        .map_err(StartError::Thread)?;
    Ok(())
}

/// Starts the thread that takes over what the controller commits. It ends with the controller's.
fn follow_controller(broker: &Arc<Broker>, follower: Follower) -> Result<(), StartError> {
    let drivers = Arc::clone(&broker.drivers);
    let connections = Arc::clone(&broker.connections);
    let statics = broker.config.statics.clone();
    let mut last = broker.controller.image();
    let follow = move || {
        follower.run(|image, changes| {
            for event in metadata_events::events(&last, image, changes) {
                event.log();
            }
            last = Arc::clone(image);
            log_failures(&drivers.apply(image, changes));
            if changes.configs.iter().any(AllowedConnections::depend_on) {
                connections.allow(AllowedConnections::resolve(image, &statics));
            }
        });
    };
    std::thread::Builder::new()
        .name("metadata".to_owned())
        .spawn(follow)
        .map_err(StartError::Thread)?;
    Ok(())
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
    directories: Vec<Uuid>,
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
    let epoch = registration::register(&broker.controller, config, endpoints, directories).await?;
    registration::unfence(&broker.controller, config, epoch).await?;
    Ok(epoch)
}

impl Running {
    /// Stops accepting, answers what was asked, and closes everything; a log directory that stands still is the last.
    pub async fn shut_down(mut self) {
        self.broker.set_ready(false);
        self.shutdown.send_replace(true);
        tokio::select! {
            () = async { while self.tasks.join_next().await.is_some() {} } => {}
            () = standstill(&self.broker) => {
                tracing::error!("requests that wait for a log directory that does not answer are not waited for");
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

    /// Coordinators come and go with the metadata; those that are known already start loading now. Where replicas lie
    /// is told to the controller.
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

/// Completes once a log directory stands still, but not before those who need none have had their answer.
async fn standstill(broker: &Broker) {
    tokio::time::sleep(GRACE).await;
    let directories = broker.replicas.directories();
    let is_still = || {
        let now = broker.clock.monotonic();
        directories
            .iter()
            .any(|directory| directory.stalls.is_stalled(now))
    };
    while !is_still() {
        tokio::time::sleep(LOOK).await;
    }
}

/// A busy port that nobody configured is no reason not to serve: another is taken, and logged.
async fn bind_http(address: &HostPort, config: &BrokerConfig) -> Result<TcpListener, StartError> {
    let is_configured = config.statics.values.contains_key(http::LISTEN_KEY);
    let bound = match http::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_configured => {
            let free = HostPort {
                port: 0,
                ..address.clone()
            };
            let bound = http::bind(&free).await;
            if let Ok(Ok(listening)) = bound.as_ref().map(TcpListener::local_addr) {
                tracing::warn!(
                    busy = address.port,
                    listening = %listening,
                    "the usual port of /metrics and /ready is taken: another was chosen; set ottla.http.listen to keep one"
                );
            }
            bound
        }
        bound => bound,
    };
    bound.map_err(|source| StartError::Http {
        host: address.host.clone(),
        port: address.port,
        source,
    })
}

/// DescribeConfigs tells the address that was bound: its port may be another than the configured one, and `ottla why`
/// looks for the listener there.
fn telling_http(mut config: BrokerConfig, listener: Option<&TcpListener>) -> BrokerConfig {
    let bound = listener.and_then(|listener| listener.local_addr().ok());
    if let (Some(configured), Some(bound)) = (&config.http, bound)
        && configured.port != bound.port()
    {
        let values = &mut config.statics.values;
        values.insert("ottla.http.listen".to_owned(), bound.to_string());
    }
    config
}

async fn bind(config: &ListenerConfig, backlog: i32) -> Result<Listener, StartError> {
    let failed = |source| StartError::Listen {
        name: config.name.clone(),
        host: config.bind.host.clone(),
        port: config.bind.port,
        source,
    };
    let host = if config.bind.host.is_empty() {
        "::"
    } else {
        &config.bind.host
    };
    let address = lookup_host((host, config.bind.port))
        .await
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(io::Error::other("the host has no address")))?;
    Listener::bind(&config.name, address, backlog).map_err(failed)
}
