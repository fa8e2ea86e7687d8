//! Fences brokers whose machines have vanished, without waiting for the end of their sessions.
//!
//! A broker is tried when its heartbeats are late, and once when it is new: each controller, active or not, must know which
//! addresses answer it. If the active controller is silent, its broker is tried too: the next active controller need not
//! begin to find out then. Trying is to connect, and to hang up. `ottla_controller::heartbeats` decides who is tried, and
//! what the outcomes mean.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::heartbeats::reach::{ANSWERED_WITHIN, Answer};
use ottla_metadata::Endpoint;
use ottla_protocol::ids::NodeId;
use tokio::net::{TcpStream, ToSocketAddrs, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::stopping::stopped;
use crate::broker::Broker;

/// Between two looks at who is late.
const LOOK: Duration = Duration::from_millis(100);
/// Upper bound of the attempts at the same time.
const MAX_ATTEMPTS: usize = 32;

/// Tries late and new brokers until this one stops.
pub async fn run(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let mut attempts = JoinSet::new();
    let mut tried = BTreeSet::new();
    loop {
        tokio::select! {
            () = sleep(LOOK) => {
                for late in to_try(&broker) {
                    if attempts.len() < MAX_ATTEMPTS && tried.insert(late) {
                        attempts.spawn(attempt(Arc::clone(&broker), late));
                    }
                }
            }
            Some(ended) = attempts.join_next() => match ended {
                Ok(late) => {
                    tried.remove(&late);
                }
                // One that panicked has told nobody whom it tried.
                Err(_) => tried.clear(),
            },
            () = stopped(&mut stopping) => return,
        }
    }
}

fn to_try(broker: &Broker) -> Vec<(NodeId, i64)> {
    let image = broker.controller.image();
    let mut brokers = broker.controller.sessions().to_try(&image);
    let inbox = broker.quorum_inbox.get();
    let silent = inbox.and_then(|inbox| *inbox.silent_leader.borrow());
    let silent = silent.and_then(|leader| image.brokers.get(&leader));
    brokers.extend(silent.map(|broker| (broker.id, broker.epoch)));
    brokers
}

/// Tries to reach a broker, and fences it if it is gone.
async fn attempt(broker: Arc<Broker>, late: (NodeId, i64)) -> (NodeId, i64) {
    let image = broker.controller.image();
    let Some(registered) = image.brokers.get(&late.0) else {
        return late;
    };
    let sessions = broker.controller.sessions();
    let began = sessions.now();
    let answer = try_all(&registered.endpoints).await;
    if let Some(fence) = sessions.on_attempt(late, began, answer) {
        tracing::warn!(
            broker = fence.broker.0,
            epoch = fence.epoch,
            "fencing a broker: its heartbeats are late, and its machine does not answer"
        );
        if broker.controller.ask_here(fence.clone()).await.is_err() {
            sessions.not_fenced(&fence);
        }
    }
    late
}

/// Tries all addresses at the same time; one answer is enough.
async fn try_all(endpoints: &[Endpoint]) -> Answer {
    let mut attempts = JoinSet::new();
    for endpoint in endpoints {
        attempts.spawn(try_one((endpoint.host.clone(), endpoint.port)));
    }
    let mut all = Answer::Untried;
    while let Some(answer) = attempts.join_next().await {
        match answer {
            Ok(answer @ (Answer::Accepted | Answer::Refused)) => return answer,
            Ok(Answer::Unanswered) => all = Answer::Unanswered,
            Ok(Answer::Untried) | Err(_) => {}
        }
    }
    all
}

/// Tries one address.
pub(super) async fn try_one(address: impl ToSocketAddrs) -> Answer {
    // A name that cannot be looked up says nothing of the machine.
    let Ok(Ok(mut found)) = timeout(ANSWERED_WITHIN, lookup_host(address)).await else {
        return Answer::Untried;
    };
    let Some(address) = found.next() else {
        return Answer::Untried;
    };
    match timeout(ANSWERED_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Accepted,
        Ok(Err(error)) => of_error(error.kind()),
        Err(_) => Answer::Unanswered,
    }
}

/// What a failed attempt says of the machine.
fn of_error(kind: io::ErrorKind) -> Answer {
    use io::ErrorKind as Kind;
    if kind == Kind::ConnectionRefused {
        Answer::Refused
    } else if kind == Kind::ConnectionReset {
        Answer::Accepted
    } else if matches!(
        kind,
        Kind::TimedOut | Kind::HostUnreachable | Kind::NetworkUnreachable
    ) {
        Answer::Unanswered
    } else {
        Answer::Untried
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, of_error, try_all};
    use ottla_metadata::Endpoint;
    use std::io::ErrorKind;
    use tokio::net::TcpListener;

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: host.to_owned(),
            port,
            security_protocol: 0,
        }
    }

    #[tokio::test]
    async fn a_machine_answers_by_accepting_or_refusing_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = at("127.0.0.1", listener.local_addr().unwrap().port());
        assert_eq!(try_all(std::slice::from_ref(&open)).await, Answer::Accepted);
        drop(listener);
        assert_eq!(try_all(&[open]).await, Answer::Refused);
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_says_nothing() {
        let unknown = at("no-such-host.invalid", 1);
        assert_eq!(try_all(&[unknown]).await, Answer::Untried);
        assert_eq!(try_all(&[]).await, Answer::Untried);
    }

    #[test]
    fn only_what_the_network_says_counts() {
        assert_eq!(of_error(ErrorKind::HostUnreachable), Answer::Unanswered);
        assert_eq!(of_error(ErrorKind::AddrNotAvailable), Answer::Untried);
        assert_eq!(of_error(ErrorKind::Other), Answer::Untried, "no descriptor");
    }
}
