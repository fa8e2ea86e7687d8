//! The journey of one directory. Kafka fills it. Ottla refuses it while it has live groups or
//! transactions, and takes it over afterwards. Then Kafka takes it back, and Ottla takes it over
//! again.
//!
//! The ports and the configuration stay the same, so that a client that keeps running finds each
//! broker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::complaints::complaints;
use super::driver::Driver;
use crate::compat::broker::{self, Broker, Kind};
use crate::compat::program::Claim;
use crate::port;
use crate::toolbox::maven::KAFKA_VERSION;
use crate::toolbox::{self, java};

/// A directory, and the release of Kafka that it meets.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Its name on the command line.
    pub minor: &'static str,
    /// The Kafka that is fetched.
    pub version: &'static str,
    /// Whether the directory has share groups enabled.
    pub has_share_groups: bool,
    /// What happened to the directory before Ottla.
    pub origin: Origin,
}

/// What happened to a directory before Ottla.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    /// Kafka formats and fills it.
    Filled(Voters),
    /// Kafka [`KAFKA_VERSION`] formats it for this release, and never starts on it.
    Unstarted(&'static str, Voters),
    /// Kafka formatted it, and an earlier release of Ottla ran on it without writing the cluster's
    /// first records.
    WithoutFirstRecords,
    /// Ottla formats it: none of the newer features is finalised.
    Ottla,
}

/// Where the voters of the metadata quorum are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voters {
    /// In the log.
    Dynamic,
    /// In the configuration.
    Static,
}

impl Origin {
    const fn voters(self) -> Voters {
        match self {
            Self::Filled(voters) | Self::Unstarted(_, voters) => voters,
            Self::WithoutFirstRecords | Self::Ottla => Voters::Dynamic,
        }
    }
}

/// How each broker is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By SIGTERM.
    Stopped,
    /// By SIGKILL; the next broker must recover.
    Killed,
}

/// A fixed cluster id.
const CLUSTER: &str = "b3R0bGEtYWRvcHQtMDAwMQ";

/// Configuration for Kafka only: Ottla refuses an authorizer, and must keep the ACLs that it wrote.
const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                          super.users=User:ANONYMOUS\n";

/// From Kafka to Ottla and back, and to Ottla again. Each check is a claim.
pub fn from_kafka(release: &Release, ending: Ending) -> Result<Vec<Claim>> {
    let mut journey = Journey::set_out(release, ending)?;
    journey.format(release.version, None)?;
    // Only Kafka runs here, so its clients' errors do not concern Ottla.
    journey.stay("1-kafka", Kind::Kafka, &["fill", "live"])?;
    journey.refuse(release);
    journey.stay("2-kafka", Kind::Kafka, &["release", "steady", "remember"])?;
    journey.stay(
        "3-ottla",
        Kind::Ottla,
        &["compare", "carry", "steady", "remember"],
    )?;
    journey.expect_snapshot("3-ottla")?;
    journey.stay(
        "4-kafka",
        Kind::Kafka,
        &["compare", "alter", "steady", "remember"],
    )?;
    journey.expect_snapshot("4-kafka")?;
    let snapshots = format!("snapshots {}", journey.metadata().display());
    journey.tell("4-kafka", &snapshots)?;
    journey.stay("5-ottla", Kind::Ottla, &["compare", "arrived", "steady"])?;
    journey.end()
}

/// From Ottla to Kafka and back, where no Kafka has filled the directory.
pub fn from_ottla(release: &Release, ending: Ending) -> Result<Vec<Claim>> {
    let mut journey = Journey::set_out(release, ending)?;
    match release.origin {
        Origin::Unstarted(level, _) => journey.format(KAFKA_VERSION, Some(level))?,
        Origin::WithoutFirstRecords => {
            let fixture = "crates/broker/tests/fixtures/without-first-records";
            let directory = journey.directory.join("data/a");
            copy(&toolbox::workspace().join(fixture), &directory)?;
        }
        Origin::Filled(_) | Origin::Ottla => {}
    }
    journey.stay("1-ottla", Kind::Ottla, &["begin", "steady", "remember"])?;
    journey.stay(
        "2-kafka",
        Kind::Kafka,
        &["compare", "return", "steady", "remember"],
    )?;
    journey.expect_snapshot("2-kafka")?;
    journey.stay("3-ottla", Kind::Ottla, &["compare", "arrived", "steady"])?;
    journey.end()
}

struct Journey {
    release: Release,
    ending: Ending,
    directory: PathBuf,
    port: u16,
    driver: Driver,
    /// The epoch of the metadata log after the last stay.
    epoch: i64,
    /// Whether Ottla has run on the directory.
    ottla_has_run: bool,
    claims: Vec<Claim>,
}

impl Journey {
    fn set_out(release: &Release, ending: Ending) -> Result<Self> {
        let port = port::free()?;
        let name = format!("target/adopt/{}-{}", release.minor, std::process::id());
        let directory = toolbox::workspace().join(name);
        fs::create_dir_all(&directory)?;
        let template = toolbox::workspace().join("tests/adopt/server.properties");
        let mut template = fs::read_to_string(template)?;
        if release.origin.voters() == Voters::Static {
            template = template.replace(
                "controller.quorum.bootstrap.servers=",
                "controller.quorum.voters=1@",
            );
        }
        let text = broker::filled(&template, port, &directory.join("data"))?;
        fs::write(directory.join("server.properties"), &text)?;
        fs::write(directory.join("kafka.properties"), text + AUTHORIZER)?;
        let mut client = java::adopt(release.version)?;
        client.arg("Adopt").arg(format!("127.0.0.1:{port}"));
        let driver = Driver::start(client, &directory)?;
        Ok(Self {
            release: *release,
            ending,
            directory,
            port,
            driver,
            epoch: 0,
            ottla_has_run: false,
            claims: Vec::new(),
        })
    }

    /// Formats the directory with `kafka-storage` of this release, at the level of another release
    /// if one is given.
    fn format(&mut self, version: &str, level: Option<&str>) -> Result<()> {
        let mut command = java::kafka_of(version)?;
        command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER]);
        command.arg("--config").arg(self.config(Kind::Kafka));
        if self.release.origin.voters() == Voters::Dynamic {
            command.arg("--standalone");
        }
        if let Some(level) = level {
            command.args(["--release-version", level]);
        }
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "kafka-storage {version} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn config(&self, kind: Kind) -> PathBuf {
        self.directory.join(match kind {
            Kind::Kafka => "kafka.properties",
            Kind::Ottla => "server.properties",
        })
    }

    fn metadata(&self) -> PathBuf {
        self.directory.join("data/a/__cluster_metadata-0")
    }

    fn tell(&mut self, stage: &str, command: &str) -> Result<()> {
        self.driver.tell(stage, command, &mut self.claims)
    }

    fn claim(&mut self, stage: &str, name: &str, failure: Option<String>) {
        self.claims.push(Claim {
            name: format!("{stage}/{name}"),
            failure,
        });
    }

    /// Starts a broker on the directory.
    fn start(&self, stage: &str, kind: Kind) -> Result<Broker> {
        let config = self.config(kind);
        let command = match kind {
            Kind::Ottla => broker::serve(&config)?,
            Kind::Kafka => {
                let mut command = java::kafka_of(self.release.version)?;
                command.arg("kafka.Kafka").arg(&config);
                command
            }
        };
        Broker::launch(kind, command, self.port, &self.log(stage)).with_context(|| stage.to_owned())
    }

    fn log(&self, stage: &str) -> PathBuf {
        self.directory.join(format!("{stage}.log"))
    }

    /// A broker starts on the directory, the client does `commands`, and the broker stops.
    fn stay(&mut self, stage: &str, kind: Kind, commands: &[&str]) -> Result<()> {
        let broker = self.start(stage, kind)?;
        self.tell(stage, &format!("arrive {kind:?}"))?;
        for command in commands {
            self.tell(stage, command)?;
        }
        match self.ending {
            Ending::Killed => drop(broker),
            Ending::Stopped => {
                let stopped = broker.stop()?.claim();
                self.claim(stage, &stopped.name, stopped.failure);
            }
        }
        if self.ottla_has_run || kind == Kind::Ottla {
            // Errors that Kafka logs before Ottla ran on the directory do not count.
            let complaints = complaints(&self.log(stage))?;
            self.claim(stage, "log_holds_no_error", complaints);
        }
        self.ottla_has_run |= kind == Kind::Ottla;
        let epoch = epoch(&self.metadata())?;
        let risen = (epoch <= self.epoch)
            .then(|| format!("quorum-state says epoch {epoch} after {}", self.epoch));
        self.claim(stage, "epoch_of_the_metadata_log_rises", risen);
        self.epoch = epoch;
        Ok(())
    }

    /// The next broker must start from the snapshot of the last one.
    fn expect_snapshot(&mut self, stage: &str) -> Result<()> {
        let newest = newest_snapshot(&self.metadata())?;
        let old = (newest != Some(self.epoch)).then(|| {
            format!(
                "the newest snapshot is of epoch {newest:?}, not {}",
                self.epoch
            )
        });
        self.claim(stage, "leaves_a_snapshot_of_its_own", old);
        Ok(())
    }

    /// Ottla must refuse to start while the client has groups or transactions open, and must name
    /// them.
    fn refuse(&mut self, release: &Release) {
        let stage = "1-refused";
        let Err(refused) = self.start(stage, Kind::Ottla) else {
            self.claim(stage, "is_refused", Some("it started".to_owned()));
            return;
        };
        let said = format!("{refused:#}");
        let mut lives = vec!["live-consumer", "live-transaction"];
        lives.extend(release.has_share_groups.then_some("live-share"));
        for name in lives {
            let missing = (!said.contains(name)).then(|| said.clone());
            self.claim(stage, &format!("names_{name}"), missing);
        }
        for name in ["idle-consumer", "done-transaction"] {
            let wrong = said.contains(name).then(|| said.clone());
            self.claim(stage, &format!("does_not_name_{name}"), wrong);
        }
        for name in ["a", "b"] {
            let marker = format!("data/{name}/.kafka_cleanshutdown");
            let is_clean = self.directory.join(marker).exists();
            let unclean = (!is_clean).then(|| format!("{name} is not marked clean"));
            self.claim(stage, "log_directories_stay_clean", unclean);
        }
    }

    /// Removes the files of the journey, unless a check failed.
    fn end(self) -> Result<Vec<Claim>> {
        let Self {
            directory,
            driver,
            claims,
            ..
        } = self;
        drop(driver);
        if claims.iter().all(|claim| claim.failure.is_none()) {
            fs::remove_dir_all(directory)?;
        }
        Ok(claims)
    }
}

/// Copies a directory with its contents.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The epoch in which the newest snapshot was written.
fn newest_snapshot(metadata: &Path) -> Result<Option<i64>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(metadata)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".checkpoint").map(str::to_owned));
    }
    let newest = names.iter().max();
    Ok(newest.and_then(|name| name.rsplit_once('-')?.1.parse().ok()))
}

/// The epoch that `quorum-state` has reached.
fn epoch(metadata: &Path) -> Result<i64> {
    let text = fs::read_to_string(metadata.join("quorum-state"))?;
    let state: Value = serde_json::from_str(&text)?;
    state["leaderEpoch"]
        .as_i64()
        .context("quorum-state has no leaderEpoch")
}
