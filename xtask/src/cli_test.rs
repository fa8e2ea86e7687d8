//! `cargo xtask cli-test`: the commands of `ottla` against Ottla and against Apache Kafka, with the same expectations.
//!
//! The scenarios in `tests/cli/scenarios` are commands and their expected output. In addition,
//! `ottla produce` must send each of 10,000 keys to the same partition as Kafka's Java producer.

mod partitioner;
mod scenario;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compat::broker::{Broker, Kind};
use crate::toolbox::{self, ottla};

/// Options of `cargo xtask cli-test`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// The broker under test [default: both in turn].
    #[arg(long, value_enum)]
    broker: Option<Kind>,

    /// Use this running broker, instead of starting one; the scenarios of `log dump` are then left
    /// out.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "broker")]
    bootstrap: Option<String>,

    /// Write the actual output of the commands into the scenarios as the expected one.
    #[arg(long)]
    bless: bool,

    /// Only scenarios whose names contain one of these.
    scenarios: Vec<String>,
}

/// The environment of the commands: programs, broker, files.
pub struct Stage {
    /// The directory of the program `ottla`.
    programs: PathBuf,
    bootstrap: String,
    /// The broker's log directory, if it is known.
    data: Option<PathBuf>,
    /// The working directory of the commands.
    scratch: PathBuf,
}

impl Stage {
    /// A command that finds `ottla` in its path and the broker in its environment.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut path = OsString::from(&self.programs);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        fs::create_dir_all(&self.scratch)?;
        let mut command = Command::new(program);
        command
            .current_dir(&self.scratch)
            .env("PATH", path)
            .env("OTTLA_BOOTSTRAP_SERVERS", &self.bootstrap);
        if let Some(data) = &self.data {
            command.env("DATA", data);
        }
        Ok(command)
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<String> {
    let ottla = ottla::binary()?;
    let programs = ottla.parent().context("ottla is in no directory")?;
    let stage = |bootstrap: String, data: Option<PathBuf>| Stage {
        programs: programs.to_path_buf(),
        scratch: toolbox::workspace().join(format!("target/cli-test-{}", std::process::id())),
        bootstrap,
        data,
    };
    let mut total = Count::default();
    if let Some(bootstrap) = &args.bootstrap {
        total.add(perform(args, bootstrap, &stage(bootstrap.clone(), None))?);
    } else {
        for kind in args
            .broker
            .map_or(vec![Kind::Kafka, Kind::Ottla], |kind| vec![kind])
        {
            let broker = Broker::start(kind)?;
            let data = broker.directory().join("data");
            let name = format!("{kind:?}");
            total.add(perform(
                args,
                &name,
                &stage(broker.bootstrap(), Some(data)),
            )?);
            broker.stop()?.remove()?;
        }
    }
    if total.failed > 0 {
        bail!("{total}");
    }
    Ok(total.to_string())
}

/// The number of checks.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed } = self;
        write!(
            f,
            "{passed} checks of the command line passed, {failed} failed"
        )
    }
}

/// Runs all scenarios against one broker.
fn perform(args: &Args, broker: &str, stage: &Stage) -> Result<Count> {
    let mut out = io::stdout().lock();
    let mut count = Count::default();
    for path in scenarios(args)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let needs_data = name == "log_dump";
        if needs_data && stage.data.is_none() {
            continue;
        }
        let outcome = scenario::run(&path, stage, args.bless)?;
        count.passed += outcome.passed;
        for failure in outcome.failures {
            count.failed += 1;
            writeln!(out, "{broker}: {name}: {failure}")?;
        }
    }
    let is_chosen = |name: &str| {
        args.scenarios
            .iter()
            .any(|part| name.contains(part.as_str()))
    };
    if args.scenarios.is_empty() || is_chosen("partitioner") {
        match partitioner::run(stage) {
            Ok(()) => count.passed += 1,
            Err(error) => {
                count.failed += 1;
                writeln!(out, "{broker}: partitioner: {error:#}")?;
            }
        }
    }
    fs::remove_dir_all(&stage.scratch)?;
    writeln!(out, "{broker}: {count}")?;
    Ok(count)
}

fn scenarios(args: &Args) -> Result<Vec<PathBuf>> {
    let directory = toolbox::workspace().join("tests/cli/scenarios");
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).context("no scenarios")? {
        let path = entry?.path();
        let is_chosen = |part: &String| path.to_string_lossy().contains(part.as_str());
        if args.scenarios.is_empty() || args.scenarios.iter().any(is_chosen) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
