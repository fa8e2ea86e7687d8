//! Three nodes as processes: one is broker and controller and two join it as brokers, or all are both.
//! One of them is killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;
#[path = "../../broker/tests/ports/mod.rs"]
mod ports;

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use nodes::{Node, numbers};

#[test]
fn three_nodes_replicate_and_one_that_is_killed_returns() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Node::start(directory.path(), 1, None);
    let join = first.address.clone();
    let second = Node::start_broker(directory.path(), 2, &join);
    let mut third = Node::start_broker(directory.path(), 3, &join);

    // A request through a node that is no controller.
    let create = "topic create t --partitions 3 --replication-factor 3";
    second.text(&create.split(' ').collect::<Vec<_>>(), "");
    third.text(&["produce", "-t", "t"], &numbers(0..100));
    first.until_in_sync("t", 3);
    let described = third.text(&["topic", "describe", "t"], "");
    assert!(!described.contains("client `"), "{described}");
    third.text(&["produce", "-t", "t", "--acks", "1"], &numbers(0..1));
    let described = first.text(&["topic", "describe", "t"], "");
    let weak = "; client `ottla` writes with acks=1: those records can be lost with any node\n";
    assert!(described.contains(weak), "{described}");
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
    third = Node::start_broker(directory.path(), 3, &join);
    third.until_in_sync("t", 3);
    let read = third.text(&["consume", "t", "--from", "beginning", "--exit"], "");
    let mut read: Vec<u32> = read.lines().map(|line| line.parse().unwrap()).collect();
    read.sort_unstable();
    // The number that was written with acks=1 is there twice.
    assert_eq!(read.len(), 201);
    read.dedup();
    assert_eq!(read, (0..200).collect::<Vec<_>>());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the files of a test")]
fn one_command_runs_three_nodes_that_elect_another_controller_and_stop_together() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b, c, one, two, three] = [(); 6].map(|()| ports::held());
    for (id, port, controller) in [(1, one, a), (2, two, b), (3, three, c)] {
        let data = directory.path().join(format!("data-{id}"));
        let text = format!(
            "process.roles=broker,controller\nnode.id={id}\nottla.cluster.id=ABCDEFGHIJKLMNOPQRSTUg\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\nottla.http.listen=\nlog.dirs={}\n\
             controller.quorum.voters=1@127.0.0.1:{a},2@127.0.0.1:{b},3@127.0.0.1:{c}\n",
            data.display()
        );
        let file = directory.path().join(format!("node-{id}.properties"));
        std::fs::write(file, text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command
        .args(["serve", "--nodes", "3", "--override"])
        .arg(format!("log.dirs={}", directory.path().display()));
    let mut all = Node::reading(0, &mut command);
    let ready = all.line("3 nodes are ready on ");
    let (_, pid) = ready.split_once("kill -9 ").unwrap();
    let pid = pid.split(';').next().unwrap().parse().unwrap();
    all.address = format!("127.0.0.1:{one},127.0.0.1:{two}");
    let create = "topic create t --partitions 3 --replication-factor 3";
    all.text(&create.split(' ').collect::<Vec<_>>(), "");
    let cluster = all.text(&["cluster"], "");
    assert_eq!(
        cluster.matches("  broker, controller\n").count(),
        2,
        "{cluster}"
    );
    assert!(
        cluster.contains("  broker, active controller\n"),
        "{cluster}"
    );
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    all.line("node 3 has ended");
    all.text(&["produce", "-t", "t"], &numbers(0..100));
    all.until_in_sync("t", 2);
    kill_process(Pid::from_child(&all.process), Signal::TERM).unwrap();
    assert!(all.process.wait().unwrap().success());
}
