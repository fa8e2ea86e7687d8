//! Listeners: bind, accept, and hand each connection to a task of its own.
//!
//! A connection is accepted first and then waits for a slot, so that a listener without clients holds no slot. Until
//! then the listener accepts no other, and further connections wait in the backlog. No failure ends a listener: it
//! tries again when the table of descriptors is full, and when a client leaves before it is accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::closed_log::Fault;
use super::connection::{Closed, ConnectionSettings, Session};
use super::limits::{Admission, ConnectionLimits};
use crate::access::principal::Principal;
use crate::broker::Broker;
use crate::context::{Connection, ListenerRole};
use crate::drivers::stopping::stopped;

/// How long a listener waits after the system refused it a descriptor.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(0);

/// The outcome of one attempt to accept.
enum Accepted {
    /// A connection that may be served.
    Connection(TcpStream, SocketAddr, Admission),
    /// The client left before it was served, or was refused.
    Nothing,
    /// The system has no room for another connection.
    Exhausted(io::Error),
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    role: ListenerRole,
    socket: TcpListener,
}

impl Listener {
    /// Binds `address`; clients may connect from here on and wait in the backlog.
    pub fn bind(
        name: &str,
        role: ListenerRole,
        address: SocketAddr,
        backlog: i32,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            name: name.into(),
            role,
            socket: TcpListener::from_std(socket.into())?,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bound address, with the port that the system chose where the configuration says 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves connections until `shutdown`, then waits until they have answered their requests.
    pub async fn run(
        self,
        broker: Arc<Broker>,
        limits: Arc<ConnectionLimits>,
        settings: ConnectionSettings,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        // Not in `accept`: its future is dropped whenever another branch of the `select!` completes first.
        let mut waiting = None;
        let mut resting: Option<MonotonicTime> = None;
        let mut is_exhausted = false;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                () = broker.clock.sleep_until(resting), if resting.is_some() => resting = None,
                accepted = self.accept(&mut waiting, &broker, &limits),
                    if resting.is_none() => match accepted {
                    Accepted::Connection(stream, peer, admission) => {
                        is_exhausted = false;
                        if let Some(session) = self.open(&broker, stream, peer, &settings) {
                            let broker = Arc::clone(&broker);
                            let shutdown = shutdown.clone();
                            connections.spawn(serve(broker, session, peer, admission, shutdown));
                        }
                    }
                    Accepted::Nothing => {}
                    Accepted::Exhausted(error) => {
                        // Logged once until a connection is accepted: a full table fails ten times a second.
                        if !is_exhausted {
                            tracing::warn!(listener = %self.name, %error, "cannot accept connections; trying again");
                        }
                        is_exhausted = true;
                        resting = Some(broker.clock.monotonic().after(ACCEPT_BACKOFF));
                    }
                },
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    /// Accepts a connection, unless one is `waiting` already, and waits for its slot.
    async fn accept(
        &self,
        waiting: &mut Option<(TcpStream, SocketAddr)>,
        broker: &Broker,
        limits: &Arc<ConnectionLimits>,
    ) -> Accepted {
        if waiting.is_none() {
            match self.socket.accept().await {
                Ok(accepted) => *waiting = Some(accepted),
                Err(error) if is_about_one_client(&error) => return Accepted::Nothing,
                Err(error) => return Accepted::Exhausted(error),
            }
        }
        let slot = limits.slot().await;
        let Some((stream, peer)) = waiting.take() else {
            return Accepted::Nothing;
        };
        if let Some(admission) = limits.admit(peer.ip(), slot) {
            return Accepted::Connection(stream, peer, admission);
        }
        broker.metrics.connections_refused.inc();
        if let Some(silent) = admit_line(broker, peer, Fault::TooMany) {
            tracing::warn!(
                %peer,
                listener = %self.name,
                silent,
                "refused a connection: its address has as many as max.connections.per.ip or its override allows"
            );
        }
        Accepted::Nothing
    }

    fn open(
        &self,
        broker: &Arc<Broker>,
        stream: TcpStream,
        peer: SocketAddr,
        settings: &ConnectionSettings,
    ) -> Option<Session> {
        // Both fail only when the client has gone.
        stream.set_nodelay(true).ok()?;
        let local = stream.local_addr().ok()?;
        let connection = Arc::new(Connection {
            id: NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed),
            listener: Arc::clone(&self.name),
            role: self.role,
            local,
            peer,
            principal: Principal::anonymous(),
            software: OnceLock::new(),
            beats_of: OnceLock::new(),
        });
        Some(Session::new(
            Arc::clone(broker),
            connection,
            stream,
            settings.clone(),
        ))
    }
}

async fn serve(
    broker: Arc<Broker>,
    session: Session,
    peer: SocketAddr,
    admission: Admission,
    shutdown: watch::Receiver<bool>,
) {
    broker.metrics.connections_accepted.inc();
    broker.metrics.connections.inc();
    let connection = session.connection();
    let closed = session.run(shutdown).await;
    broker.metrics.connections.dec();
    if let Some(beating) = connection.beats_of.get() {
        broker.controller.sessions().on_disconnected(*beating);
    }
    if closed.is_protocol_violation() {
        broker.metrics.protocol_violations.inc();
    }
    match closed.fault() {
        Some(fault) => {
            if let Some(silent) = admit_line(&broker, peer, fault) {
                let software = connection.software.get().map_or("", |one| &one.name);
                let listener = &connection.listener;
                tracing::warn!(%peer, %listener, software, reason = %closed, silent, "closed a connection");
            }
        }
        None if matches!(closed, Closed::ByClient | Closed::Shutdown) => {}
        None => tracing::debug!(%peer, reason = %closed, "closed a connection"),
    }
    drop(admission);
}

/// If a line about `peer` and `fault` is due: the number of such lines that were left out since the last one.
fn admit_line(broker: &Broker, peer: SocketAddr, fault: Fault) -> Option<u64> {
    broker
        .closed_log
        .admit(peer.ip(), fault, broker.clock.monotonic())
}

/// Whether accept failed because of the connection that it would have returned, and not because of the listener.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
