//! `/ready` and `/live` of nodes as processes: while they wait for their controllers, while they serve, and while the quorum
//! is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "it waits for other processes")]

mod nodes;
#[path = "../../broker/tests/ports/mod.rs"]
mod ports;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nodes::{Node, PATIENCE};

/// The answer to a path; none while nothing listens there.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Waits until `/ready` has this status and this reason; meanwhile the node must be live.
fn until_ready_says(port: u16, status: u16, reason: &str) {
    let end = Instant::now() + PATIENCE;
    let mut ready = None;
    while Instant::now() < end {
        ready = get(port, "/ready");
        let is_so = |ready: &String| {
            ready.starts_with(&format!("HTTP/1.0 {status}")) && ready.contains(reason)
        };
        if ready.as_ref().is_some_and(is_so) {
            let live = get(port, "/live").unwrap();
            assert!(live.starts_with("HTTP/1.0 200"), "{live}");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("/ready does not become {status} with {reason:?}: {ready:?}");
}

/// The node with the only controller.
fn controller(directory: &Path, [broker, controller, http]: [u16; 3]) -> Node {
    let listeners = format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}");
    let listen = format!("ottla.http.listen=127.0.0.1:{http}");
    Node::serve(1, (directory, &listeners), ["--override", &listen])
}

#[test]
fn a_node_that_waits_for_its_controllers_is_live_and_one_that_lost_them_is_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("1"), directory.path().join("2"));
    let [at, of_controller, of_first, of_second] = [(); 4].map(|()| ports::held());

    let mut joining = Node::broker(&second, (2, of_controller, of_second));
    joining.line("a controller does not answer");
    until_ready_says(of_second, 503, "controller.quorum.bootstrap.servers");
    let metrics = get(of_second, "/metrics").unwrap();
    assert!(metrics.starts_with("HTTP/1.0 503"), "{metrics}");

    let alone = controller(&first, [at, of_controller, of_first]);
    until_ready_says(of_first, 200, "\r\n\r\nready\n");
    until_ready_says(of_second, 200, "\r\n\r\nready\n");
    let metrics = get(of_second, "/metrics").unwrap();
    assert!(metrics.contains("\nottla_ready 1\n"), "{metrics}");

    assert!(metrics.contains("\nkafka_controller_kafkacontroller_activecontrollercount 0\n"));
    let metrics = get(of_first, "/metrics").unwrap();
    for line in [
        "kafka_controller_kafkacontroller_activecontrollercount 1",
        "kafka_controller_kafkacontroller_activebrokercount 2",
        "kafka_controller_kafkacontroller_fencedbrokercount 0",
        "kafka_server_raft_metrics_current_leader 1",
        "ottla_metadata_lag 0",
    ] {
        assert!(
            metrics.lines().any(|known| known == line),
            "{line}\n{metrics}"
        );
    }

    drop(alone);
    until_ready_says(of_second, 503, "not ready: no controller answers");
    until_ready_says(of_second, 503, "start the controllers that are down");
    let metrics = get(of_second, "/metrics").unwrap();
    assert!(metrics.contains("\nottla_ready 0\n"), "{metrics}");

    let _alone = controller(&first, [at, of_controller, of_first]);
    until_ready_says(of_second, 200, "\r\n\r\nready\n");
}
