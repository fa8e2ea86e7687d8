//! `cargo xtask cli-test`: the commands of `ottla` against Ottla and against Apache Kafka, with the same expectations.
//!
//! Scenarios in `tests/cli/scenarios` are commands and what they print. Beside them, `ottla produce` must put
//! each of 10,000 keys where Kafka's Java producer puts it.

mod partitioner;
mod scenario;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compat::broker::{Broker, Kind};
use crate::toolbox;

/// Options of `cargo xtask cli-test`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// The broker under test [default: both in turn].
    #[arg(long, value_enum)]
    broker: Option<Kind>,

    /// A broker that runs already, instead of one started here; `log dump` is then left out.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "broker")]
    bootstrap: Option<String>,

    /// Write what the commands print into the scenarios as what is expected.
    #[arg(long)]
    bless: bool,

    /// Only scenarios whose names contain one of these.
    scenarios: Vec<String>,
}

/// Where the commands run: which `ottla`, which broker, which files.
pub struct Stage {
    /// The directory of the program `ottla`.
    programs: PathBuf,
    bootstrap: String,
    /// The broker's log directory, where it is known.
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
    let programs = build()?;
    let stage = |bootstrap: String, data: Option<PathBuf>| Stage {
        programs: programs.clone(),
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

/// How many checks there were.
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

/// Runs everything against one broker.
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

/// Builds `ottla` beside xtask, in the same target directory, and says where that is.
fn build() -> Result<PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "ottla-cli"])
        .status()?;
    if !built.success() {
        bail!("ottla does not build");
    }
    let xtask = std::env::current_exe()?;
    Ok(xtask.parent().map(Path::to_path_buf).unwrap_or_default())
}
