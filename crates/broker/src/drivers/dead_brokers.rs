//! Fences brokers that are dead by evidence, without waiting for the end of their sessions.
//!
//! A broker is suspected when the connection of its heartbeats ends, and when a controller becomes active, which knows
//! nothing of the brokers. The evidence is that its registered address refuses connections, twice in a row: no process
//! listens there. The sockets of a dying process do not close at the same time, so there are several attempts. An address
//! that does not answer is no evidence; then the session decides. Fencing is always safe: a broker that is alive
//! is unfenced by its next heartbeat.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::request::FenceBroker;
use ottla_metadata::BrokerRegistration;
use ottla_protocol::ids::NodeId;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::stopping::stopped;
use crate::broker::Broker;

/// The time between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);
/// How many attempts are made.
const ATTEMPTS: usize = 10;
/// How long an address may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// Looks at suspected brokers until the broker stops.
pub async fn run(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let sessions = Arc::clone(broker.controller.sessions());
    let mut looks = JoinSet::new();
    loop {
        tokio::select! {
            suspects = sessions.suspects() => {
                for suspect in suspects {
                    looks.spawn(look(Arc::clone(&broker), suspect));
                }
            }
            Some(_) = looks.join_next() => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

async fn look(broker: Arc<Broker>, suspect: NodeId) {
    let image = broker.controller.image();
    let Some(registered) = image.brokers.get(&suspect) else {
        return;
    };
    let is_looked_at = suspect != broker.config.node_id
        && !registered.fenced
        && broker.controller.sessions().is_active();
    if !is_looked_at || !is_dead(registered).await {
        return;
    }
    let fence = FenceBroker {
        broker: suspect,
        epoch: registered.epoch,
    };
    tracing::warn!(
        broker = suspect.0,
        epoch = fence.epoch,
        "fencing a broker: its address refuses connections"
    );
    // If it cannot be committed, the end of the session fences the broker.
    let _ = broker.controller.ask_here(fence).await;
}

/// Whether all addresses of a broker refuse connections, twice in a row.
async fn is_dead(registered: &BrokerRegistration) -> bool {
    let mut refused = 0;
    for _ in 0..ATTEMPTS {
        refused = if refuses(registered).await {
            refused + 1
        } else {
            0
        };
        if refused == 2 {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

/// Whether all addresses of a broker refuse a connection.
async fn refuses(registered: &BrokerRegistration) -> bool {
    for endpoint in &registered.endpoints {
        let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        match timeout(ANSWERED_WITHIN, connecting).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(_) | Err(_) => return false,
        }
    }
    !registered.endpoints.is_empty()
}

#[cfg(test)]
mod tests {
    use super::is_dead;
    use ottla_metadata::{BrokerRegistration, Endpoint};
    use tokio::net::TcpListener;

    fn at(ports: &[u16]) -> BrokerRegistration {
        let endpoint = |port: &u16| Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: *port,
            security_protocol: 0,
        };
        BrokerRegistration {
            endpoints: ports.iter().map(endpoint).collect(),
            ..BrokerRegistration::default()
        }
    }

    #[tokio::test]
    async fn only_a_broker_whose_every_address_refuses_connections_is_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = [&listener, &closed].map(|one| one.local_addr().unwrap().port());
        drop(closed);
        assert!(is_dead(&at(&ports[1..])).await);
        assert!(!is_dead(&at(&ports[..1])).await);
        assert!(!is_dead(&at(&ports)).await);
        assert!(!is_dead(&at(&[])).await, "nothing is known of it");
    }

    #[tokio::test]
    async fn the_listener_of_a_dying_process_may_close_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dying = at(&[listener.local_addr().unwrap().port()]);
        let looking = tokio::spawn(async move { is_dead(&dying).await });
        listener.accept().await.unwrap();
        drop(listener);
        assert!(looking.await.unwrap());
    }
}
