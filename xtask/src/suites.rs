//! `cargo xtask suites`: the test suites of other projects' clients against a real broker.
//!
//! Each suite runs on a fresh broker, with the properties file of `cargo xtask compat` and the
//! suite's own (`tests/compat/suites/NAME.properties`). The target is to pass what Apache Kafka
//! passes. `tests/compat/suites.tsv` has one line per test: its outcome on each broker and the
//! reason. The command fails on a new failure, on a pass that the file lists as a failure, and on a
//! failure without a reason.

mod cargo_tests;
mod expected;
mod franz_go;
mod go_tests;
mod kafka_go;
mod kafka_python;
mod librdkafka;
mod sarama;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Result, bail};

use crate::compat::broker::{Broker, Kind};
use crate::port;
use crate::toolbox;
use expected::Expected;

/// Options of `cargo xtask suites`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker under test.
    #[arg(long, value_enum, default_value_t = Kind::Ottla)]
    broker: Kind,

    /// Run only the suites whose names begin with one of these.
    suites: Vec<String>,

    /// Write the outcomes into the file of expectations, instead of comparing.
    #[arg(long)]
    bless: bool,
}

/// The outcome of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed {
        /// File and line of the first failed check, if the suite prints them.
        place: String,
    },
    Skipped,
}

impl Outcome {
    /// A failure at an unknown place.
    fn failed() -> Self {
        Self::Failed {
            place: String::new(),
        }
    }
}

/// The outcomes of a suite, by test name.
type Outcomes = BTreeMap<String, Outcome>;

/// A suite: its name, and the function that runs it against the broker at this address, with logs
/// in this directory.
type Suite = (&'static str, fn(&str, &Path) -> Result<Outcomes>);

const SUITES: &[Suite] = &[
    ("kafka-python", kafka_python::run),
    ("franz-go", franz_go::run),
    ("kafka-go", kafka_go::run),
    ("sarama", sarama::run),
    ("rdkafka", cargo_tests::rdkafka),
    ("rskafka", cargo_tests::rskafka),
    ("librdkafka", librdkafka::default),
    ("librdkafka-noautocreate", librdkafka::without_auto_create),
];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let mut expected = Expected::read()?;
    let mut surprises = Vec::new();
    let mut totals = Totals::default();
    for (name, suite) in SUITES.iter().filter(|(name, _)| is_chosen(args, name)) {
        let outcomes = run_suite(name, *suite, args.broker)?;
        totals.add(&outcomes);
        if args.bless {
            // Read again, because its reasons may have been edited while the suite ran.
            expected = Expected::read()?;
            expected.record(name, args.broker, &outcomes);
            expected.write()?;
        }
        // With `--bless`, only missing reasons are left.
        surprises.extend(expected.surprises(name, args.broker, &outcomes));
    }
    surprises.extend(expected.unexplained());
    let mut out = io::stdout().lock();
    for surprise in &surprises {
        writeln!(out, "{surprise}")?;
    }
    let Totals {
        passed,
        failed,
        skipped,
    } = totals;
    writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    if !surprises.is_empty() {
        bail!(
            "{} tests did not end as tests/compat/suites.tsv says, or it does not say why",
            surprises.len()
        );
    }
    Ok(())
}

/// Runs one suite on a fresh broker.
fn run_suite(
    name: &str,
    suite: fn(&str, &Path) -> Result<Outcomes>,
    kind: Kind,
) -> Result<Outcomes> {
    let additions = toolbox::workspace().join(format!("tests/compat/suites/{name}.properties"));
    let additions = if additions.exists() {
        let proxy = port::free()?.to_string();
        fs::read_to_string(additions)?.replace("{proxy.port}", &proxy)
    } else {
        String::new()
    };
    let broker = Broker::start_with(kind, &additions)?;
    writeln!(
        io::stderr(),
        "running {name} against {kind:?}; its log lies in {}",
        broker.directory().display()
    )?;
    let outcomes = suite(&broker.bootstrap(), broker.directory())?;
    let data = broker.directory().join("data");
    drop(broker);
    fs::remove_dir_all(data)?;
    if outcomes.is_empty() {
        bail!("{name} ran no test");
    }
    Ok(outcomes)
}

fn is_chosen(args: &Args, name: &str) -> bool {
    args.suites.is_empty()
        || args
            .suites
            .iter()
            .any(|part| name.starts_with(part.as_str()))
}

/// The counts of outcomes.
#[derive(Default)]
struct Totals {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Totals {
    fn add(&mut self, outcomes: &Outcomes) {
        for outcome in outcomes.values() {
            match outcome {
                Outcome::Passed => self.passed += 1,
                Outcome::Failed { .. } => self.failed += 1,
                Outcome::Skipped => self.skipped += 1,
            }
        }
    }
}
