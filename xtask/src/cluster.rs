//! `cargo xtask cluster`: three nodes under faults, judged by what real clients were told.
//!
//! The driver, its clients and the checker are in `tests/cluster/`. The checker's own tests plant
//! each fault that it must find. The seed gives the schedule of faults; the timing of clients and
//! nodes still differs.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, go, java, maven, ottla, python};

/// The exit status of the driver when it cannot make networks or disks.
const CANNOT_MAKE: i32 = 77;

/// Whose nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// The broker of this checkout.
    Ottla,
    /// Apache Kafka, to check the driver itself.
    Kafka,
}

/// When a record is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// When it is on stable storage.
    Fsync,
    /// When it is in the page cache.
    PageCache,
}

/// Options of `cargo xtask cluster`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose nodes are judged.
    #[arg(long, value_enum, default_value_t = System::Ottla)]
    system: System,

    /// How many faults.
    #[arg(long, default_value_t = 200)]
    faults: u32,

    /// The seed of an earlier run, whose schedule is repeated.
    #[arg(long)]
    seed: Option<u64>,

    /// When a record is acknowledged.
    #[arg(long, value_enum, default_value_t = Durability::Fsync)]
    durability: Durability,

    /// Cut the power of one or all nodes too.
    #[arg(long)]
    power_cuts: bool,

    /// How many of the three nodes are controllers too.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    controllers: u32,
}

impl Args {
    /// A short run, as in the gate.
    pub const fn of_gate() -> Self {
        Self {
            system: System::Ottla,
            faults: 12,
            seed: None,
            durability: Durability::Fsync,
            power_cuts: false,
            controllers: 3,
        }
    }
}

/// Runs the tests of the checker; returns a summary.
pub fn checker() -> Result<String> {
    let tests = Command::new(python::interpreter()?)
        .arg(toolbox::workspace().join("tests/cluster/checker_test.py"))
        .output()?;
    let said = String::from_utf8_lossy(&tests.stderr);
    match said.lines().find(|line| line.starts_with("Ran ")) {
        Some(ran) if tests.status.success() => Ok(format!("the checker of clusters: {ran}")),
        _ => bail!("the checker of clusters misses a planted fault:\n{said}"),
    }
}

/// Runs the faults and the checker; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    checker()?;
    let seed = args.seed.unwrap_or_else(crate::crash::fresh_seed);
    let faults = args.faults;
    writeln!(io::stderr(), "cluster: {faults} faults, seed {seed}")?;
    let mut driver = Driver::new("judge.py", &[args.system])?
        .with("controllers", args.controllers)
        .with("faults", faults)
        .with("seed", seed)
        .with("durability", args.durability.name());
    if args.power_cuts {
        driver.command.arg("--power-cuts");
    }
    driver.run(
        format!("{faults} faults, seed {seed}: nothing lost, doubled or reordered"),
        &format!("findings with seed {seed}"),
    )
}

/// Builds Ottla, and returns the path of its program.
pub type Build = fn() -> Result<PathBuf>;

/// The directory of a run: that of one that has failed stays.
fn fresh_name() -> String {
    static RUNS: AtomicU32 = AtomicU32::new(1);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    format!("target/cluster-{}-{run}", std::process::id())
}

/// A program of `tests/cluster`, and the directory of its run.
pub struct Driver {
    command: Command,
    directory: PathBuf,
}

impl Driver {
    /// A program that starts nodes of these systems under the load of clients.
    pub fn new(script: &str, systems: &[System]) -> Result<Self> {
        Self::of_build(script, systems, ottla::binary)
    }

    /// The same; `build` builds Ottla's program.
    pub fn of_build(script: &str, systems: &[System], build: Build) -> Result<Self> {
        let mut driver = Self::without_load(script, systems, build)?;
        let script = toolbox::workspace().join("tests/cluster/librdkafka_load.py");
        let python = python::interpreter()?;
        let librdkafka = format!("{} {}", python.display(), script.display());
        let loads = [
            ("java", line(&java::cluster_load(maven::MEASURED_VERSION)?)),
            ("librdkafka", librdkafka),
            ("franz", go::cluster_load()?.display().to_string()),
        ];
        for (name, load) in loads {
            driver.command.arg("--load").arg(format!("{name}={load}"));
        }
        Ok(driver)
    }

    /// A program that starts nodes of these systems, and has clients of its own.
    pub fn without_load(script: &str, systems: &[System], build: Build) -> Result<Self> {
        let directory = toolbox::workspace().join(fresh_name());
        let mut command = Command::new(python::interpreter()?);
        command.arg(toolbox::workspace().join("tests/cluster").join(script));
        // Disk images and ports are those of the tests of crashes.
        command.env("PYTHONPATH", toolbox::workspace().join("tests/crash"));
        for system in systems {
            let (name, program) = system.program(build)?;
            command.args(["--system", name]);
            command.arg(format!("--{name}={program}"));
        }
        command.arg("--directory").arg(&directory);
        Ok(Self { command, directory })
    }

    /// The same with an option.
    pub fn with(mut self, option: &str, value: impl Display) -> Self {
        self.command.arg(format!("--{option}={value}"));
        self
    }

    /// Runs it; returns `success`, or fails with `failure`, and then its files stay.
    pub fn run(mut self, success: String, failure: &str) -> Result<String> {
        std::fs::create_dir_all(&self.directory)?;
        let status = self.command.status().context("could not start python")?;
        let outcome = match status.code() {
            Some(0) => success,
            Some(CANNOT_MAKE) => {
                "NOT RUN: this machine cannot make networks or disks for the nodes".to_owned()
            }
            _ => bail!(
                "{failure}; ledgers, logs and disks are kept in {}",
                self.directory.display()
            ),
        };
        std::fs::remove_dir_all(&self.directory)?;
        Ok(outcome)
    }
}

impl System {
    /// Its name for the driver, and its program or class path.
    fn program(self, build: Build) -> Result<(&'static str, String)> {
        Ok(match self {
            Self::Ottla => ("ottla", build()?.display().to_string()),
            Self::Kafka => {
                let [jars, logger] = java::kafka_with_logger(maven::MEASURED_VERSION)?;
                ("kafka", format!("{}:{}", jars.display(), logger.display()))
            }
        })
    }
}

impl Durability {
    const fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::PageCache => "page-cache",
        }
    }
}

/// A command as one line, in which no argument has spaces.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}
