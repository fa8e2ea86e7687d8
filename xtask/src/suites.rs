//! `cargo xtask suites`: the test suites of other people's clients, against a real broker.
//!
//! Each suite runs on a fresh broker, from the properties file that the real clients use too. What Apache Kafka passes
//! is the target: `tests/compat/suites.tsv` says, one line a test, what each broker does with it and why. The command
//! fails on a new failure, and on a pass that the file still calls a failure.

mod cargo_tests;
mod expected;
mod franz_go;
mod kafka_python;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Result, bail};

use crate::compat::broker::{Broker, Kind};
use expected::Expected;

/// Options of `cargo xtask suites`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker under test.
    #[arg(long, value_enum, default_value_t = Kind::Ottla)]
    broker: Kind,

    /// Run only the suites whose names contain one of these.
    suites: Vec<String>,

    /// Write what happened into the file of expectations, instead of comparing.
    #[arg(long)]
    bless: bool,
}

/// What became of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Every test of a suite, by its name there.
type Outcomes = BTreeMap<String, Outcome>;

/// A suite: its name, and what runs it against the broker at this address, with its log in this directory.
type Suite = (&'static str, fn(&str, &Path) -> Result<Outcomes>);

const SUITES: &[Suite] = &[
    ("kafka-python", kafka_python::run),
    ("franz-go", franz_go::run),
    ("rdkafka", cargo_tests::rdkafka),
    ("rskafka", cargo_tests::rskafka),
];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let mut expected = Expected::read()?;
    let mut surprises = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, suite) in SUITES.iter().filter(|(name, _)| is_chosen(args, name)) {
        writeln!(io::stderr(), "running {name} against {:?}", args.broker)?;
        let broker = Broker::start(args.broker)?;
        let outcomes = suite(&broker.bootstrap(), broker.directory())?;
        writeln!(
            io::stderr(),
            "its log lies in {}",
            broker.directory().display()
        )?;
        drop(broker);
        if outcomes.is_empty() {
            bail!("{name} ran no test");
        }
        passed += count(&outcomes, Outcome::Passed);
        failed += count(&outcomes, Outcome::Failed);
        skipped += count(&outcomes, Outcome::Skipped);
        if args.bless {
            expected.record(name, args.broker, &outcomes);
        } else {
            surprises.extend(expected.surprises(name, args.broker, &outcomes));
        }
    }
    let mut out = io::stdout().lock();
    for surprise in &surprises {
        writeln!(out, "{surprise}")?;
    }
    writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    if args.bless {
        return expected.write();
    }
    if !surprises.is_empty() {
        bail!(
            "{} tests did not end as tests/compat/suites.tsv says",
            surprises.len()
        );
    }
    Ok(())
}

fn is_chosen(args: &Args, name: &str) -> bool {
    args.suites.is_empty() || args.suites.iter().any(|part| name.contains(part.as_str()))
}

fn count(outcomes: &Outcomes, wanted: Outcome) -> usize {
    outcomes
        .values()
        .filter(|outcome| **outcome == wanted)
        .count()
}
