//! A cluster of three processes grows and shrinks by commands, and shows what it loses in an unclean election.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use nodes::{Node, numbers};

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

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a throttle shows by the time that a move takes"
)]
fn a_throttled_move_takes_its_time_and_takes_the_throttle_back() {
    let directory = tempfile::tempdir().unwrap();
    let first = Node::start(directory.path(), 1, None);
    run(&first, "topic create t --partitions 1");
    let value = "x".repeat(500_000);
    first.text(&["produce", "t"], &format!("{value}\n").repeat(6));
    let _second = Node::start(directory.path(), 2, Some(&first.address));
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
    let left = [
        run(&first, "config describe --topic t throttled --output json"),
        run(&first, "config describe --broker 1 throttled --output json"),
    ];
    assert!(
        left.iter()
            .all(|text| !text.contains("500000") && !text.contains('*')),
        "{left:?}"
    );
}

#[test]
fn what_an_unclean_election_loses_is_what_the_ledger_shows() {
    let directory = tempfile::tempdir().unwrap();
    let first = Node::start(directory.path(), 1, None);
    let start = |id| Node::start(directory.path(), id, Some(&first.address));
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
