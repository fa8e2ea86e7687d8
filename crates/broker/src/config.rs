//! What the operator configured, resolved: every field has its value, nothing is optional that must be there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ottla_protocol::ids::NodeId;

/// Everything one broker is told.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: NodeId,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Listeners and their limits.
    pub network: NetworkConfig,
    /// Directories and files.
    pub storage: StorageConfig,
}

/// Listeners and the limits of connections and requests.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `listeners`, without the controller's.
    pub listeners: Vec<ListenerConfig>,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`, resolved.
    pub max_connections_per_ip_overrides: HashMap<IpAddr, usize>,
    /// `connections.max.idle.ms`.
    pub connections_max_idle: Duration,
    /// `socket.request.max.bytes`.
    pub max_request_bytes: usize,
    /// `ottla.non.produce.request.max.bytes`.
    pub max_request_bytes_without_records: usize,
    /// `queued.max.request.bytes`.
    pub max_bytes_in_flight: u64,
    /// `ottla.request.receive.timeout.ms`.
    pub receive_timeout: Duration,
    /// `socket.listen.backlog.size`.
    pub backlog: i32,
}

/// One of `listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name, upper case.
    pub name: String,
    /// The host to bind; empty for every address.
    pub host: String,
    /// The port to bind; 0 lets the system choose.
    pub port: u16,
    /// The host and port from `advertised.listeners`; without one, the address that the client dialled.
    pub advertised: Option<(String, u16)>,
}

/// Directories.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, by default the first of `log.dirs`.
    pub metadata_log_dir: PathBuf,
}

impl BrokerConfig {
    /// One node without a configuration file: data in `directory`, loopback only.
    pub fn embedded(directory: PathBuf, port: u16) -> Self {
        Self {
            node_id: NodeId(1),
            rack: None,
            network: NetworkConfig {
                listeners: vec![ListenerConfig {
                    name: "PLAINTEXT".to_owned(),
                    host: "127.0.0.1".to_owned(),
                    port,
                    advertised: None,
                }],
                max_connections: usize::MAX,
                max_connections_per_ip: usize::MAX,
                max_connections_per_ip_overrides: HashMap::new(),
                connections_max_idle: Duration::from_mins(10),
                max_request_bytes: 104_857_600,
                max_request_bytes_without_records: 4 * 1024 * 1024,
                max_bytes_in_flight: 256 * 1024 * 1024,
                receive_timeout: Duration::from_secs(30),
                backlog: 50,
            },
            storage: StorageConfig {
                log_dirs: vec![directory.clone()],
                metadata_log_dir: directory,
            },
        }
    }
}
