//! `cargo xtask bench`: Apache Kafka, Ottla and Tansu in turn on this machine, driven by the same generators.
//!
//! Each run starts a broker on an empty directory. The brokers alternate, so that noise of the
//! machine hits all of them. A figure is the median of the runs with its spread; no limit is
//! checked. `bench/session.rs` is one run.

mod cold;
mod java;
mod librdkafka;
mod load;
mod merge;
mod own;
mod session;
mod table;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::measured::contender::{Contender, Durability};
use crate::measured::page::Page;
use crate::measured::say;
use crate::toolbox::ottla;
use session::{Amount, Plan, Session};
use table::Figures;

/// The document with the figures.
const PAGE: Page = Page {
    path: "docs/benchmarks.md",
    mark: "<!-- Everything below is written by `cargo xtask bench --write`. -->",
};
/// A generator that runs longer than this is stopped.
const GENERATOR_SECONDS: &str = "300";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each broker runs each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// How much a throughput load writes and reads, in MB before compression; a quarter of it with
    /// stable storage.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    megabytes: u32,

    /// For how long a latency load is measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// How much the load `cold reads` writes and reads from the disk, in MB.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..))]
    cold_megabytes: u32,

    /// Run all combinations of the settings, which takes hours, instead of a selection with each
    /// value of each setting.
    #[arg(long)]
    all: bool,

    /// Only these brokers.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Contender::Kafka, Contender::Ottla, Contender::Tansu, Contender::BareLoop,
    ])]
    brokers: Vec<Contender>,

    /// Only acknowledgement from the page cache, from stable storage (Kafka: log.flush.interval.messages=1), or as each
    /// broker comes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Durability::PageCache, Durability::Fsync, Durability::Default,
    ])]
    durability: Vec<Durability>,

    /// How many nodes: one broker, or a cluster with each record on all nodes.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3))]
    nodes: Vec<u32>,

    /// Write the tables into docs/benchmarks.md too. If loads are named, only their tables are replaced.
    #[arg(long)]
    write: bool,

    /// Only loads whose names contain one of these, e.g. `lz4`, `Java`, `latency` or `frames`.
    loads: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let plans = plans(args);
    if plans.iter().all(Plan::is_empty) {
        bail!(
            "no load is named like {:?}; there are: {}",
            args.loads,
            Plan::names().join("; ")
        );
    }
    ottla::release_with_load()?;
    let mut figures = Figures::default();
    for round in 1..=args.runs {
        for plan in plans.iter().filter(|plan| !plan.is_empty()) {
            let offer = |contender: &&Contender| contender.offers(plan.durability, plan.nodes);
            for contender in args.brokers.iter().filter(offer) {
                say(&format!(
                    "run {round} of {}: {contender:?}, {:?}, nodes: {}",
                    args.runs, plan.durability, plan.nodes
                ))?;
                Session::run(*contender, plan, &mut figures)?;
            }
        }
    }
    let circumstances = circumstances(args.runs)?;
    let measured = format!("{circumstances}{}", figures.render());
    let mut out = io::stdout().lock();
    out.write_all(measured.as_bytes())?;
    match (args.write, args.loads.is_empty()) {
        (false, _) => Ok(()),
        (true, true) => PAGE.write(&measured),
        (true, false) => {
            let merged = merge::merge(&PAGE.measured()?, &measured, circumstances.trim())?;
            PAGE.write(&merged)
        }
    }
}

fn circumstances(runs: u32) -> Result<String> {
    let circumstances = Page::circumstances()?;
    Ok(format!(
        "{circumstances} Each figure is the median of {runs} alternating runs, with the smallest and the largest; `-` is \
         what a broker did not do.\n"
    ))
}

/// The plans of each number of nodes and durability.
fn plans(args: &Args) -> Vec<Plan> {
    let mut plans = Vec::new();
    for nodes in &args.nodes {
        for durability in &args.durability {
            let plan = plan(args, *durability);
            plans.push(match nodes {
                1 => plan,
                nodes => plan.replicated(*nodes),
            });
        }
    }
    plans
}

fn plan(args: &Args, durability: Durability) -> Plan {
    let loads = if args.all {
        load::all()
    } else {
        load::chosen()
    };
    let is_chosen = |name: &str| {
        args.loads.is_empty() || args.loads.iter().any(|part| name.contains(part.as_str()))
    };
    let amount = Amount {
        megabytes: args.megabytes,
        seconds: args.seconds,
        cold_megabytes: args.cold_megabytes,
    };
    Plan::new(durability, amount, &loads, is_chosen)
}

/// A command that is ended when it hangs.
fn within_limit(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg(GENERATOR_SECONDS).arg(program);
    command
}
