//! Binds the ports of a start: the listeners of clients, and the one of `/metrics` and `/ready`.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use super::refusals::StartError;
use crate::config::{BrokerConfig, HostPort, ListenerConfig, NetworkConfig};
use crate::context::ListenerRole;
use crate::http;
use crate::network::Listener;

/// Binds the HTTP listener. If its default port is busy, another is chosen and logged. A configured port must be free.
pub(super) async fn bind_http(
    address: &HostPort,
    config: &BrokerConfig,
) -> Result<TcpListener, StartError> {
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
                    "the default port of /metrics and /ready is in use: another was chosen; set ottla.http.listen to choose \
                     one"
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

/// Sets `ottla.http.listen` to the bound address, whose port may differ from the configured one: DescribeConfigs
/// shows it, and `ottla why` finds the listener by it.
pub(super) fn telling_http(mut config: BrokerConfig, bound: Option<SocketAddr>) -> BrokerConfig {
    if let (Some(configured), Some(bound)) = (&config.http, bound)
        && configured.port != bound.port()
    {
        let values = &mut config.statics.values;
        values.insert(http::LISTEN_KEY.to_owned(), bound.to_string());
    }
    config
}

/// Binds the listeners for clients and brokers. Where the port of a node that joins without a configuration file is busy,
/// another is chosen.
pub(super) async fn bind_brokers(config: &mut NetworkConfig) -> Result<Vec<Listener>, StartError> {
    let (role, backlog) = (ListenerRole::Broker, config.backlog);
    bind_all(
        &mut config.listeners,
        (role, backlog),
        config.may_move_listeners,
    )
    .await
}

/// Binds the listeners of `controller.listener.names`, and notes their ports in `config`: other nodes learn them from the
/// metadata log. Where the port of a node without a configuration file is busy, another is chosen.
pub(super) async fn bind_controllers(
    config: &mut NetworkConfig,
) -> Result<Vec<Listener>, StartError> {
    let (role, backlog) = (ListenerRole::Controller, config.backlog);
    bind_all(
        &mut config.controller_listeners,
        (role, backlog),
        config.may_move_controller,
    )
    .await
}

async fn bind_all(
    listeners: &mut [ListenerConfig],
    (role, backlog): (ListenerRole, i32),
    may_move: bool,
) -> Result<Vec<Listener>, StartError> {
    let mut bound = Vec::new();
    for listener in listeners {
        let first = bind(listener, role, backlog).await;
        let one = match first {
            Err(StartError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && may_move =>
            {
                let busy = std::mem::replace(&mut listener.bind.port, 0);
                let one = bind(listener, role, backlog).await?;
                tracing::warn!(
                    busy,
                    listener = listener.name,
                    "the usual port of a listener is taken: another was chosen; set listeners to keep one"
                );
                one
            }
            first => first?,
        };
        if let Ok(address) = one.address() {
            listener.bind.port = address.port();
        }
        bound.push(one);
    }
    Ok(bound)
}

pub(super) async fn bind(
    config: &ListenerConfig,
    role: ListenerRole,
    backlog: i32,
) -> Result<Listener, StartError> {
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
    Listener::bind(&config.name, role, address, backlog).map_err(failed)
}
