//! Kafka's tools change the voters of a quorum of Ottla: `kafka-storage` formats four directories, three of them for the
//! first voters, and `kafka-metadata-quorum` adds the fourth controller and removes the first one. Then two of the three
//! voters lose their disks, `ottla controller recover` has the third go on, and the first one becomes a voter again.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};

use super::CLUSTER;
use crate::compat::broker::{self, Broker, Kind};
use crate::compat::program::Claim;
use crate::port;
use crate::time::pause;
use crate::toolbox::maven::PREVIOUS_VERSION;
use crate::toolbox::{self, java, ottla};

/// The directory ids of the first voters.
const DIRECTORIES: [&str; 3] = [
    "b3R0bGEtdm90ZXItMDAwMQ",
    "b3R0bGEtdm90ZXItMDAwMg",
    "b3R0bGEtdm90ZXItMDAwMw",
];
/// The number of nodes.
const NODES: usize = 4;
/// How often a description is looked at before it must be as wanted.
const LOOKS: usize = 30;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(500);

/// A controller, by its ports.
struct Node {
    broker: u16,
    controller: u16,
}

/// The nodes, and the release of Kafka whose tools are used.
struct Quorum {
    version: &'static str,
    directory: PathBuf,
    nodes: Vec<Node>,
}

/// What the tools of this release find.
pub fn claims(version: &'static str) -> Result<Vec<Claim>> {
    let quorum = Quorum::set_out(version)?;
    let mut claims = Vec::new();
    if let Err(error) = quorum.judge(&mut claims) {
        claims.push(Claim::failed("comes_to_its_end", format!("{error:#}")));
    }
    if claims.iter().all(|claim| claim.failure.is_none()) {
        fs::remove_dir_all(&quorum.directory)?;
    }
    let stage = format!("{version}-voters");
    Ok(claims
        .into_iter()
        .map(|claim| claim.of_stage(&stage))
        .collect())
}

impl Quorum {
    fn set_out(version: &'static str) -> Result<Self> {
        let run = format!("target/mixed/{version}-voters-{}", std::process::id());
        let directory = toolbox::workspace().join(run);
        fs::create_dir_all(&directory)?;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let (broker, controller) = (port::free()?, port::free()?);
            nodes.push(Node { broker, controller });
        }
        let quorum = Self {
            version,
            directory,
            nodes,
        };
        let template = toolbox::workspace().join("tests/mixed/voter.properties");
        let template = fs::read_to_string(template)?;
        for (index, node) in quorum.nodes.iter().enumerate() {
            let data = quorum.data(index + 1);
            let text = template
                .replace("{node}", &(index + 1).to_string())
                .replace("{controllers}", &quorum.controllers())
                .replace("{broker.port}", &node.broker.to_string())
                .replace("{controller.port}", &node.controller.to_string())
                .replace("{data}", &data.display().to_string());
            fs::write(quorum.properties(index + 1), text)?;
        }
        Ok(quorum)
    }

    fn controllers(&self) -> String {
        let nodes = self.nodes.iter();
        let addresses = nodes.map(|node| format!("127.0.0.1:{}", node.controller));
        addresses.collect::<Vec<_>>().join(",")
    }

    fn properties(&self, node: usize) -> PathBuf {
        self.directory.join(format!("{node}.properties"))
    }

    fn judge(&self, claims: &mut Vec<Claim>) -> Result<()> {
        self.format()?;
        let mut running = Vec::new();
        for node in 1..=3 {
            running.push(self.start(node)?);
        }
        let removal = ["remove-controller", "--controller-id", "1"];
        let removal = [&removal[..], &["--controller-directory-id", DIRECTORIES[0]]].concat();
        let addition = ["add-controller"];
        running.push(self.start(4)?);
        self.until(&["describe", "--replication"], |text| observes(text, "4"))?;
        claims.push(Claim::passed("observes_until_it_has_caught_up"));
        claims.push(succeeded("adds", &self.quorum_tool(4, &addition)?));
        self.until(&["describe", "--status"], |text| {
            has_voters(text, &[1, 2, 3, 4])
        })?;
        claims.push(Claim::passed("describes_four_voters"));
        let again = self.quorum_tool(4, &addition)?;
        claims.push(refused("refuses_a_voter", &again, "already"));
        claims.push(succeeded("removes", &self.quorum_tool(2, &removal)?));
        self.until(&["describe", "--status"], |text| {
            has_voters(text, &[2, 3, 4])
        })?;
        claims.push(Claim::passed("describes_three_voters"));
        let again = self.quorum_tool(2, &removal)?;
        claims.push(refused(
            "refuses_one_that_is_no_voter",
            &again,
            "not among the voters",
        ));
        self.until(&["describe", "--replication"], |text| {
            text.lines()
                .any(|line| line.starts_with('1') && line.contains("Observer"))
        })?;
        claims.push(Claim::passed("the_removed_one_observes"));
        // A drop kills, the first one first. It must not hear of what the third and the fourth commit without the second.
        drop(running);
        self.recover(claims)
    }

    /// The second node goes on without its majority, and the first one becomes a voter again.
    fn recover(&self, claims: &mut Vec<Claim>) -> Result<()> {
        for lost in [3, 4] {
            fs::remove_dir_all(self.data(lost))?;
        }
        let mut command = std::process::Command::new(ottla::binary()?);
        command
            .args(["controller", "recover", "--execute"])
            .arg(self.data(2));
        claims.push(succeeded("recovers_alone", &command.output()?));
        let running = [self.start(2)?, self.start(1)?];
        self.until(&["describe", "--status"], |text| has_voters(text, &[2]))?;
        self.until(&["describe", "--replication"], |text| observes(text, "1"))?;
        claims.push(succeeded(
            "adds_after_a_recovery",
            &self.quorum_tool(1, &["add-controller"])?,
        ));
        self.until(&["describe", "--status"], |text| has_voters(text, &[1, 2]))?;
        claims.push(Claim::passed("grows_after_a_recovery"));
        for node in running {
            claims.push(node.stop()?.claim());
        }
        Ok(())
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.join(format!("data-{node}"))
    }

    fn format(&self) -> Result<()> {
        let voters = self.nodes.iter().zip(DIRECTORIES).enumerate();
        let voters: Vec<String> = voters
            .map(|(index, (node, id))| format!("{}@127.0.0.1:{}:{id}", index + 1, node.controller))
            .collect();
        for node in 1..=NODES {
            let mut command = java::kafka_of(PREVIOUS_VERSION)?;
            command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER]);
            command.arg("--config").arg(self.properties(node));
            // The highest levels that Ottla serves.
            command.args([
                "--feature",
                "group.version=0",
                "--feature",
                "transaction.version=0",
            ]);
            command.args([
                "--feature",
                "share.version=0",
                "--feature",
                "streams.version=0",
            ]);
            command.args(["--release-version", "4.3"]);
            if node <= DIRECTORIES.len() {
                command.args(["--initial-controllers", &voters.join(",")]);
            } else {
                command.arg("--no-initial-controllers");
            }
            let output = command.output()?;
            let why = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "kafka-storage failed:\n{why}");
        }
        Ok(())
    }

    fn start(&self, node: usize) -> Result<Broker> {
        let command = broker::serve(&self.properties(node))?;
        let log = self.directory.join(format!("{node}.log"));
        let port = self.nodes.get(node - 1).context("it is a node")?.broker;
        // The first of three waits for a second one, so it cannot be waited for.
        Broker::launch_without_waiting(Kind::Ottla, command, port, &log)
    }

    /// Runs `kafka-metadata-quorum` at the controllers, with the configuration of `node`.
    fn quorum_tool(&self, node: usize, arguments: &[&str]) -> Result<Output> {
        let mut command = java::kafka_of(self.version)?;
        command.arg("org.apache.kafka.tools.MetadataQuorumCommand");
        command.args(["--bootstrap-controller", &self.controllers()]);
        command.arg("--command-config").arg(self.properties(node));
        Ok(command.args(arguments).output()?)
    }

    /// Waits until the tool describes what is wanted.
    fn until(&self, arguments: &[&str], is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut last = String::new();
        for _ in 0..LOOKS {
            let output = self.quorum_tool(2, arguments)?;
            last = told(&output);
            if output.status.success() && is_wanted(&last) {
                return Ok(());
            }
            pause(BETWEEN_LOOKS);
        }
        bail!("{arguments:?} still tells:\n{last}")
    }
}

/// Whether the description of the quorum's status names just these voters.
fn has_voters(text: &str, ids: &[i32]) -> bool {
    let line = text.lines().find(|line| line.starts_with("CurrentVoters:"));
    let count = line.map_or(0, |line| line.matches("\"id\"").count());
    let names = |id: &i32| line.is_some_and(|line| line.contains(&format!("\"id\": {id},")));
    count == ids.len() && ids.iter().all(names)
}

/// Whether the description of the replication has this node as an observer that lacks nothing.
fn observes(text: &str, node: &str) -> bool {
    let mut lines = text.lines().map(|line| line.split_whitespace());
    lines.any(|line| {
        let cells: Vec<&str> = line.collect();
        let (id, lag, status) = (cells.first(), cells.get(3), cells.last());
        (id, lag, status) == (Some(&node), Some(&"0"), Some(&"Observer"))
    })
}

fn told(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn succeeded(name: &str, output: &Output) -> Claim {
    if output.status.success() {
        Claim::passed(name)
    } else {
        Claim::failed(name, told(output))
    }
}

/// The tool fails, and says this.
fn refused(name: &str, output: &Output, part: &str) -> Claim {
    let text = told(output);
    if !output.status.success() && text.contains(part) {
        Claim::passed(name)
    } else {
        Claim::failed(name, text)
    }
}
