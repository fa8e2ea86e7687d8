//! Three nodes as processes: one is broker and controller, two are brokers. One of them is killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long to wait for anything on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A node in a process of its own; killed when dropped.
struct Node {
    id: i32,
    process: Child,
    lines: Receiver<String>,
    read: String,
    port: u16,
}

impl Node {
    fn start(directory: &Path, (id, port, controller): (i32, u16, u16)) -> Self {
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut roles = "broker";
        if id == 1 {
            listeners = format!("{listeners},CONTROLLER://127.0.0.1:{controller}");
            roles = "broker,controller";
        }
        let file = directory.join(format!("{id}.properties"));
        let data = directory.join(id.to_string());
        let text = format!(
            "process.roles={roles}\nnode.id={id}\nlisteners={listeners}\nlog.dirs={}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             ottla.http.listen=\ngroup.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::Builder::new()
            .spawn(move || {
                for line in stderr.lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })
            .unwrap();
        Self {
            id,
            process,
            lines,
            read: String::new(),
            port,
        }
    }

    /// Waits for a line with `part`.
    fn line(&mut self, part: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line =
                line.unwrap_or_else(|_| panic!("no {part:?} from {}: {}", self.id, self.read));
            self.read.push_str(&line);
            self.read.push('\n');
            if line.contains(part) {
                return;
            }
        }
    }

    /// Runs a command of `ottla` against this node.
    fn ottla(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .args(arguments)
            .args(["-b", &format!("127.0.0.1:{}", self.port)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn text(&self, arguments: &[&str], input: &str) -> String {
        let done = self.ottla(arguments, input);
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The leader, and the number of in-sync replicas, of each partition of a topic.
    fn partitions(&self, topic: &str) -> Vec<(i64, usize)> {
        let text = self.text(&["topic", "describe", topic, "--output", "json"], "");
        let described: serde_json::Value = serde_json::from_str(&text).unwrap();
        let partitions = described[0]["partitions"].as_array();
        let partitions = partitions.unwrap_or_else(|| panic!("{text}")).iter();
        let one = |partition: &serde_json::Value| {
            let leader = partition["leader"].as_i64().unwrap_or(-1);
            (leader, partition["in_sync"].as_array().unwrap().len())
        };
        partitions.map(one).collect()
    }

    /// Waits until each partition of a topic has so many in-sync replicas.
    fn until_in_sync(&self, topic: &str, replicas: usize) {
        let began = Instant::now();
        loop {
            let partitions = self.partitions(topic);
            if partitions.iter().all(|(_, in_sync)| *in_sync == replicas) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{partitions:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ports that are free now. They must be known before the nodes start, and stay the same when a node starts again.
fn ports() -> [u16; 4] {
    let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn three_nodes_replicate_and_one_that_is_killed_returns() {
    let directory = tempfile::tempdir().unwrap();
    let [controller, one, two, three] = ports();
    let start = |id, port| Node::start(directory.path(), (id, port, controller));
    let mut first = start(1, one);
    let mut second = start(2, two);
    let mut third = start(3, three);
    for node in [&mut first, &mut second, &mut third] {
        node.line(" is ready on ");
    }

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
    third = start(3, three);
    third.line(" is ready on ");
    third.until_in_sync("t", 3);
    let read = third.text(&["consume", "t", "--from", "beginning", "--exit"], "");
    let mut read: Vec<u32> = read.lines().map(|line| line.parse().unwrap()).collect();
    read.sort_unstable();
    assert_eq!(read, (0..200).collect::<Vec<_>>());
}
