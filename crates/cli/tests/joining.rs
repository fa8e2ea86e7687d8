//! Processes that join a node alone: the first two vote beside it, and from then on no single node is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;

use std::collections::BTreeSet;
use std::path::Path;

use nodes::{ALONE, Node, numbers};

/// A node that joins, and may not be ready yet.
fn joins(directory: &Path, name: &str, join: &str) -> Node {
    let data = directory.join(name);
    Node::begin(0, (&data, ALONE), ["--join", join])
}

fn id_of(directory: &Path, name: &str) -> i32 {
    let file = directory.join(name).join("meta.properties");
    let text = String::from_utf8(std::fs::read(file).unwrap()).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("node.id="));
    id.unwrap().parse().unwrap()
}

fn end(mut node: Node) {
    node.process.kill().unwrap();
    node.process.wait().unwrap();
}

#[test]
fn two_nodes_that_join_at_once_have_two_ids_and_vote_and_a_fourth_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let first = Node::start(directory, 1, None);
    let mut others = ["a", "b"].map(|name| joins(directory, name, &first.address));
    others.iter_mut().for_each(Node::until_ready);
    let ids: BTreeSet<i32> = ["a", "b"].map(|name| id_of(directory, name)).into();
    assert_eq!(ids, [2, 3].into());
    first.until_told(&["cluster"], "voters 1, 2, 3");
    let fourth = Node::start(directory, 4, Some(&first.address));
    assert!(
        fourth.read.contains("this node is a broker only"),
        "{}",
        fourth.read
    );
    first.until_told(&["cluster"], "brokers 4 ");
    first.until_told(&["cluster"], "voters 1, 2, 3  observers 4");
}

#[test]
fn no_single_node_of_three_that_grew_from_one_is_needed_and_none_to_start_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let first = Node::start(directory, 1, None);
    let join = first.address.clone();
    first.text(&["topic", "create", "t", "--partitions", "2"], "");
    first.text(&["produce", "t"], &numbers(0..50));
    let mut second = Node::start(directory, 2, Some(&join));
    first.until_told(&["cluster"], "voters 1, 2 ");
    first.until_told(
        &["cluster"],
        "two controllers vote, which is less safe than one",
    );
    second.line("are the only voters");
    let third = Node::start(directory, 3, Some(&join));
    first.until_told(&["cluster"], "voters 1, 2, 3");
    first.text(
        &["topic", "alter", "--all", "--replication-factor", "3"],
        "",
    );

    end(first);
    second.text(&["topic", "create", "after", "--partitions", "1"], "");
    second.text(&["produce", "t"], &numbers(50..100));
    // The node that they joined does not run.
    end(second);
    end(third);
    let mut again = ["2", "3"].map(|name| joins(directory, name, &join));
    again.iter_mut().for_each(Node::until_ready);
    let lines = again[0].text(&["consume", "t", "--from", "beginning", "--exit"], "");
    let read: BTreeSet<u32> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(read, (0..100).collect());

    // Its own disk brings it back; a broker that is removed does not vote any more.
    let mut first = Node::begin(1, (&directory.join("1"), ALONE), []);
    first.until_ready();
    first.until_told(&["cluster"], "voters 1, 2, 3");
    let [_, third] = again;
    end(third);
    first.until_told(&["cluster"], "broker 3 is fenced");
    let removed = first.text(&["broker", "remove", "3", "--with-replicas"], "");
    assert!(removed.contains("does not vote any more"), "{removed}");
    first.until_told(&["cluster"], "voters 1, 2 ");
}
