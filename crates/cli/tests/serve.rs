//! `ottla serve` as a process: the lines on stderr from the start to the stop.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use nodes::{ALONE, Node, PATIENCE};

fn start(data: &Path, more: &[&str]) -> Node {
    Node::serve(1, (data, ALONE), more.iter().copied())
}

/// Sends `bytes` on a new connection, and returns the answer up to the close.
fn send(to: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(&to.address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset counts as a close.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Sends the signal, and waits until the process has ended and its output is read.
fn stop(mut node: Node, signal: Signal) -> (bool, String) {
    kill_process(Pid::from_child(&node.process), signal).unwrap();
    let is_success = node.process.wait().unwrap().success();
    while let Ok(line) = node.lines.recv_timeout(PATIENCE) {
        node.read.push_str(&line);
        node.read.push('\n');
    }
    (is_success, std::mem::take(&mut node.read))
}

#[test]
fn the_start_says_what_serves_which_data_and_where() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    for state in ["new", "existing"] {
        let broker = start(&data, &[]);
        let address = broker.address.clone();
        let (_, text) = stop(broker, Signal::TERM);
        let started = text.lines().find(|line| line.contains("started")).unwrap();
        let path = data.canonicalize().unwrap();
        for part in [
            format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
            format!("log_dirs=[{path:?}]"),
            format!("data=\"{state}\""),
            "cluster_id=\"".to_owned(),
            "node_id=1".to_owned(),
            format!("PLAINTEXT://{address}"),
            "metrics=\"http://127.0.0.1:".to_owned(),
        ] {
            assert!(started.contains(&part), "no {part} in {started}");
        }
    }
}

#[test]
fn a_port_in_use_is_named_with_the_next_step() {
    let data = tempfile::tempdir().unwrap();
    let broker = start(&data.path().join("first"), &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["serve", "--override"])
        .arg(format!("listeners=PLAINTEXT://{}", broker.address))
        .arg("--override")
        .arg(format!("log.dirs={}", data.path().join("second").display()))
        .args(["--override", "ottla.http.listen=127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(
        text.contains("error: cannot listen on 127.0.0.1:"),
        "{text}"
    );
    assert!(
        text.contains("next: stop the process that uses the port"),
        "{text}"
    );
    assert!(text.contains("--override listeners="), "{text}");
}

#[test]
fn the_ready_line_names_the_program_as_it_was_started() {
    let data = tempfile::tempdir().unwrap();
    let broker = start(data.path(), &[]);
    let next = format!("next: {} produce", env!("CARGO_BIN_EXE_ottla"));
    assert!(broker.read.contains(&next), "{}", broker.read);
}

#[test]
fn a_hangup_is_a_clean_shutdown() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = start(data.path(), &[]);
    broker.text(&["topic", "create", "kept"], "");
    broker.line("topic created");
    let (is_success, text) = stop(broker, Signal::HUP);
    assert!(is_success);
    assert!(text.contains("signal=\"SIGHUP\""), "{text}");
    assert!(text.lines().last().unwrap().ends_with("stopped"), "{text}");
    // Kafka's marker of a clean stop, which the next start checks.
    assert!(data.path().join(".kafka_cleanshutdown").exists());
}

#[test]
fn topics_and_configs_are_logged_by_name_with_a_line_each() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = start(data.path(), &[]);
    broker.text(&["topic", "create", "orders", "--partitions", "3"], "");
    let line = broker.line("topic created");
    assert!(line.contains("topic=\"orders\""), "{line}");
    assert!(line.contains("partitions=3"), "{line}");
    broker.text(
        &["config", "set", "--topic", "orders", "retention.ms=1000"],
        "",
    );
    let line = broker.line("config set");
    assert!(line.contains("resource=\"topic orders\""), "{line}");
    assert!(
        line.contains("key=\"retention.ms\" value=\"1000\""),
        "{line}"
    );
    broker.text(&["topic", "delete", "orders"], "");
    let line = broker.line("topic deleted");
    assert!(line.contains("topic=\"orders\""), "{line}");
}

#[test]
fn a_closed_connection_is_explained_once_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let mut broker = start(data.path(), &[]);
    for _ in 0..3 {
        assert!(send(&broker, b"GET / HTTP/1.1\r\n\r\n").starts_with(b"HTTP/1.1 400"));
    }
    assert_eq!(send(&broker, &[22, 3, 1, 0, 5, 1, 0, 0, 1, 3])[0], 21);
    assert!(send(&broker, &i32::MAX.to_be_bytes()).is_empty());
    let line = broker.line("socket.request.max.bytes");
    assert!(line.contains("WARN"), "{line}");
    let (_, text) = stop(broker, Signal::TERM);
    let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count("speaks HTTP"), 1, "{text}");
    assert_eq!(count("speaks TLS"), 1, "{text}");
}

#[test]
fn the_log_level_is_what_was_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let broker = start(data.path(), &["--log-level", "warn"]);
    let (_, text) = stop(broker, Signal::TERM);
    assert!(!text.contains("started"), "{text}");
    let refused = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["serve", "--log-level", "ottla=loud"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("--log-level"),
        "{said}"
    );
}

#[test]
fn under_json_every_line_of_stderr_is_an_object() {
    let parent = tempfile::tempdir().unwrap();
    for option in [["--output", "json"], ["--log-format", "json"]] {
        let broker = start(&parent.path().join("data"), &option);
        let address = broker.address.clone();
        let (_, text) = stop(broker, Signal::TERM);
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        let lines: Vec<_> = lines.map(Result::unwrap).collect();
        assert!(
            lines.iter().any(|line| line["address"] == *address),
            "{text}"
        );
    }
}
