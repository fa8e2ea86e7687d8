//! A cluster of three processes grows and shrinks by commands, and shows what it loses in an unclean election.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use nodes::{Node, numbers};

/// No throttle.
const NONE: [&str; 0] = [];

/// Runs a command; its words are separated by spaces.
fn run(node: &Node, line: &str) -> String {
    node.text(&line.split(' ').collect::<Vec<_>>(), "")
}

fn read(node: &Node, topic: &str) -> BTreeSet<i64> {
    let lines = run(node, &format!("consume {topic} --from beginning --exit"));
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn one_replica_becomes_three_by_rack_and_a_broker_is_drained_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let first = Node::start(directory.path(), 1, None);
    let join = Some(first.address.as_str());
    run(&first, "topic create t --partitions 6");
    first.text(&["produce", "t"], &numbers(0..100));
    let _second = Node::start(directory.path(), 2, join);
    let mut third = Node::start(directory.path(), 3, join);

    let grown = run(&first, "topic alter --all --replication-factor 3");
    assert!(
        grown.contains("gave 6 partitions of 1 topics 3 replicas"),
        "{grown}"
    );
    assert!(
        grown.contains("set min.insync.replicas=2 of topic t"),
        "{grown}"
    );
    assert!(
        first
            .partitions("t")
            .iter()
            .all(|(_, in_sync)| *in_sync == 3)
    );
    let described = run(&first, "topic describe t");
    assert!(
        described.contains("2 of 3 replicas and survives the loss of any one node"),
        "{described}"
    );
    assert!(described.contains("or of one rack"), "{described}");
    let again = run(&first, "topic alter t --replication-factor 3");
    assert!(again.contains("6 partitions have them already"), "{again}");

    run(&first, "topic alter t --replication-factor 2");
    let drained = run(&first, "broker drain 3");
    assert!(drained.contains("broker 3 has no replicas"), "{drained}");
    assert!(
        first
            .partitions("t")
            .iter()
            .all(|(leader, in_sync)| (*leader, *in_sync) != (3, 2))
    );
    third.process.kill().unwrap();
    third.process.wait().unwrap();
    first.until_told(&["cluster"], "broker 3 is fenced");
    let waited = first.ottla(&["cluster", "--wait", "0"], "");
    let said = String::from_utf8(waited.stderr).unwrap();
    assert!(
        said.contains("something is still wrong after 0 s"),
        "{said}"
    );
    run(&first, "broker remove 3");
    let cluster = run(&first, "cluster --wait 60");
    assert!(cluster.contains("brokers 2 "), "{cluster}");
    assert!(
        cluster.contains("without node 1: metadata could not be changed"),
        "{cluster}"
    );
    assert_eq!(read(&first, "t"), (0..100).collect());
}

/// Two brokers, and on the first a topic `t` whose records take seconds to move at 500 kB a second.
fn to_be_throttled(directory: &Path) -> (Node, Node) {
    let first = Node::start(directory, 1, None);
    run(&first, "topic create t --partitions 1");
    let value = "x".repeat(500_000);
    first.text(&["produce", "t"], &format!("{value}\n").repeat(6));
    let second = Node::start_broker(directory, 2, &first.address);
    (first, second)
}

/// The configs of a throttle that are set of topic `t` and of brokers.
fn throttles(node: &Node, brokers: &[i32]) -> Vec<String> {
    let brokers = brokers.iter().map(|id| format!("--broker {id}"));
    let mut set = Vec::new();
    for of in brokers.chain(["--topic t".to_owned()]) {
        let line = format!("config describe {of} throttled --output json");
        let configs: Vec<serde_json::Value> = serde_json::from_str(&run(node, &line)).unwrap();
        let configs = configs.iter();
        let of_its_own = configs.filter(|config| config["source"] != "default");
        set.extend(of_its_own.map(|config| format!("{of} {}={}", config["name"], config["value"])));
    }
    set
}

/// Runs a command with a throttle until it has begun a move, and interrupts it.
fn interrupted(node: &Node, line: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    let mut process = command
        .args(line.split(' '))
        .args(["-b", &node.address])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    node.until_told(&["partition", "moves"], "t-0");
    // A shell that runs in the background has its children ignore an interrupt.
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert!(!process.wait().unwrap().success());
    // Two configs of each broker, and two of the topic.
    let left = throttles(node, &[1, 2]);
    assert_eq!(left.len(), 6, "{left:?}");
}

#[test]
fn a_command_that_was_interrupted_takes_its_throttle_back_when_it_is_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _second) = to_be_throttled(directory.path());
    let moves = "partition move t --to 2 --throttle 250kB";
    interrupted(&first, moves);
    assert_eq!(run(&first, moves), "moved 0 partitions\n");
    assert_eq!(run(&first, "partition moves --output json"), "[]\n");
    assert_eq!(throttles(&first, &[1, 2]), NONE);
    assert_eq!(first.partitions("t"), [(2, 1)]);

    // Of a move that is done, nothing but its throttle is there to be found.
    let drains = "broker drain 2 --throttle 1MB";
    interrupted(&first, drains);
    first.until_told(&["partition", "moves", "--output", "json"], "[]");
    let drained = run(&first, drains);
    assert!(drained.contains("broker 2 has no replicas"), "{drained}");
    assert_eq!(throttles(&first, &[1, 2]), NONE);
    assert_eq!(first.partitions("t"), [(1, 1)]);
}

#[test]
fn a_throttle_that_cannot_be_set_everywhere_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let (first, mut second) = to_be_throttled(directory.path());
    second.process.kill().unwrap();
    second.process.wait().unwrap();
    let line = "partition move t --to 1 --throttle 250kB";
    let failed = first.ottla(&line.split(' ').collect::<Vec<_>>(), "");
    assert!(!failed.status.success(), "{failed:?}");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(
        said.contains("the throttle is not taken back everywhere"),
        "{said}"
    );
    assert_eq!(throttles(&first, &[1]), NONE);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a throttle shows by the time that a move takes"
)]
fn a_throttled_move_takes_its_time_and_takes_the_throttle_back() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _second) = to_be_throttled(directory.path());
    let begun = Instant::now();
    run(
        &first,
        "topic alter t --replication-factor 2 --throttle 500kB",
    );
    // After the first two megabytes at most, the rest waits until the rate is kept.
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        first
            .partitions("t")
            .iter()
            .all(|(_, in_sync)| *in_sync == 2)
    );
    assert_eq!(throttles(&first, &[1, 2]), NONE);
}

#[test]
fn what_an_unclean_election_loses_is_what_the_ledger_shows() {
    let directory = tempfile::tempdir().unwrap();
    let first = Node::start(directory.path(), 1, None);
    let start = |id| Node::start_broker(directory.path(), id, &first.address);
    let mut second = start(2);
    let mut third = start(3);
    run(
        &first,
        "topic create t --partitions 1 --replication-factor 2 --config min.insync.replicas=1 --config \
         unclean.leader.election.enable=true",
    );
    run(&first, "partition move t --to 2,3");
    first.text(&["produce", "t"], &numbers(0..10));
    first.until_in_sync("t", 2);
    third.process.kill().unwrap();
    third.process.wait().unwrap();
    first.until("t", |partition| partition == (2, 1));
    first.text(&["produce", "t"], &numbers(10..25));
    // It stops in order, so that it knows its high watermark when it returns.
    let id = second.process.id().to_string();
    Command::new("kill").arg(id).status().unwrap();
    second.process.wait().unwrap();
    first.until("t", |(leader, _)| leader == -1);

    third = start(3);
    first.until("t", |(leader, _)| leader == 3);
    first.text(&["produce", "t"], &numbers(100..104));
    second = start(2);
    first.until_in_sync("t", 2);

    let read = read(&first, "t");
    let acknowledged = (0..25).chain(100..104);
    let missing: BTreeSet<i64> = acknowledged.filter(|value| !read.contains(value)).collect();
    let text = first.text(&["loss", "--topic", "t", "--output", "json"], "");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["losses"].as_array().unwrap().len(), 1, "{text}");
    let loss = &shown["losses"][0];
    let number = |name: &str| {
        loss[name]
            .as_i64()
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    // The value of each of the first 25 records is its offset.
    assert_eq!(missing, (number("from")..number("to")).collect(), "{text}");
    assert_eq!((number("old_leader"), number("new_leader")), (2, 3));
    assert_eq!(missing.len(), 15);
    // Only the controller knows the cause.
    let why = loss["why"].as_str().unwrap();
    assert!(why.contains("unclean.leader.election.enable"), "{why}");
    drop((second, third));
}
