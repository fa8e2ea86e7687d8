//! The way to a broker: it passes bytes on, until it is cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Dropping it ends all connections.
pub struct Link {
    pub address: SocketAddr,
    /// Where the bytes go; nowhere while it is cut.
    target: watch::Sender<Option<SocketAddr>>,
    /// The target of the connections that there are.
    current: watch::Receiver<Option<SocketAddr>>,
    _passing: JoinSet<()>,
}

impl Link {
    /// A link that is cut.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(None);
        let mut passing = JoinSet::new();
        let (set_current, current) = watch::channel(None);
        passing.spawn(pass(listener, targets, set_current));
        Self {
            address,
            target,
            current,
            _passing: passing,
        }
    }

    /// Ends connections. Further ones are closed at once.
    pub async fn cut(&self) {
        self.target.send_replace(None);
        let mut current = self.current.clone();
        current.wait_for(Option::is_none).await.unwrap();
    }

    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }
}

async fn pass(
    listener: TcpListener,
    mut targets: watch::Receiver<Option<SocketAddr>>,
    current: watch::Sender<Option<SocketAddr>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let target = *targets.borrow_and_update();
        current.send_replace(target);
        tokio::select! {
            accepted = listener.accept() => {
                if let (Ok((from, _)), Some(target)) = (accepted, target) {
                    connections.spawn(copy(from, target));
                }
            }
            changed = targets.changed() => {
                if changed.is_err() {
                    return;
                }
                connections.shutdown().await;
            }
        }
    }
}

async fn copy(mut from: TcpStream, target: SocketAddr) {
    if let Ok(mut to) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut from, &mut to).await;
    }
}
