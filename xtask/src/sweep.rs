//! `cargo xtask sweep`: sends each advertised API in each version, with valid, cut, lengthened and
//! random bodies, and invalid frames.
//!
//! Each case goes to Ottla and to Apache Kafka, and the outcome must be the same: closed, waiting,
//! or answered with the same error codes. `tests/sweep/expected.tsv` lists the differences with
//! their reasons. A new difference fails, and so does a line that is not needed any more. Ottla
//! must still serve afterwards, without a panic in its log.

mod cases;
mod outcome;

use std::{fmt, fs};

use anyhow::{Context, Result, bail, ensure};

use crate::codec_test;
use crate::compat::broker::{Broker, Kind};
use crate::toolbox;
use cases::Case;
use outcome::Outcome;

const EXPECTED: &str = "tests/sweep/expected.tsv";
/// Differences that are printed in full.
const SHOWN: usize = 40;

/// Options of `cargo xtask sweep`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Print each difference as a line for `tests/sweep/expected.tsv`.
    #[arg(long)]
    list: bool,
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let encodings = codec_test::kafka_encodings()?;
    let (ottla, kafka) = (Broker::start(Kind::Ottla)?, Broker::start(Kind::Kafka)?);
    let served = outcome::served(&ottla.bootstrap())?;
    let cases = cases::all(&encodings, &served)?;
    for broker in [&ottla, &kafka] {
        outcome::warm_up(&broker.bootstrap(), &cases::warm_up()?)?;
    }
    let (ours, kafkas) = std::thread::scope(|scope| -> Result<_> {
        let ours = std::thread::Builder::new()
            .name("sweep-ottla".to_owned())
            .spawn_scoped(scope, || outcome::of_all(&ottla.bootstrap(), &cases))?;
        let kafkas = outcome::of_all(&kafka.bootstrap(), &cases)?;
        Ok((ours.join().expect("no panics there")?, kafkas))
    })?;
    outcome::served(&ottla.bootstrap()).context("Ottla does not serve after the sweep")?;
    let log = fs::read_to_string(ottla.directory().join("broker.log"))?;
    ensure!(!log.contains("panicked"), "Ottla panicked:\n{log}");
    let differences = differences(&cases, &ours, &kafkas);
    if args.list {
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        return Ok(lines.join(
            "
",
        ));
    }
    compare(&differences)?;
    Ok(format!(
        "{} cases over {} APIs end as in Kafka, {} differ for a reason",
        cases.len() - differences.len(),
        served.len(),
        differences.len()
    ))
}

/// A case with different outcomes.
#[derive(Debug)]
struct Difference {
    api: String,
    case: String,
    version: i16,
    kafka: String,
    ottla: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}\t{}\t{}\t{}\tversion {}",
            self.api, self.case, self.kafka, self.ottla, self.version
        )
    }
}

/// A line of the list: API, case, and the outcome on each broker. `*` matches anything, also at the
/// end of a field.
#[derive(Debug)]
struct Expected {
    line: String,
    fields: [String; 4],
}

impl Expected {
    fn covers(&self, difference: &Difference) -> bool {
        let found = [
            &difference.api,
            &difference.case,
            &difference.kafka,
            &difference.ottla,
        ];
        self.fields.iter().zip(found).all(|(field, found)| {
            field
                .strip_suffix('*')
                .map_or(field == found, |start| found.starts_with(start))
        })
    }
}

fn differences(cases: &[Case], ours: &[Outcome], kafkas: &[Outcome]) -> Vec<Difference> {
    let both = cases.iter().zip(ours.iter().zip(kafkas));
    both.filter(|(_, (ottla, kafka))| ottla != kafka)
        .map(|(case, (ottla, kafka))| Difference {
            api: case.api_name(),
            case: case.name.clone(),
            version: case.version,
            kafka: kafka.to_string(),
            ottla: ottla.to_string(),
        })
        .collect()
}

fn compare(differences: &[Difference]) -> Result<()> {
    let expected = expected()?;
    let unexpected = differences
        .iter()
        .filter(|difference| !expected.iter().any(|line| line.covers(difference)))
        .map(ToString::to_string);
    let stale = expected
        .iter()
        .filter(|line| !differences.iter().any(|difference| line.covers(difference)))
        .map(|line| {
            format!(
                "no case needs this line of {EXPECTED} any more: {}",
                line.line
            )
        });
    let problems: Vec<String> = unexpected.chain(stale).collect();
    if !problems.is_empty() {
        let shown = &problems[..problems.len().min(SHOWN)];
        bail!(
            "{} cases end differently\n{}",
            problems.len(),
            shown.join("\n")
        );
    }
    Ok(())
}

fn expected() -> Result<Vec<Expected>> {
    let text = fs::read_to_string(toolbox::workspace().join(EXPECTED))?;
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let [api, case, kafka, ottla, _reason] = line.split('\t').collect::<Vec<_>>()[..]
            else {
                bail!(
                    "{EXPECTED}: not API, case, Kafka, Ottla and reason with tabs between: {line}"
                );
            };
            Ok(Expected {
                line: line.to_owned(),
                fields: [api, case, kafka, ottla].map(str::to_owned),
            })
        })
        .collect()
}
