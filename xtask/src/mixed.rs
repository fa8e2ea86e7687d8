//! `cargo xtask mixed`: clusters of brokers of Apache Kafka and of Ottla, with a controller of either.
//!
//! The broker of Kafka joins a node of Ottla, gets replicas and leaderships, forwards admin requests, stops, returns, is
//! killed, and returns. Then the controller restarts under it. After each step stock clients must find all acknowledged
//! records, in order, at both brokers. Kafka's tools also change the voters of a quorum of Ottla
//! (`mixed/voters.rs`). Kafka must log no error and no warning, but for what it logs when its
//! controller is away. In a second cluster a broker of Ottla joins a node of Kafka.

mod voters;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::adopt::driver::Driver;
use crate::compat::broker::{self, Broker, Kind};
use crate::compat::program::Claim;
use crate::port;
use crate::toolbox::maven::{KAFKA_VERSION, PREVIOUS_VERSION};
use crate::toolbox::{self, java};

/// The releases of Kafka that join.
const VERSIONS: &[&str] = &[PREVIOUS_VERSION, KAFKA_VERSION];

/// Parts of warnings that Kafka also logs when nothing is wrong, each with its reason.
const HARMLESS: &[(&str, &str)] = &[
    (
        "to exist, but it was missing. Creating...",
        "partitions were added to a topic",
    ),
    (
        "marked as failed",
        "it fetched from a leader that knew the next leader first",
    ),
];

/// Parts of warnings that Kafka logs while a node that it talks to is away.
const AWAY: &[&str] = &[
    "Connection to node",
    "disconnected",
    "Error in response for fetch request",
];

/// Parts of warnings of a controller of Kafka that starts, and that a broker of Ottla joins twice.
const OF_CONTROLLER: &[&str] = &[
    "Performing controller activation",
    // A broker of Ottla keeps no copy of the metadata log: each start fetches it anew.
    "non-monotonic update of fetch offset",
];

/// A fixed cluster id.
const CLUSTER: &str = "b3R0bGEtbWl4ZWQtMDAwMQ";

/// Features that a new cluster of Kafka finalizes at a higher level than Ottla serves.
const UNSERVED: &[&str] = &[
    "group.version=0",
    "transaction.version=0",
    "share.version=0",
    "streams.version=0",
];

/// A failed check shows at most this many lines.
const SHOWN: usize = 5;

/// Options of `cargo xtask mixed`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Only this release of Kafka [default: all].
    #[arg(long)]
    version: Option<String>,
    /// Only the changes of voters.
    #[arg(long)]
    voters: bool,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let wanted = args.version.as_deref();
    let chosen = VERSIONS
        .iter()
        .filter(|version| wanted.is_none_or(|wanted| wanted == **version));
    let mut claims = Vec::new();
    for version in chosen {
        let controllers = [Kind::Ottla, Kind::Kafka].into_iter();
        for controller in controllers.filter(|_| !args.voters) {
            let mut cluster = Cluster::set_out(version, controller)?;
            let ran = match controller {
                Kind::Ottla => cluster.under_ottla(),
                Kind::Kafka => cluster.under_kafka(),
            };
            let stage = format!("{version}-under-{controller:?}");
            let told = cluster.claims.drain(..);
            claims.extend(told.map(|claim| claim.of_stage(&stage)));
            if let Err(error) = ran {
                let why = format!("{error:#}");
                claims.push(Claim::failed("comes_to_its_end", why).of_stage(&stage));
            }
            cluster.end(&claims)?;
        }
        claims.extend(voters::claims(version)?);
    }
    ensure!(!claims.is_empty(), "no release is named {wanted:?}");
    let failed: Vec<String> = claims
        .iter()
        .filter_map(|claim| Some(format!("{}: {}", claim.name, claim.failure.as_ref()?)))
        .collect();
    if !failed.is_empty() {
        bail!("{} checks failed:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(format!(
        "{} checks of brokers of Apache Kafka and Ottla in one cluster passed",
        claims.len()
    ))
}

/// Both brokers, and the client.
struct Cluster {
    version: &'static str,
    directory: PathBuf,
    ottla_port: u16,
    kafka_port: u16,
    ottla: Option<Broker>,
    kafka: Option<Broker>,
    driver: Driver,
    claims: Vec<Claim>,
}

impl Cluster {
    fn set_out(version: &'static str, controllers: Kind) -> Result<Self> {
        let run = format!(
            "target/mixed/{version}-{controllers:?}-{}",
            std::process::id()
        );
        let directory = toolbox::workspace().join(run);
        fs::create_dir_all(&directory)?;
        let (ottla_port, kafka_port, controller) = (port::free()?, port::free()?, port::free()?);
        let (templates, joiner) = match controllers {
            Kind::Ottla => ([("ottla", "ottla"), ("kafka", "kafka")], "2"),
            Kind::Kafka => (
                [("ottla", "ottla-broker"), ("kafka", "kafka-controller")],
                "1",
            ),
        };
        for (name, template) in templates {
            let template = format!("tests/mixed/{template}.properties");
            let text = fs::read_to_string(toolbox::workspace().join(template))?
                .replace("{ottla.port}", &ottla_port.to_string())
                .replace("{kafka.port}", &kafka_port.to_string())
                .replace("{controller.port}", &controller.to_string())
                .replace("{data}", &directory.join(name).display().to_string());
            fs::write(directory.join(format!("{name}.properties")), text)?;
        }
        let mut client = java::mixed(version)?;
        let ports = [ottla_port, kafka_port, controller];
        client
            .args(ports.map(|port| format!("127.0.0.1:{port}")))
            .arg(joiner);
        Ok(Self {
            version,
            driver: Driver::start(client, &directory)?,
            directory,
            ottla_port,
            kafka_port,
            ottla: None,
            kafka: None,
            claims: Vec::new(),
        })
    }

    /// A broker of Ottla joins a node of Kafka, whose cluster has finalized no feature that Ottla does not serve.
    fn under_kafka(&mut self) -> Result<()> {
        let mut arguments = vec!["--standalone"];
        for feature in UNSERVED {
            arguments.extend(["--feature", feature]);
        }
        self.format_kafka(CLUSTER, &arguments)?;
        self.start_kafka("1-joined")?;
        self.start_ottla("1-joined")?;
        for command in ["joined", "forward"] {
            self.tell("1-joined", command)?;
        }
        let stopped = self.ottla.take().context("the broker runs")?.stop()?;
        self.add("1-joined", stopped.claim());
        self.start_ottla("2-returned")?;
        self.tell("2-returned", "returned")?;
        let stopped = self.ottla.take().context("the broker runs")?.stop()?;
        self.add("2-returned", stopped.claim());
        let known: Vec<&str> = AWAY.iter().chain(OF_CONTROLLER).copied().collect();
        self.expect_quiet("1-joined", &known)
    }

    fn under_ottla(&mut self) -> Result<()> {
        self.start_ottla("1-joined")?;
        let properties = fs::read_to_string(self.directory.join("ottla/meta.properties"))?;
        let mut lines = properties.lines();
        let cluster = lines.find_map(|line| line.strip_prefix("cluster.id="));
        self.format_kafka(
            cluster.context("a formatted directory has a cluster id")?,
            &[],
        )?;
        self.start_kafka("1-joined")?;
        for command in ["joined", "forward", "controller"] {
            self.tell("1-joined", command)?;
        }
        let stopped = self.kafka.take().context("the broker runs")?.stop()?;
        self.add("1-joined", stopped.claim());
        self.expect_quiet("1-joined", &[])?;
        self.tell("2-stopped", "ottla-alone")?;
        self.start_kafka("3-returned")?;
        self.tell("3-returned", "returned")?;
        // A drop kills.
        drop(self.kafka.take());
        self.expect_quiet("3-returned", &[])?;
        self.tell("4-killed", "ottla-alone")?;
        self.start_kafka("5-returned")?;
        self.tell("5-returned", "returned")?;
        let stopped = self.ottla.take().context("the broker runs")?.stop()?;
        self.add("5-returned", stopped.claim());
        self.start_ottla("6-controller-returned")?;
        self.tell("6-controller-returned", "returned")?;
        let stopped = self.kafka.take().context("the broker runs")?.stop()?;
        self.add("6-controller-returned", stopped.claim());
        self.expect_quiet("5-returned", AWAY)?;
        self.tell("7-unregistered", "ottla-alone")?;
        self.tell("7-unregistered", "unregister")
    }

    fn log(&self, name: &str, stage: &str) -> PathBuf {
        self.directory.join(format!("{name}-{stage}.log"))
    }

    fn start_ottla(&mut self, stage: &str) -> Result<()> {
        let command = broker::serve(&self.directory.join("ottla.properties"))?;
        let log = self.log("ottla", stage);
        self.ottla = Some(Broker::launch(Kind::Ottla, command, self.ottla_port, &log)?);
        Ok(())
    }

    fn start_kafka(&mut self, stage: &str) -> Result<()> {
        let mut command = java::kafka_of(self.version)?;
        command.arg("kafka.Kafka");
        command.arg(self.directory.join("kafka.properties"));
        let log = self.log("kafka", stage);
        self.kafka = Some(Broker::launch(Kind::Kafka, command, self.kafka_port, &log)?);
        Ok(())
    }

    fn format_kafka(&self, cluster: &str, arguments: &[&str]) -> Result<()> {
        let output = java::kafka_of(self.version)?
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", cluster])
            .arg("--config")
            .arg(self.directory.join("kafka.properties"))
            .args(arguments)
            .output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kafka-storage failed:\n{why}");
        Ok(())
    }

    fn tell(&mut self, stage: &str, command: &str) -> Result<()> {
        self.driver.tell(stage, command, &mut self.claims)
    }

    fn add(&mut self, stage: &str, claim: Claim) {
        self.claims.push(claim.of_stage(stage));
    }

    /// Kafka has logged nothing but lines with these parts.
    fn expect_quiet(&mut self, stage: &str, known: &[&str]) -> Result<()> {
        let complaints = complaints(&self.log("kafka", stage), known)?;
        let claim = match complaints {
            None => Claim::passed("kafka_logs_no_warning"),
            Some(lines) => Claim::failed("kafka_logs_no_warning", lines),
        };
        self.add(stage, claim);
        Ok(())
    }

    /// Stops everything, and removes the files, unless a check has failed.
    fn end(self, claims: &[Claim]) -> Result<()> {
        let directory = self.directory.clone();
        drop(self);
        if claims.iter().all(|claim| claim.failure.is_none()) {
            fs::remove_dir_all(directory)?;
        }
        Ok(())
    }
}

/// The warnings and errors in a log of Kafka, but for known ones.
fn complaints(log: &Path, known: &[&str]) -> Result<Option<String>> {
    let text = fs::read_to_string(log)?;
    let harmless = HARMLESS.iter().map(|(part, _)| *part);
    let known: Vec<&str> = known.iter().copied().chain(harmless).collect();
    let is_complaint = |line: &&str| {
        let says_so = ["WARN ", "ERROR ", "FATAL ", "Exception"];
        says_so.iter().any(|word| line.contains(word))
            && !known.iter().any(|part| line.contains(part))
    };
    let lines: Vec<&str> = text.lines().filter(is_complaint).collect();
    let shown = &lines[..lines.len().min(SHOWN)];
    Ok((!lines.is_empty()).then(|| format!("{} lines: {}", lines.len(), shown.join(" / "))))
}
