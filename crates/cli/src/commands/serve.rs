//! `ottla serve`: a broker, from the command line to the last closed file.
//!
//! Owns what belongs to the process and not to the broker: its logs, its signals, its descriptors, its threads.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use ottla_broker::Running;
use ottla_broker::clock::Clock;
use ottla_broker::config::{self, BrokerConfig};
use ottla_broker::disk_work;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What `ottla serve` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kafka's server.properties; without one, a single node on 127.0.0.1:9092 with its data in ./ottla-data.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// One configuration key, over the file's; may be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,

    /// How logs are written to stderr.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// The exit status when a second signal did not let the stop come to its end.
const ENDED_AT_ONCE: i32 = 1;

/// How a log line looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the broker until it is told to stop.
pub fn run(args: &Args) -> Result<()> {
    let clock = Clock::start();
    log_to_stderr(args.log_format);
    ottla_broker::descriptors::raise_limit();
    let config = configuration(args)?;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(disk_work::runtime_threads(cores))
        .max_blocking_threads(disk_work::MAX_HELD_UP)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let (running, mut signals) = start(config, clock).await?;
        if args.config.is_some() && running.is_new {
            warn_of_formatting(&running);
        }
        announce(&running);
        signals.wait().await;
        tokio::select! {
            () = running.shut_down() => Ok(()),
            () = signals.wait() => end_at_once(),
        }
    })
}

/// Ends the process whatever its threads wait for, a disk that stands still perhaps.
fn end_at_once() -> ! {
    tracing::error!(
        "a second signal ends the process at once; the next start recovers what is not closed"
    );
    std::process::exit(ENDED_AT_ONCE)
}

/// Reads the configuration and says what the operator should know of it.
fn configuration(args: &Args) -> Result<BrokerConfig> {
    let loaded = match &args.config {
        None => config::load(None, &args.overrides)?,
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {name}"))?;
            let file = config::File {
                name: &name,
                text: &text,
            };
            config::load(Some(file), &args.overrides)?
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}

/// What ends the process in good order.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn start(config: BrokerConfig, clock: Clock) -> Result<(Running, Signals)> {
    // Before the ready line: whoever reads it may send a signal at once.
    let signals = Signals {
        interrupt: signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?,
        terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
    };
    let running = ottla_broker::start(config, clock).await?;
    Ok((running, signals))
}

/// Kafka wants a configured directory to be formatted by hand; a directory that should have held data is empty when its
/// disk is not mounted, or its name misspelt.
fn warn_of_formatting(running: &Running) {
    let directories = running.broker.replicas.directories().all().iter();
    let directories: Vec<_> = directories.map(|directory| directory.log.path()).collect();
    tracing::warn!(
        ?directories,
        cluster_id = running.broker.cluster_id.as_str(),
        "the log directories were empty and have been formatted for a new cluster; if there should have been data, stop \
         the broker, look at log.dirs and at what is mounted, and remove what was made"
    );
}

/// The ready line: where to connect, and what to type next.
fn announce(running: &Running) {
    let Some((_, address)) = running.addresses.first() else {
        return;
    };
    let dial = dialable(*address);
    // Nobody reading the line is no reason to stop.
    let _ = writeln!(
        io::stderr(),
        "ottla is ready on {dial}; next: ottla produce --bootstrap-server {dial} TOPIC"
    );
}

/// An address that a client on this host can connect to.
fn dialable(address: SocketAddr) -> SocketAddr {
    let mut dial = address;
    if address.ip().is_unspecified() {
        dial.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    dial
}

/// Quiet when all is well: warnings, errors and the progress of a long recovery, or what `RUST_LOG` asks for.
const DEFAULT_FILTER: &str = "warn,ottla_broker::replicas::recovery_progress=info";

fn log_to_stderr(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}
