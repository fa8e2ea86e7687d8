//! Three nodes as processes: one is broker and controller, two join it as brokers. One of them is killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;

use nodes::{Node, numbers};

#[test]
fn three_nodes_replicate_and_one_that_is_killed_returns() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Node::start(directory.path(), 1, None);
    let join = first.address.clone();
    let second = Node::start(directory.path(), 2, Some(&join));
    let mut third = Node::start(directory.path(), 3, Some(&join));

    // A request through a node that is no controller.
    let create = "topic create t --partitions 3 --replication-factor 3";
    second.text(&create.split(' ').collect::<Vec<_>>(), "");
    third.text(&["produce", "-t", "t"], &numbers(0..100));
    first.until_in_sync("t", 3);
    let leaders = first.partitions("t");
    assert!(
        leaders.iter().any(|(leader, _)| *leader == 3),
        "{leaders:?}"
    );

    third.process.kill().unwrap();
    third.process.wait().unwrap();
    first.line("fencing a broker: its address refuses connections");
    first.until_in_sync("t", 2);
    let leaders = first.partitions("t");
    assert!(
        leaders.iter().all(|(leader, _)| [1, 2].contains(leader)),
        "{leaders:?}"
    );
    first.text(&["produce", "-t", "t"], &numbers(100..200));

    // It catches up, and has everything when it is asked.
    third = Node::start(directory.path(), 3, Some(&join));
    third.until_in_sync("t", 3);
    let read = third.text(&["consume", "t", "--from", "beginning", "--exit"], "");
    let mut read: Vec<u32> = read.lines().map(|line| line.parse().unwrap()).collect();
    read.sort_unstable();
    assert_eq!(read, (0..200).collect::<Vec<_>>());
}
