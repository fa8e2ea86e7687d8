//! `cargo xtask failover`: how long clients wait when one of three nodes fails, Apache Kafka and
//! Ottla in one run.
//!
//! `tests/cluster/failover.py` measures, with default settings of nodes and clients, and prints a
//! table. No limit is checked. Figures that are quoted come from `--release`, on a quiet machine.

use anyhow::Result;

use crate::cluster::{Driver, System};
use crate::toolbox::ottla;

/// Options of `cargo xtask failover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each event is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Whose nodes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        System::Kafka, System::Ottla,
    ])]
    systems: Vec<System>,

    /// How many of the three nodes are controllers too.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3))]
    controllers: u32,

    /// What happens to the nodes.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Event::Kill, Event::Vanish, Event::Restart,
    ])]
    events: Vec<Event>,

    /// Measure the build that users install.
    #[arg(long)]
    release: bool,
}

/// Events of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Event {
    /// A leader, the active controller, and a node that is both are killed with -9.
    Kill,
    /// All packets of a leader, and of a node that is both, are dropped.
    Vanish,
    /// All nodes are restarted in turn; three times at most.
    Restart,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Vanish => "vanish",
            Self::Restart => "restart",
        }
    }
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let events: Vec<_> = args.events.iter().map(|event| event.name()).collect();
    let driver = Driver::of_build(
        "failover.py",
        &args.systems,
        ottla::in_profile(args.release),
    )?
    .with("controllers", args.controllers)
    .with("events", events.join(","))
    .with("runs", args.runs);
    driver.run(
        format!("each event {} times", args.runs),
        "a system could not be measured",
    )
}
