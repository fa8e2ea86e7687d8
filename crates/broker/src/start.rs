//! Start-up and shutdown: the order in which the parts of a broker come and go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ottla_controller::Settings;
use ottla_metadata::{Endpoint, MetadataImage};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::metadata::MetadataRecord;
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{BrokerConfig, HostPort, ListenerConfig};
use crate::controller::{Commit, ControllerLoop};
use crate::coordinators;
use crate::http;
use crate::network::Listener;
use crate::network::connection::ConnectionSettings;
use crate::network::inbox::FrameLimits;
use crate::network::limits::{ConnectionLimits, RequestMemory};
use crate::registration::{self, NotRegistered};
use crate::topics::random_id;

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
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Starts a broker. When this returns, clients are served.
pub async fn start(config: BrokerConfig, clock: Clock) -> Result<Running, StartError> {
    let mut listeners = Vec::new();
    for listener in &config.network.listeners {
        listeners.push(bind(listener, config.network.backlog).await?);
    }
    let http = match &config.http {
        Some(address) => Some(bind_http(address).await?),
        None => None,
    };
    let (controller, owner) = ControllerLoop::new(
        MetadataImage::default(),
        controller_settings(&config),
        InMemory(0),
    );
    let running_controller = std::thread::Builder::new()
        .name("controller".to_owned())
        .spawn(move || owner.run(|_, _| {}));
    drop(running_controller);
    let broker = Broker::new(config, clock, random_id().to_string().into(), controller);
    join_cluster(&broker, &listeners).await?;
    let (shutdown, stopping) = watch::channel(false);
    let mut running = Running {
        addresses: listeners
            .iter()
            .filter_map(|listener| Some((listener.name().to_owned(), listener.address().ok()?)))
            .collect(),
        broker,
        http_address: None,
        shutdown,
        tasks: JoinSet::new(),
    };
    if let Some(listener) = http {
        running.http_address = listener.local_addr().ok();
        let broker = Arc::clone(&running.broker);
        running
            .tasks
            .spawn(http::serve(listener, broker, stopping.clone()));
    }
    running.follow_metadata(&stopping);
    running.accept(listeners, &stopping);
    running.broker.set_ready(true);
    Ok(running)
}

/// Holds the place of the quorum: nothing is kept.
struct InMemory(i64);

impl Commit for InMemory {
    type Error = std::convert::Infallible;
    fn next_offset(&self) -> Offset {
        Offset(self.0)
    }
    fn commit(&mut self, records: &[MetadataRecord], _: &MetadataImage) -> Result<(), Self::Error> {
        self.0 += i64::try_from(records.len()).unwrap_or(0);
        Ok(())
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

/// Registers the broker and ends its fencing.
async fn join_cluster(broker: &Broker, listeners: &[Listener]) -> Result<(), StartError> {
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
    let epoch =
        registration::register(&broker.controller, config, endpoints, vec![random_id()]).await?;
    registration::unfence(&broker.controller, config, epoch).await?;
    Ok(())
}

impl Running {
    /// Stops accepting, answers what was asked, and closes everything.
    pub async fn shut_down(mut self) {
        self.broker.set_ready(false);
        self.shutdown.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Coordinators come and go with the metadata; those that are known already start loading now.
    fn follow_metadata(&mut self, stopping: &watch::Receiver<bool>) {
        let groups = Arc::clone(&self.broker.groups);
        groups.reconcile(&self.broker.controller.image());
        let images = self.broker.controller.follow();
        self.tasks
            .spawn(coordinators::follow(groups, images, stopping.clone()));
    }

    fn accept(&mut self, listeners: Vec<Listener>, stopping: &watch::Receiver<bool>) {
        let network = &self.broker.config.network;
        let limits = ConnectionLimits::new(
            network.max_connections,
            network.max_connections_per_ip,
            network.max_connections_per_ip_overrides.clone(),
        );
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
                Arc::clone(&limits),
                settings.clone(),
                stopping.clone(),
            ));
        }
    }
}

async fn bind_http(address: &HostPort) -> Result<TcpListener, StartError> {
    http::bind(address)
        .await
        .map_err(|source| StartError::Http {
            host: address.host.clone(),
            port: address.port,
            source,
        })
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
