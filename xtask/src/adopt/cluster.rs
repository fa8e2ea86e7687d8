//! `cargo xtask adopt-cluster`: the directories of three nodes go from Apache Kafka to Ottla, back to Kafka, and to Ottla
//! again.
//!
//! There is one journey for each release of Kafka, with the voters in the log, and one with the voters in the configuration.
//! Kafka's console tools write and read: everything that was ever written must be read back on each stage, and a group must
//! go on where it was. On each stage of Ottla one node is killed, the others go on, and it returns.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::compat::broker::{self, Broker, Kind};
use crate::port;
use crate::toolbox::maven::{KAFKA_VERSION, PREVIOUS_VERSION};
use crate::toolbox::{self, java};

/// A fixed cluster id, and the directory ids of the voters.
const CLUSTER: &str = "b3R0bGEtYWRvcHQtMDAwMw";
const DIRECTORIES: [&str; 3] = [
    "b3R0bGEtdm90ZXItMDAwMQ",
    "b3R0bGEtdm90ZXItMDAwMg",
    "b3R0bGEtdm90ZXItMDAwMw",
];
const TOPIC: &str = "journey";
/// Records of one batch of the journey.
const RECORDS: usize = 300;

/// Options of `cargo xtask adopt-cluster`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this journey: 4.3, 4.3-static or 4.4 [default: all].
    #[arg(long = "journey")]
    journey: Option<String>,

    /// Kill all nodes with -9 at the end of each stage instead of stopping them.
    #[arg(long)]
    kill: bool,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let all = [
        ("4.3", PREVIOUS_VERSION, false),
        ("4.3-static", PREVIOUS_VERSION, true),
        ("4.4", KAFKA_VERSION, false),
    ];
    let mut done = Vec::new();
    for (name, version, is_static) in all {
        if args.journey.as_deref().is_none_or(|only| only == name) {
            let mut journey = Journey::set_out(name, version, is_static)?;
            journey.kills = args.kill;
            journey.run().with_context(|| format!("journey {name}"))?;
            done.push(name);
        }
    }
    ensure!(!done.is_empty(), "there is no such journey");
    Ok(format!("three nodes there and back: {}", done.join(", ")))
}

struct Journey {
    version: &'static str,
    is_static: bool,
    kills: bool,
    directory: PathBuf,
    /// The port of the broker and of the controller of each node.
    ports: Vec<(u16, u16)>,
    written: BTreeSet<String>,
    /// What the group has not read yet.
    unread: BTreeSet<String>,
}

impl Journey {
    fn set_out(name: &str, version: &'static str, is_static: bool) -> Result<Self> {
        let run = format!("target/adopt/cluster-{name}-{}", std::process::id());
        let directory = toolbox::workspace().join(run);
        fs::create_dir_all(&directory)?;
        let mut ports = Vec::new();
        for _ in DIRECTORIES {
            ports.push((port::free()?, port::free()?));
        }
        let journey = Self {
            version,
            is_static,
            kills: false,
            directory,
            ports,
            written: BTreeSet::new(),
            unread: BTreeSet::new(),
        };
        journey.write_properties()?;
        Ok(journey)
    }

    fn write_properties(&self) -> Result<()> {
        let template = toolbox::workspace().join("tests/adopt/node.properties");
        let template = fs::read_to_string(template)?;
        let named = |with_ids: bool| {
            let named = self.ports.iter().enumerate().map(|(index, (_, port))| {
                let id = if with_ids {
                    format!("{}@", index + 1)
                } else {
                    String::new()
                };
                format!("{id}127.0.0.1:{port}")
            });
            named.collect::<Vec<_>>().join(",")
        };
        let quorum = if self.is_static {
            format!("controller.quorum.voters={}", named(true))
        } else {
            format!("controller.quorum.bootstrap.servers={}", named(false))
        };
        for (index, (broker, controller)) in self.ports.iter().enumerate() {
            let text = template
                .replace("{node}", &(index + 1).to_string())
                .replace("{quorum}", &quorum)
                .replace("{broker.port}", &broker.to_string())
                .replace("{controller.port}", &controller.to_string())
                .replace("{data}", &self.data(index).display().to_string());
            fs::write(self.properties(index), text)?;
        }
        Ok(())
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.join(format!("data-{}", node + 1))
    }

    fn properties(&self, node: usize) -> PathBuf {
        self.directory.join(format!("{}.properties", node + 1))
    }

    fn bootstrap(&self) -> String {
        let addresses = self
            .ports
            .iter()
            .map(|(port, _)| format!("127.0.0.1:{port}"));
        addresses.collect::<Vec<_>>().join(",")
    }

    fn run(&mut self) -> Result<()> {
        self.format()?;
        let stages = [Kind::Kafka, Kind::Ottla, Kind::Kafka, Kind::Ottla];
        for (number, kind) in stages.into_iter().enumerate() {
            let stage = format!("{}-{kind:?}", number + 1).to_lowercase();
            self.stay(&stage, kind, number > 0)
                .with_context(|| stage.clone())?;
        }
        fs::remove_dir_all(&self.directory)?;
        Ok(())
    }

    fn format(&self) -> Result<()> {
        let voters = self.ports.iter().zip(DIRECTORIES).enumerate();
        let voters: Vec<String> = voters
            .map(|(index, ((_, port), id))| format!("{}@127.0.0.1:{port}:{id}", index + 1))
            .collect();
        for node in 0..self.ports.len() {
            let mut command = java::kafka_of(self.version)?;
            command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER]);
            command.arg("--config").arg(self.properties(node));
            if !self.is_static {
                command.args(["--initial-controllers", &voters.join(",")]);
            }
            let output = command.output()?;
            let why = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "kafka-storage failed:\n{why}");
        }
        Ok(())
    }

    /// The nodes start, the tools write and read, and the nodes stop.
    fn stay(&mut self, stage: &str, kind: Kind, is_later: bool) -> Result<()> {
        let mut nodes = Vec::new();
        for node in 0..self.ports.len() {
            nodes.push(self.start(stage, kind, node)?);
        }
        for node in &mut nodes {
            node.wait_until_ready()?;
        }
        if is_later {
            self.read_all(stage)?;
        } else {
            self.create()?;
        }
        self.write(stage, "first")?;
        self.read_in_group()?;
        if kind == Kind::Ottla {
            drop(nodes.remove(0));
            self.write(stage, "second")?;
            let mut returned = self.start(&format!("{stage}-again"), kind, 0)?;
            returned.wait_until_ready()?;
            nodes.insert(0, returned);
        }
        self.write(stage, "third")?;
        self.read_all(stage)?;
        if self.kills {
            drop(nodes);
        } else {
            stop(nodes, kind)?;
        }
        Ok(())
    }

    fn log(&self, stage: &str, node: usize) -> PathBuf {
        self.directory.join(format!("{stage}-{}.log", node + 1))
    }

    fn start(&self, stage: &str, kind: Kind, node: usize) -> Result<Broker> {
        let config = self.properties(node);
        let command = match kind {
            Kind::Ottla => broker::serve(&config)?,
            Kind::Kafka => {
                let mut command = java::kafka_of(self.version)?;
                command.arg("kafka.Kafka").arg(&config);
                command
            }
        };
        let (port, _) = self.ports.get(node).context("a node has ports")?;
        Broker::launch_without_waiting(kind, command, *port, &self.log(stage, node))
    }

    fn tool(&self, class: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = java::kafka_of(self.version)?;
        command.arg(class).args(arguments);
        command.args(["--bootstrap-server", &self.bootstrap()]);
        Ok(command)
    }

    fn create(&self) -> Result<()> {
        let arguments = ["--create", "--topic", TOPIC, "--partitions", "6"];
        let mut command = self.tool("org.apache.kafka.tools.TopicCommand", &arguments)?;
        let output = command.args(["--replication-factor", "3"]).output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kafka-topics failed:\n{why}");
        Ok(())
    }

    fn write(&mut self, stage: &str, part: &str) -> Result<()> {
        let arguments = ["--topic", TOPIC, "--command-property", "acks=all"];
        let mut command = self.tool("org.apache.kafka.tools.ConsoleProducer", &arguments)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let records: BTreeSet<String> = (0..RECORDS)
            .map(|number| format!("{stage}-{part}-{number}"))
            .collect();
        let mut input = child.stdin.take().context("the input is piped")?;
        for record in &records {
            writeln!(input, "{record}")?;
        }
        drop(input);
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let is_refused = errors.contains("ERROR");
        ensure!(
            output.status.success() && !is_refused,
            "cannot write {part}:\n{errors}"
        );
        self.unread.extend(records.iter().cloned());
        self.written.extend(records);
        Ok(())
    }

    fn read(&self, wanted: usize, arguments: &[&str]) -> Result<BTreeSet<String>> {
        let wanted = wanted.to_string();
        let limits = [
            "--topic",
            TOPIC,
            "--timeout-ms",
            "40000",
            "--max-messages",
            &wanted,
        ];
        let arguments = [&limits, arguments].concat();
        let mut command = self.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            &arguments,
        )?;
        let output = command.output()?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        let read: BTreeSet<String> = lines.iter().cloned().collect();
        ensure!(read.len() == lines.len(), "records were read twice");
        Ok(read)
    }

    fn read_all(&self, stage: &str) -> Result<()> {
        let read = self.read(self.written.len(), &["--from-beginning"])?;
        let missing = self.written.difference(&read).count();
        ensure!(
            missing == 0,
            "{stage}: {missing} of {} records are missing",
            self.written.len()
        );
        Ok(())
    }

    /// The group reads what it has not read, and nothing else.
    fn read_in_group(&mut self) -> Result<()> {
        let earliest = [
            "--group",
            "readers",
            "--command-property",
            "auto.offset.reset=earliest",
        ];
        let read = self.read(self.unread.len(), &earliest)?;
        ensure!(
            read == self.unread,
            "the group read {} records, of which {} are new; {} were to be read",
            read.len(),
            read.intersection(&self.unread).count(),
            self.unread.len()
        );
        self.unread.clear();
        Ok(())
    }
}

/// Stops all nodes at once: without a majority, a node of Kafka waits for one, and is killed after a while.
fn stop(nodes: Vec<Broker>, kind: Kind) -> Result<()> {
    let stopped = std::thread::scope(|scope| {
        let stops = nodes.into_iter().map(|node| scope.spawn(|| node.stop()));
        let stops: Vec<_> = stops.collect();
        let joined = stops.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.collect::<Vec<_>>()
    });
    for (number, stopped) in stopped.into_iter().enumerate() {
        let Ok(stopped) = stopped else {
            bail!("the thread that stops node {} has ended", number + 1);
        };
        if let Some(why) = stopped?.claim().failure
            && kind == Kind::Ottla
        {
            bail!("node {}: {why}", number + 1);
        }
    }
    Ok(())
}
