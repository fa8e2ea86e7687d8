//! A broker in this process that can be stopped and started again on its port, and `ottla` commands
//! that use it.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test uses a part of the session"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ottla_broker::process::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The broker and its directory.
pub struct Session {
    directory: TempDir,
    port: u16,
    /// The names of the broker's log directories.
    pub log_directories: Vec<String>,
    /// Whether the broker creates topics on first use.
    pub auto_create: bool,
    running: Option<ottla_broker::Running>,
}

impl Session {
    pub async fn start() -> Self {
        let mut session = Self::new();
        session.start_broker().await;
        session
    }

    /// A session whose broker is not started yet.
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            port: 0,
            log_directories: vec!["data".to_owned()],
            auto_create: true,
            running: None,
        }
    }

    /// The partitions of `topic` in a log directory.
    pub fn partitions_in(&self, log_directory: &str, topic: &str) -> Vec<i32> {
        let entries = std::fs::read_dir(self.directory.path().join(log_directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let index = |name: String| name.strip_prefix(topic)?.strip_prefix('-')?.parse().ok();
        let mut found: Vec<i32> = names.filter_map(index).collect();
        found.sort_unstable();
        found
    }

    /// Starts the broker, on the same port if it ran before.
    pub async fn start_broker(&mut self) {
        let directories = self.log_directories.iter();
        let directories = directories.map(|name| self.directory.path().join(name));
        let directories: Vec<_> = directories.map(|path| path.display().to_string()).collect();
        let overrides = [
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:0",
                self.port
            ),
            format!("log.dirs={}", directories.join(",")),
            "offsets.topic.num.partitions=1".to_owned(),
            format!("auto.create.topics.enable={}", self.auto_create),
            "ottla.http.listen=".to_owned(),
        ];
        let config = ottla_broker::config::load(None, &overrides).unwrap().config;
        let running = ottla_broker::start(config, Clock::start()).await.unwrap();
        self.port = running.addresses[0].1.port();
        self.running = Some(running);
    }

    pub async fn stop_broker(&mut self) {
        self.running.take().unwrap().shut_down().await;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("OTTLA_BOOTSTRAP_SERVERS", self.address());
        command
    }

    /// Runs a command to its end, which may be a failure.
    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed, and returns its stdout.
    pub fn ottla(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn produce(&self, topic: &str, input: &str) {
        let output = self.run(&["produce", topic], input);
        assert!(output.status.success(), "{output:?}");
    }

    pub fn create(&self, topic: &str, partitions: u32) {
        self.ottla(&[
            "topic",
            "create",
            topic,
            "--partitions",
            &partitions.to_string(),
        ]);
    }

    /// Writes an input file for a command.
    #[expect(clippy::disallowed_methods, reason = "the file of a test")]
    pub fn file(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    pub fn spawn(&self, arguments: &[&str]) -> Running {
        self.spawn_to(arguments, Stdio::piped())
    }

    pub fn spawn_to(&self, arguments: &[&str], stdout: Stdio) -> Running {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (watched, over) = mpsc::channel();
        let id = process_id(&child);
        thread::Builder::new()
            .spawn(move || {
                if over.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                    // The kill fails when the process has just ended.
                    let _ = kill_process(id, Signal::KILL);
                }
            })
            .unwrap();
        Running {
            _watched: watched,
            stdout: child.stdout.take().map(BufReader::new),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    /// The number of members of a group, and the sum of the offsets that it has committed.
    pub fn group(&self, group: &str) -> (usize, i64) {
        let described = self.ottla(&["group", "describe", group, "--output", "json"]);
        let described: Value = serde_json::from_str(&described).unwrap();
        let members = described[0]["members"].as_array().unwrap().len();
        let offsets = described[0]["offsets"].as_array().unwrap().iter();
        let committed = offsets.filter_map(|offset| offset["committed"].as_i64());
        (members, committed.sum())
    }
}

/// A command that runs longer than this is killed, so that the test fails instead of waiting for
/// ever.
const LONGEST: Duration = Duration::from_mins(2);

/// A running command; killed when dropped.
pub struct Running {
    child: Child,
    /// Dropping it ends the thread that would kill the command.
    _watched: mpsc::Sender<()>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    /// The next line of its stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        assert_ne!(count, 0, "it ends without another line");
        line.trim_end().to_owned()
    }

    /// Reads its messages up to one that contains `part`.
    pub fn says(&mut self, part: &str) -> String {
        loop {
            let mut line = String::new();
            let count = self.stderr.read_line(&mut line).unwrap();
            assert_ne!(count, 0, "it ends without saying {part:?}");
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn writes(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(process_id(&self.child), signal).unwrap();
    }

    /// Waits for its end; returns the status and the messages since the last read.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

fn process_id(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Repeats the check until it holds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    // Each check runs a command, which takes long enough for a pause.
    assert!((0..1000).any(|_| is_so()), "{what} does not come");
}

impl Drop for Running {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
