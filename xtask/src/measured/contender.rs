//! The brokers that are measured, and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::toolbox::{self, maven, tansu};

/// How many nodes of a cluster are controllers.
const CONTROLLERS: usize = 3;
/// The id of a cluster.
const CLUSTER_ID: &str = "b3R0bGEtYmVuY2gtMDAwMQ";

/// A broker; the order is that of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Contender {
    /// Apache Kafka, in the release that the figures are compared with.
    Kafka,
    /// The broker of this checkout.
    Ottla,
    /// Another broker in Rust, which keeps everything in memory.
    Tansu,
    /// Not a broker: a loop that does the least that a server can do with a produce request.
    BareLoop,
}

/// When a record is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// When it is in the page cache, Kafka's default.
    PageCache,
    /// When it is on stable storage.
    Fsync,
    /// The broker's default: Kafka acknowledges from the page cache, Ottla acknowledges acks=all
    /// from stable storage.
    Default,
}

/// How a broker is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    pub contender: Contender,
    /// When it acknowledges; `None` is the broker's default.
    pub durability: Option<Durability>,
    /// The directory of its data; by default beside its configuration.
    pub data: Option<PathBuf>,
    /// Its limit of open files; by default that of this program.
    pub descriptors: Option<u32>,
    /// How many nodes its cluster has.
    pub nodes: u32,
}

impl Setup {
    /// A broker with this durability.
    pub fn new(contender: Contender, durability: Durability) -> Self {
        Self {
            durability: Some(durability),
            ..Self::plain(contender)
        }
    }

    /// A broker with its own defaults.
    pub fn plain(contender: Contender) -> Self {
        Self {
            contender,
            durability: None,
            data: None,
            descriptors: None,
            nodes: 1,
        }
    }

    /// Writes the configuration of a node, one of those with `all` ports, to this empty directory, and returns
    /// the command that starts it.
    pub fn command(&self, directory: &Path, node: usize, all: &[Ports]) -> Result<Command> {
        let beside = directory.join("data");
        let data = self.data.as_deref().unwrap_or(&beside);
        let config = directory.join("server.properties");
        let keys = self
            .durability
            .map(|durability| self.contender.keys(durability));
        let properties = properties(node, all, data) + keys.unwrap_or_default();
        std::fs::write(&config, properties)?;
        let ports = all[node];
        let command = match self.contender {
            Contender::Kafka => kafka(&config)?,
            Contender::Ottla => ottla(&config),
            Contender::Tansu => tansu(ports)?,
            Contender::BareLoop => bare_loop(ports, data),
        };
        Ok(match self.descriptors {
            Some(descriptors) => limited(&command, descriptors),
            None => command,
        })
    }
}

/// `command` with a hard limit of open files.
fn limited(command: &Command, descriptors: u32) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(command.get_program());
    limited.args(command.get_args());
    limited
}

/// The ports of a broker.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub broker: u16,
    pub controller: u16,
}

impl Contender {
    /// The heading of its column.
    pub fn title(self) -> String {
        match self {
            Self::Kafka => format!("Apache Kafka {}", maven::MEASURED_VERSION),
            Self::Ottla => "Ottla".to_owned(),
            Self::Tansu => format!("Tansu {}, in memory", tansu::TANSU_VERSION),
            Self::BareLoop => "bare loop".to_owned(),
        }
    }

    /// Whether it has this durability on this number of nodes.
    pub fn offers(self, durability: Durability, nodes: u32) -> bool {
        match self {
            Self::Kafka | Self::Ottla => true,
            Self::Tansu | Self::BareLoop => durability == Durability::PageCache && nodes == 1,
        }
    }

    /// The configuration keys for this durability.
    fn keys(self, durability: Durability) -> &'static str {
        match (self, durability) {
            (Self::Ottla, Durability::PageCache) => "ottla.ack.durability=page-cache\n",
            (Self::Ottla, Durability::Fsync) => "ottla.ack.durability=fsync\n",
            (Self::Kafka, Durability::Fsync) => "log.flush.interval.messages=1\n",
            _ => "",
        }
    }
}

/// A program of this workspace that [`crate::toolbox::ottla::release_with_load`] built.
pub fn program(name: &str) -> Command {
    Command::new(toolbox::workspace().join("target/release").join(name))
}

/// The configuration of a node; its id is its index and 1. All are brokers, the first ones controllers too.
fn properties(node: usize, all: &[Ports], data: &Path) -> String {
    let Ports { broker, controller } = all[node];
    let voters: Vec<_> = (1..)
        .zip(all.iter().take(CONTROLLERS))
        .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller))
        .collect();
    let (roles, listener) = if node < CONTROLLERS {
        let listener = format!(",CONTROLLER://127.0.0.1:{controller}");
        ("broker,controller", listener)
    } else {
        ("broker", String::new())
    };
    let replicas = all.len();
    format!(
        "process.roles={roles}\nnode.id={}\n\
         controller.quorum.voters={}\n\
         listeners=PLAINTEXT://127.0.0.1:{broker}{listener}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\noffsets.topic.replication.factor={replicas}\n\
         transaction.state.log.replication.factor={replicas}\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nottla.http.listen=127.0.0.1:0\n\
         ottla.cluster.id={CLUSTER_ID}\n",
        node + 1,
        voters.join(","),
        data.display()
    )
}

fn ottla(config: &Path) -> Command {
    let mut command = program("ottla");
    command.args(["serve", "--config"]).arg(config);
    command
}

/// Apache Kafka with the JVM flags of its own start script.
fn kafka(config: &Path) -> Result<Command> {
    let jars = maven::kafka_jars_of(maven::MEASURED_VERSION)?.join("*");
    let mut format = Command::new("java");
    format.arg("-cp").arg(&jars);
    format.args(["kafka.tools.StorageTool", "format"]);
    format.args(["--cluster-id", CLUSTER_ID]);
    super::output(format.arg("--config").arg(config))?;
    let mut command = Command::new("java");
    command.args([
        "-Xmx1G",
        "-Xms1G",
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
        "-Djava.awt.headless=true",
        "-cp",
    ]);
    command.arg(&jars).arg("kafka.Kafka").arg(config);
    Ok(command)
}

fn tansu(ports: Ports) -> Result<Command> {
    let url = format!("tcp://127.0.0.1:{}", ports.broker);
    let mut command = Command::new(tansu::binary()?);
    command.args(["broker", "--cluster-id", "bench"]);
    command.args(["--listener-url", &url, "--advertised-listener-url", &url]);
    command.args(["--storage-engine", "memory://tansu/"]);
    Ok(command)
}

fn bare_loop(ports: Ports, data: &Path) -> Command {
    let mut command = program("ottla-load");
    command.args(["bare", "--listen", &format!("127.0.0.1:{}", ports.broker)]);
    command.arg("--directory").arg(data);
    command
}
