//! `cargo xtask ecosystem`: tools that users run on a broker, each in its newest release, move
//! records. The number and the values of the records are checked.
//!
//! Each tool has its own broker, with the properties file of `cargo xtask compat`, and one file
//! here. The programs that they need are in `tests/ecosystem`. It is not in the gate, because it
//! downloads gigabytes and takes minutes.

mod clickhouse;
mod confluent_kafka;
mod connect;
mod flink;
mod mirror_maker;
mod process;
mod pyspark;
mod records;
mod streams;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Result, bail};

use crate::compat::broker::{Broker, Kind};

/// Options of `cargo xtask ecosystem`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker under test.
    #[arg(long, value_enum, default_value_t = Kind::Ottla)]
    broker: Kind,

    /// Run only the tools whose names begin with one of these.
    tools: Vec<String>,
}

/// The environment of a tool.
pub struct Place<'a> {
    /// Which broker, for a tool that needs a second one.
    pub kind: Kind,
    /// The broker's address.
    pub bootstrap: &'a str,
    /// The directory for files and logs of this run.
    pub directory: &'a Path,
}

/// A tool: its name, and the function that runs it and returns a summary.
type Tool = (&'static str, fn(&Place<'_>) -> Result<String>);

const TOOLS: &[Tool] = &[
    ("connect-standalone", connect::standalone),
    ("connect-distributed", connect::distributed),
    ("streams", streams::run),
    ("flink", flink::run),
    ("mirror-maker", mirror_maker::run),
    ("pyspark", pyspark::run),
    ("clickhouse", clickhouse::run),
    ("confluent-kafka", confluent_kafka::run),
];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut failed = Vec::new();
    let chosen = |name: &str| {
        let mut parts = args.tools.iter();
        args.tools.is_empty() || parts.any(|part| name.starts_with(part.as_str()))
    };
    let mut tried = 0;
    for (name, tool) in TOOLS.iter().filter(|(name, _)| chosen(name)) {
        tried += 1;
        match on_a_broker(args.broker, *tool) {
            Ok(checked) => writeln!(out, "ok {name}: {checked}")?,
            Err(error) => {
                writeln!(out, "not ok {name}: {error:#}")?;
                failed.push(*name);
            }
        }
    }
    if tried == 0 {
        bail!("no tool has such a name");
    }
    if !failed.is_empty() {
        bail!(
            "{} of {tried} tools failed: {}",
            failed.len(),
            failed.join(", ")
        );
    }
    writeln!(out, "{tried} tools passed")?;
    Ok(())
}

/// Runs a tool; keeps the files of a failed run.
fn on_a_broker(kind: Kind, tool: fn(&Place<'_>) -> Result<String>) -> Result<String> {
    let broker = Broker::start(kind)?;
    let checked = tool(&Place {
        kind,
        bootstrap: &broker.bootstrap(),
        directory: broker.directory(),
    })?;
    let directory = broker.directory().to_path_buf();
    drop(broker);
    fs::remove_dir_all(directory)?;
    Ok(checked)
}
