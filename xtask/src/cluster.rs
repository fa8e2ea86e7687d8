//! `cargo xtask cluster`: three nodes under faults, judged by what real clients were told.
//!
//! The driver, its clients and the checker are in `tests/cluster/`. The checker's own tests plant
//! each fault that it must find. The seed gives the schedule of faults; the timing of clients and
//! nodes still differs.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

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

    /// How many of the three nodes are controllers too.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    controllers: u32,
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
    let directory = toolbox::workspace().join(format!("target/cluster-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    writeln!(io::stderr(), "cluster: {} faults, seed {seed}", args.faults)?;
    let status = driver(args, seed, &directory)?
        .status()
        .context("could not start python")?;
    match status.code() {
        Some(0) => {
            std::fs::remove_dir_all(&directory)?;
            Ok(format!(
                "{} faults, seed {seed}: nothing lost, doubled or reordered",
                args.faults
            ))
        }
        Some(CANNOT_MAKE) => {
            std::fs::remove_dir_all(&directory)?;
            Ok("NOT RUN: this machine cannot make networks or disks for the nodes".to_owned())
        }
        _ => bail!(
            "findings with seed {seed}; ledgers, logs and disks are kept in {}",
            directory.display()
        ),
    }
}

fn driver(args: &Args, seed: u64, directory: &Path) -> Result<Command> {
    let python = python::interpreter()?;
    let here = toolbox::workspace().join("tests/cluster");
    let mut command = Command::new(&python);
    command.arg(here.join("judge.py"));
    // The disk images are those of the tests of crashes.
    command.env("PYTHONPATH", toolbox::workspace().join("tests/crash"));
    let (system, program) = program(args.system)?;
    command.args(["--system", system, "--program"]).arg(program);
    command.arg("--directory").arg(directory);
    command.args(["--faults", &args.faults.to_string()]);
    command.args(["--seed", &seed.to_string()]);
    command.args(["--durability", args.durability.name()]);
    command.args(["--controllers", &args.controllers.to_string()]);
    let librdkafka = format!(
        "{} {}",
        python.display(),
        here.join("librdkafka_load.py").display()
    );
    let loads = [
        ("java", line(&java::cluster_load(maven::MEASURED_VERSION)?)),
        ("librdkafka", librdkafka),
        ("franz", go::cluster_load()?.display().to_string()),
    ];
    for (name, load) in loads {
        command.arg("--load").arg(format!("{name}={load}"));
    }
    Ok(command)
}

/// The name of a system for the driver, and its program or jars.
fn program(system: System) -> Result<(&'static str, PathBuf)> {
    Ok(match system {
        System::Ottla => ("ottla", ottla::binary()?),
        System::Kafka => ("kafka", maven::kafka_jars_of(maven::MEASURED_VERSION)?),
    })
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
