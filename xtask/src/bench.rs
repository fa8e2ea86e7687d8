//! `cargo xtask bench`: Apache Kafka and Ottla in turn on this machine, driven by Kafka's own generators.
//!
//! Every run starts a broker on an empty directory; the brokers alternate, so that a noisy machine is noisy for
//! both. A figure is the median of the runs with its spread. CPU is the broker's own, from `/proc`.

mod broker;
mod load;
mod table;

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use anyhow::{Result, bail};

use broker::{Durability, Running};
use load::Load;
use table::Figures;

use crate::compat::broker::Kind;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each broker runs each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// How much a load writes and reads again, in MB before compression.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    megabytes: u32,

    /// Acknowledge only what is on stable storage (Kafka: log.flush.interval.messages=1); without it both brokers
    /// leave the data in the page cache.
    #[arg(long)]
    durable: bool,

    /// Only loads whose names contain one of these, e.g. `1KiB` or `lz4`.
    loads: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let loads = chosen(args);
    if loads.is_empty() {
        bail!(
            "no load is named like {:?}; there are: {}",
            args.loads,
            names(&load::all())
        );
    }
    broker::build()?;
    let durability = if args.durable {
        Durability::StableStorage
    } else {
        Durability::PageCache
    };
    let mut figures = Figures::default();
    for round in 1..=args.runs {
        for kind in [Kind::Kafka, Kind::Ottla] {
            say(&format!("run {round} of {}: {kind:?}", args.runs))?;
            run_once(kind, durability, &loads, args, &mut figures)?;
        }
    }
    let mut out = io::stdout().lock();
    Ok(out.write_all(figures.render(args.runs, durability).as_bytes())?)
}

fn chosen(args: &Args) -> Vec<Load> {
    let all = load::all().into_iter();
    let is_chosen = |load: &Load| {
        let name = load.name();
        args.loads.is_empty() || args.loads.iter().any(|part| name.contains(part.as_str()))
    };
    all.filter(is_chosen).collect()
}

fn names(loads: &[Load]) -> String {
    loads.iter().map(Load::name).collect::<Vec<_>>().join(", ")
}

fn run_once(
    kind: Kind,
    durability: Durability,
    loads: &[Load],
    args: &Args,
    figures: &mut Figures,
) -> Result<()> {
    let running = Running::start(kind, durability)?;
    let mut add = |load: &str, figure: &'static str, value: f64| {
        figures.add(load, figure, kind, value);
    };
    add(
        "",
        "start to first answer, ms",
        running.started_after.as_secs_f64() * 1e3,
    );
    add("", "resident memory idle, MiB", running.resident_mib()?);
    warm_up(&running, loads, args.megabytes)?;
    for load in loads {
        say(&format!("  {}", load.name()))?;
        for (figure, value) in measure(&running, load, args.megabytes)? {
            add(&load.name(), figure, value);
        }
    }
    add(
        "",
        "resident memory at most, MiB",
        running.peak_resident_mib()?,
    );
    add("", "open files at the end", running.open_files()?);
    add("", "memory maps at the end", running.memory_maps()?);
    running.stop()
}

/// A JVM compiles what it runs often; nobody measures a broker in its first seconds.
fn warm_up(running: &Running, loads: &[Load], megabytes: u32) -> Result<()> {
    let Some(load) = loads.first() else {
        return Ok(());
    };
    let topic = load.create_topic(running.bootstrap(), "warm-up")?;
    load.produce(running.bootstrap(), &topic, megabytes)?;
    load.consume(running.bootstrap(), &topic, megabytes)?;
    Ok(())
}

/// Writes and reads one load, and says what it cost the broker.
fn measure(running: &Running, load: &Load, megabytes: u32) -> Result<BTreeMap<&'static str, f64>> {
    let topic = load.create_topic(running.bootstrap(), "load")?;
    let gigabytes = f64::from(megabytes) / 1e3;
    let mut figures = BTreeMap::new();
    let before = running.cpu_seconds()?;
    let produced = load.produce(running.bootstrap(), &topic, megabytes)?;
    let between = running.cpu_seconds()?;
    let consumed = load.consume(running.bootstrap(), &topic, megabytes)?;
    let after = running.cpu_seconds()?;
    figures.insert("produce, MB/s", produced.megabytes_per_second);
    figures.insert("produce p50, ms", produced.p50_ms);
    figures.insert("produce p99, ms", produced.p99_ms);
    figures.insert("produce p99.9, ms", produced.p999_ms);
    figures.insert("produce, broker CPU s/GB", (between - before) / gigabytes);
    figures.insert("consume, MB/s", consumed.megabytes_per_second);
    figures.insert("consume, broker CPU s/GB", (after - between) / gigabytes);
    Ok(figures)
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "{text}")?)
}
