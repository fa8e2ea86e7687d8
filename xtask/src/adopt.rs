//! `cargo xtask adopt`: a data directory goes from Apache Kafka to Ottla, back to Kafka, and to Ottla again.
//!
//! There is one journey for each release of Kafka, and one for each kind of directory on which no
//! Kafka ran before Ottla. Two journeys run at a time. Each broker must show a stock client the
//! same data as the broker before it, and receives more data for the next. A Kafka that runs after
//! Ottla must not log an error. The last line counts the checks.

pub mod cluster;
pub mod complaints;
pub mod driver;
mod journey;

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::compat::in_parallel;
use crate::compat::program::Claim;
use crate::time::now;
use crate::toolbox::maven::{KAFKA_VERSION, PREVIOUS_VERSION};
use journey::{Ending, Origin, Release, Voters};

/// The directories. A minor release of Kafka is represented by its last patch release, or by the release that Ottla is
/// compared with.
const RELEASES: &[Release] = &[
    Release {
        minor: "4.0",
        version: "4.0.2",
        has_share_groups: false,
        origin: Origin::Filled(Voters::Dynamic),
    },
    Release {
        minor: "4.1",
        version: "4.1.2",
        has_share_groups: false,
        origin: Origin::Filled(Voters::Dynamic),
    },
    Release {
        minor: "4.2",
        version: "4.2.2",
        has_share_groups: true,
        origin: Origin::Filled(Voters::Dynamic),
    },
    Release {
        minor: "4.3",
        version: PREVIOUS_VERSION,
        has_share_groups: true,
        origin: Origin::Filled(Voters::Dynamic),
    },
    Release {
        minor: "4.4",
        version: KAFKA_VERSION,
        has_share_groups: true,
        origin: Origin::Filled(Voters::Dynamic),
    },
    Release {
        minor: "4.4-static",
        version: KAFKA_VERSION,
        has_share_groups: true,
        origin: Origin::Filled(Voters::Static),
    },
    Release {
        minor: "4.4-unstarted",
        version: KAFKA_VERSION,
        has_share_groups: true,
        origin: Origin::Unstarted("4.4", Voters::Dynamic),
    },
    Release {
        minor: "4.3-unstarted",
        version: PREVIOUS_VERSION,
        has_share_groups: true,
        origin: Origin::Unstarted("4.3", Voters::Static),
    },
    Release {
        minor: "4.3-mended",
        version: PREVIOUS_VERSION,
        has_share_groups: true,
        origin: Origin::WithoutFirstRecords,
    },
    Release {
        minor: "4.4-mended",
        version: KAFKA_VERSION,
        has_share_groups: true,
        origin: Origin::WithoutFirstRecords,
    },
    Release {
        minor: "4.3-from-ottla",
        version: PREVIOUS_VERSION,
        has_share_groups: false,
        origin: Origin::Ottla,
    },
    Release {
        minor: "4.4-from-ottla",
        version: KAFKA_VERSION,
        has_share_groups: false,
        origin: Origin::Ottla,
    },
];
/// The journeys of the gate: the oldest and the newest release, and each directory on which no
/// Kafka ran before.
const OF_GATE: &[&str] = &[
    "4.0",
    "4.4",
    "4.4-unstarted",
    "4.3-unstarted",
    "4.3-mended",
    "4.4-from-ottla",
];

/// Options of `cargo xtask adopt`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this directory: a release of Kafka (4.0 to 4.4) that fills it, or 4.4-static,
    /// 4.3-unstarted, 4.4-unstarted, 4.3-mended, 4.4-mended, 4.3-from-ottla, 4.4-from-ottla
    /// [default: all]; may be given several times.
    #[arg(long = "version", value_name = "DIRECTORY")]
    versions: Vec<String>,

    /// Kill each broker with -9 instead of stopping it.
    #[arg(long)]
    kill: bool,

    /// Show every check, not only the failed ones.
    #[arg(long)]
    verbose: bool,
}

impl Args {
    /// The options of the gate.
    pub fn of_gate() -> Self {
        Self {
            versions: OF_GATE.iter().map(|minor| (*minor).to_owned()).collect(),
            kill: false,
            verbose: false,
        }
    }
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let is_chosen = |release: &&Release| {
        args.versions.is_empty() || args.versions.iter().any(|minor| minor == release.minor)
    };
    let chosen: Vec<Release> = RELEASES.iter().filter(is_chosen).copied().collect();
    if chosen.is_empty() {
        bail!("no directory is named like {:?}", args.versions);
    }
    let ending = if args.kill {
        Ending::Killed
    } else {
        Ending::Stopped
    };
    let journeys = in_parallel(chosen, |release| {
        let start = now();
        let claims = match release.origin {
            Origin::Filled(_) => journey::from_kafka(&release, ending),
            Origin::Unstarted(..) | Origin::WithoutFirstRecords | Origin::Ottla => {
                journey::from_ottla(&release, ending)
            }
        };
        (release, claims, start.elapsed())
    })?;
    let (mut passed, mut failed) = (0, 0);
    let count = journeys.len();
    for (release, claims, took) in journeys {
        let claims = claims
            .unwrap_or_else(|error| vec![Claim::failed("comes_to_its_end", format!("{error:#}"))]);
        let failures = claims
            .iter()
            .filter(|claim| claim.failure.is_some())
            .count();
        passed += claims.len() - failures;
        failed += failures;
        tell(args.verbose, &release, &claims, took)?;
    }
    let told =
        format!("{count} directories there and back: {passed} checks passed, {failed} failed");
    if failed > 0 {
        bail!("{told}");
    }
    Ok(told)
}

fn tell(verbose: bool, release: &Release, claims: &[Claim], took: Duration) -> Result<()> {
    let mut out = io::stdout().lock();
    let version = release.minor;
    for claim in claims {
        match &claim.failure {
            Some(why) => writeln!(out, "  FAILED {version}/{}: {why}", claim.name)?,
            None if verbose => writeln!(out, "  passed {version}/{}", claim.name)?,
            None => {}
        }
    }
    let took = took.as_secs_f64();
    Ok(writeln!(
        out,
        "{version}: {} checks ({took:.1} s)",
        claims.len()
    )?)
}
