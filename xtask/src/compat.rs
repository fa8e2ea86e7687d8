//! `cargo xtask compat`: clients of other projects against a real broker.
//!
//! It installs the clients from the package registries and starts one broker. The clients run two
//! at a time, each with its own topics and groups. Then it stops the broker, and Kafka's own tool
//! reads the data directory. A client that cannot be installed is a failure, never a skip. The last
//! line counts the checks.

pub mod broker;
pub mod clients;
pub mod program;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail};

use broker::{Broker, Kind};
use clients::Client;
use program::{Claim, Outcome};

/// Options of `cargo xtask compat`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker under test.
    #[arg(long, value_enum, default_value_t = Kind::Ottla)]
    broker: Kind,

    /// Run only the clients whose names contain one of these.
    clients: Vec<String>,

    /// Show every check, not only the failed ones.
    #[arg(long)]
    verbose: bool,
}

/// The number of clients at a time, for a machine with two cores.
const AT_ONCE: usize = 2;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let chosen: Vec<Client> = clients::all()
        .into_iter()
        .filter(|client| is_chosen(args, client.name))
        .collect();
    if chosen.is_empty() {
        bail!("no client is named like {:?}", args.clients);
    }
    let mut report = Report::new(args.verbose);
    let (ready, missing) = set_up(chosen)?;
    for (name, reason) in missing {
        report.add(
            name,
            Duration::ZERO,
            vec![Claim::failed("can_be_had", reason)],
        );
    }
    let broker = Broker::start(args.broker)?;
    let bootstrap = broker.bootstrap();
    let outcomes = in_parallel(ready, |client| {
        let name = client.client.name;
        (name, attempt(client, &bootstrap, broker.directory()))
    })?;
    for (name, Outcome { claims, took }) in outcomes {
        report.add(name, took, claims);
    }
    finish(args, broker, &mut report)?;
    report.close()
}

fn is_chosen(args: &Args, name: &str) -> bool {
    args.clients.is_empty() || args.clients.iter().any(|part| name.contains(part.as_str()))
}

/// Stops the broker, and reads its data directory with Kafka's tool.
fn finish(args: &Args, broker: Broker, report: &mut Report) -> Result<()> {
    let stopped = broker.stop()?;
    report.add("broker", Duration::ZERO, vec![stopped.claim()]);
    if is_chosen(args, clients::DUMP) {
        let data = stopped.data().display().to_string();
        let Outcome { claims, took } =
            program::run(clients::dump()?, &[&data], stopped.directory());
        report.add(clients::DUMP, took, claims);
    }
    if report.failed == 0 {
        stopped.remove()?;
    } else {
        writeln!(
            io::stderr(),
            "logs and data are kept in {}",
            stopped.directory().display()
        )?;
    }
    Ok(())
}

/// An installed client, and the command that starts it.
struct Ready {
    client: Client,
    command: std::process::Command,
}

/// Runs a client. A client with several [`attempts`](Client::attempts) is run again after a failure.
fn attempt(ready: Ready, bootstrap: &str, directory: &Path) -> Outcome {
    let Ready { client, command } = ready;
    let mut outcome = program::run(command, &[bootstrap, client.name], directory);
    for number in 2..=client.attempts {
        if outcome.claims.iter().all(|claim| claim.failure.is_none()) {
            break;
        }
        let Ok(command) = (client.prepare)() else {
            break;
        };
        // Printed, so that a client that always needs it is noticed.
        let _ = writeln!(io::stderr(), "{}: attempt {number}", client.name);
        let prefix = format!("{}-{number}", client.name);
        outcome = program::run(command, &[bootstrap, &prefix], directory);
    }
    outcome
}

type Missing = (&'static str, String);

fn set_up(chosen: Vec<Client>) -> Result<(Vec<Ready>, Vec<Missing>)> {
    writeln!(io::stderr(), "setting up {} clients", chosen.len())?;
    let done = in_parallel(chosen, |client| ((client.prepare)(), client))?;
    let mut ready = Vec::new();
    let mut missing = Vec::new();
    for (outcome, client) in done {
        match outcome {
            Ok(command) => ready.push(Ready { client, command }),
            Err(error) => missing.push((client.name, format!("{error:#}"))),
        }
    }
    Ok((ready, missing))
}

/// Processes all items, `AT_ONCE` at a time, in the given order.
pub fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Result<Vec<R>> {
    let waiting = Mutex::new(items.into_iter());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        for index in 0..AT_ONCE {
            std::thread::Builder::new()
                .name(format!("compat-{index}"))
                .spawn_scoped(scope, || {
                    loop {
                        let next = waiting.lock().expect("no worker panics here").next();
                        let Some(item) = next else { return };
                        let outcome = work(item);
                        done.lock().expect("no worker panics here").push(outcome);
                    }
                })?;
        }
        Ok(())
    })?;
    Ok(done.into_inner().expect("no worker panics here"))
}

/// Counts what passed and failed, and prints each result when it is added.
struct Report {
    verbose: bool,
    passed: usize,
    failed: usize,
}

impl Report {
    fn new(verbose: bool) -> Self {
        Self {
            verbose,
            passed: 0,
            failed: 0,
        }
    }

    fn add(&mut self, name: &str, took: Duration, claims: Vec<Claim>) {
        let (passed, failed): (Vec<_>, Vec<_>) = claims
            .into_iter()
            .partition(|claim| claim.failure.is_none());
        self.passed += passed.len();
        self.failed += failed.len();
        let mut out = io::stdout().lock();
        // A closed pipe is not an error.
        let _ = writeln!(
            out,
            "{name}: {} passed, {} failed ({:.1} s)",
            passed.len(),
            failed.len(),
            took.as_secs_f64()
        );
        for claim in failed {
            let _ = writeln!(
                out,
                "  FAILED {name}/{}: {}",
                claim.name,
                claim.failure.unwrap_or_default()
            );
        }
        for claim in passed.iter().filter(|_| self.verbose) {
            let _ = writeln!(out, "  passed {name}/{}", claim.name);
        }
    }

    fn close(&self) -> Result<()> {
        writeln!(
            io::stdout(),
            "{} passed, {} failed",
            self.passed,
            self.failed
        )?;
        if self.failed > 0 {
            bail!("{} checks of real clients failed", self.failed);
        }
        Ok(())
    }
}
