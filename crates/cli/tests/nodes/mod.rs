//! Nodes of a cluster as processes: the first is broker and controller, and the others join it.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long to wait for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often to look for a state. Each look starts a process, which takes at least some milliseconds.
const LOOKS: usize = 3_000;

/// The listeners of a node that is broker and controller.
pub const ALONE: &str = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0";

/// A node in a process of its own; killed when dropped.
pub struct Node {
    id: i32,
    pub process: Child,
    pub lines: Receiver<String>,
    /// The output read so far.
    pub read: String,
    /// `host:port` of the broker.
    pub address: String,
}

impl Node {
    /// The node `id`, alone, or joining the cluster of the broker at `join`.
    pub fn start(directory: &Path, id: i32, join: Option<&str>) -> Self {
        let data = directory.join(id.to_string());
        let rack = format!("broker.rack=rack-{id}");
        let more = ["--override", &rack].into_iter();
        let join = join.into_iter().flat_map(|address| ["--join", address]);
        Self::serve(id, (&data, ALONE), more.chain(join))
    }

    /// The node `id`, which joins as a broker only: the cluster goes on changing metadata without it.
    pub fn start_broker(directory: &Path, id: i32, join: &str) -> Self {
        let data = directory.join(id.to_string());
        let rack = format!("broker.rack=rack-{id}");
        let more = ["--override", &rack, "--override", "process.roles=broker"];
        let more = more.into_iter().chain(["--join", join]);
        Self::serve(id, (&data, "PLAINTEXT://127.0.0.1:0"), more)
    }

    /// A node with its data in a directory, and these listeners and further arguments. It is ready.
    pub fn serve<'a>(id: i32, at: (&Path, &str), more: impl IntoIterator<Item = &'a str>) -> Self {
        let mut node = Self::begin(id, at, more);
        node.until_ready();
        node
    }

    /// The same, which may not be ready yet.
    pub fn begin<'a>(
        id: i32,
        (data, listeners): (&Path, &str),
        more: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command
            .args(["serve", "--override", &format!("listeners={listeners}")])
            .args(["--override", &format!("log.dirs={}", data.display())])
            .args(["--override", "ottla.http.listen=127.0.0.1:0"])
            .args(more);
        Self::reading(id, &mut command)
    }

    /// Waits for the line that says where its clients are served.
    pub fn until_ready(&mut self) {
        let ready = self.line(" is ready on ");
        let (_, rest) = ready.split_once(" is ready on ").unwrap();
        let address = rest.split(';').next().unwrap();
        address.clone_into(&mut self.address);
    }

    /// A broker alone, which needs the controller at a port of this machine. It may not be ready.
    #[expect(
        clippy::disallowed_methods,
        reason = "the configuration of a process is no data of its own"
    )]
    pub fn broker(directory: &Path, (id, controller, http): (i32, u16, u16)) -> Self {
        let text = format!(
            "process.roles=broker\nnode.id={id}\nlisteners=PLAINTEXT://127.0.0.1:0\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\nottla.http.listen=127.0.0.1:{http}\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n",
            directory.display()
        );
        let file = directory.with_extension("properties");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        Self::reading(id, command.args(["serve", "--config"]).arg(file))
    }

    /// Starts a process, whose log is read.
    pub fn reading(id: i32, command: &mut Command) -> Self {
        let command = command.env_remove("RUST_LOG").stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
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
            address: String::new(),
        }
    }

    /// Waits for a line with `part`.
    pub fn line(&mut self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line =
                line.unwrap_or_else(|_| panic!("no {part:?} from {}: {}", self.id, self.read));
            self.read.push_str(&line);
            self.read.push('\n');
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Runs a command of `ottla` against this node.
    pub fn ottla(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .args(arguments)
            .args(["-b", &self.address])
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

    pub fn text(&self, arguments: &[&str], input: &str) -> String {
        let done = self.ottla(arguments, input);
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The leader, and the number of in-sync replicas, of each partition of a topic.
    pub fn partitions(&self, topic: &str) -> Vec<(i64, usize)> {
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
    pub fn until_in_sync(&self, topic: &str, replicas: usize) {
        self.until(topic, |(_, in_sync)| in_sync == replicas);
    }

    /// Waits until each partition of a topic is so, by its leader and the number of its in-sync replicas.
    pub fn until(&self, topic: &str, is_so: impl Fn((i64, usize)) -> bool) {
        let mut partitions = Vec::new();
        for _ in 0..LOOKS {
            partitions = self.partitions(topic);
            if partitions.iter().all(|partition| is_so(*partition)) {
                return;
            }
        }
        panic!("{topic} does not become so: {partitions:?}");
    }

    /// Waits until a command prints `part`.
    pub fn until_told(&self, arguments: &[&str], part: &str) {
        let mut text = String::new();
        for _ in 0..LOOKS {
            text = self.text(arguments, "");
            if text.contains(part) {
                return;
            }
        }
        panic!("no {part:?}: {text}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn numbers(range: std::ops::Range<u32>) -> String {
    let lines: Vec<String> = range.map(|number| number.to_string()).collect();
    lines.join("\n")
}
