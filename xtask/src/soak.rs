//! `cargo xtask soak`: a producer and consumers of `ottla` keep running while their broker is
//! killed and restarted and partitions are added.
//!
//! The producer writes numbered records. One consumer without a group runs all the time and must
//! print each record once. Members of a group come and go, and each is stopped in another way.
//! Together they must print each record, and no member may skip an offset. When the members have
//! ended, the group must be empty and have committed exactly what they printed.

mod broker;
mod checks;
mod children;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::broker::{Broker, End};
use self::checks::Printed;
use self::children::{Consumer, Feed};
use crate::time::{now, pause};
use crate::toolbox::{self, ottla};

pub const TOPIC: &str = "soak";
const GROUP: &str = "soakers";
const PARTITIONS: usize = 3;
/// A partition is added each time after this many restarts.
const RESTARTS_PER_PARTITION: u32 = 3;
const RECORDS_PER_SECOND: u32 = 400;

/// Options of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to run.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// The seconds between two restarts of the broker.
    #[arg(long, default_value_t = 20.0)]
    every: f64,
}

impl Args {
    /// A short run with frequent restarts, as in the gate.
    pub const fn of_gate() -> Self {
        Self {
            minutes: 0.6,
            every: 6.0,
        }
    }
}

/// Runs the command; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let directory = toolbox::workspace().join(format!("target/soak-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let soak = Soak::start(args, directory.clone())?;
    match soak.run() {
        Ok(result) => {
            fs::remove_dir_all(&directory)?;
            Ok(result)
        }
        Err(error) => Err(error.context(format!(
            "what everybody printed, and the broker's data, are kept in {}",
            directory.display()
        ))),
    }
}

/// Everything that runs.
struct Soak<'a> {
    args: &'a Args,
    directory: PathBuf,
    program: PathBuf,
    broker: Broker,
    restarts: u32,
    partitions: usize,
    members: Vec<Consumer>,
    ended: Vec<Consumer>,
    /// How often the group was found empty after its members had ended.
    empty: u32,
}

impl<'a> Soak<'a> {
    fn start(args: &'a Args, directory: PathBuf) -> Result<Self> {
        let program = ottla::binary()?;
        Ok(Self {
            args,
            broker: Broker::start(&program, &directory)?,
            program,
            directory,
            restarts: 0,
            partitions: PARTITIONS,
            members: Vec::new(),
            ended: Vec::new(),
            empty: 0,
        })
    }

    fn run(mut self) -> Result<String> {
        let partitions = self.partitions.to_string();
        self.ottla(&["topic", "create", TOPIC, "--partitions", &partitions])?;
        let alone = self.consumer("alone", &["--from", "beginning"])?;
        // It begins at the end of the topic, so it must print all records from now on.
        let latest = self.consumer("latest", &[])?;
        latest.wait_until_it_reads(&self.program, &self.broker.address())?;
        let messages = self.directory.join("producer.err");
        let feed = Feed::start(&self.program, &self.broker.address(), messages)?;
        // A command fails at once if its broker is down at its start, and that is intended.
        checks::wait_for(1, &[&alone.output])?;
        let rounds = (self.args.minutes * 60.0 / self.args.every).ceil().max(2.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let rounds = rounds as u32;
        for round in 0..rounds {
            self.round(round, rounds)?;
        }
        let written = feed.finish()?;
        self.say(&format!(
            "{written} records written; waiting for the consumers"
        ))?;
        self.start_member(rounds)?;
        self.start_member(rounds)?;
        let members = self.members.iter().chain(&self.ended);
        let group: Vec<_> = members.map(|member| member.output.clone()).collect();
        checks::wait_for(written, &[&alone.output])?;
        checks::wait_for(written, &[&latest.output])?;
        checks::wait_for(written, &group)?;
        self.end_members(rounds)?;
        for consumer in [alone, latest] {
            self.ended.push(consumer.end(children::Way::Interrupt)?);
        }
        self.verdict(written)
    }

    /// One restart, with the changes before and after it.
    fn round(&mut self, round: u32, rounds: u32) -> Result<()> {
        let begun = now();
        let end = if round.is_multiple_of(2) {
            End::Kill
        } else {
            End::Terminate
        };
        self.broker.restart(end)?;
        self.restarts += 1;
        if round.is_multiple_of(RESTARTS_PER_PARTITION) {
            self.partitions += 1;
            let partitions = self.partitions.to_string();
            self.ottla(&["topic", "alter", TOPIC, "--partitions", &partitions])?;
        }
        let rest = Duration::from_secs_f64(self.args.every).saturating_sub(begun.elapsed());
        pause(rest / 2);
        // Members live through one restart.
        if round.is_multiple_of(2) {
            self.start_member(round)?;
            self.start_member(round)?;
        } else {
            self.end_members(round)?;
        }
        pause(Duration::from_secs_f64(self.args.every).saturating_sub(begun.elapsed()));
        self.say(&format!(
            "restart {} of {rounds} ({end:?}), {} partitions, {} members have come and gone",
            self.restarts,
            self.partitions,
            self.ended.len()
        ))
    }

    fn start_member(&mut self, round: u32) -> Result<()> {
        let name = format!("member-{round}-{}", self.members.len());
        let member = self.consumer(&name, &["--group", GROUP, "--from", "beginning"])?;
        self.members.push(member);
        Ok(())
    }

    /// Stops all members, each in another way, and checks the group afterwards.
    fn end_members(&mut self, round: u32) -> Result<()> {
        let ways = children::Way::ALL.iter().cycle().skip(round as usize);
        for (member, way) in std::mem::take(&mut self.members).into_iter().zip(ways) {
            self.ended.push(member.end(*way)?);
        }
        let outputs: Vec<_> = self.ended.iter().map(|member| &member.output).collect();
        let printed = Printed::read(&outputs)?;
        self.broker
            .check_left_group(GROUP, &printed, &self.program)?;
        self.empty += 1;
        Ok(())
    }

    fn consumer(&self, name: &str, arguments: &[&str]) -> Result<Consumer> {
        Consumer::start(
            &self.program,
            &self.broker.address(),
            self.directory.join(format!("{name}.out")),
            arguments,
        )
    }

    fn ottla(&self, arguments: &[&str]) -> Result<()> {
        children::ottla(&self.program, &self.broker.address(), arguments).map(|_| ())
    }

    fn verdict(&self, written: u64) -> Result<String> {
        let (mut alone, mut members) = (Vec::new(), Vec::new());
        for consumer in &self.ended {
            if consumer.is_member() {
                members.push(&consumer.output);
            } else {
                alone.push(&consumer.output);
            }
        }
        // Each of these printed everything without the others.
        for output in &alone {
            let printed = Printed::read(&[output])?;
            printed.check_complete(written)?;
            printed.check_no_gap()?;
            if printed.repeated > 0 {
                bail!(
                    "{} printed {} records twice",
                    output.display(),
                    printed.repeated
                );
            }
        }
        let group = Printed::read(&members)?;
        group.check_complete(written)?;
        group.check_no_gap_together()?;
        let partitions: BTreeSet<_> = group.partitions().collect();
        if partitions.len() != self.partitions {
            bail!(
                "{} of {} partitions were read",
                partitions.len(),
                self.partitions
            );
        }
        Ok(format!(
            "{} restarts, {written} records in {} partitions: none lost, none skipped; {} members of a group came and \
             went, which was empty after each of {} ends; {} records were printed by more than one of them",
            self.restarts,
            self.partitions,
            members.len(),
            self.empty,
            group.repeated
        ))
    }

    #[expect(clippy::unused_self, reason = "it reads like the other steps")]
    fn say(&self, text: &str) -> Result<()> {
        writeln!(io::stderr(), "soak: {text}").context("cannot write to stderr")
    }
}
