//! `ottla serve`: starts a broker, and stops it in order when a signal comes.
//!
//! Owns what belongs to the process: log output, signals, the limit of descriptors, threads. The
//! rest is in the crate `broker`.

mod join;
mod node_ids;
mod nodes;
mod service;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use ottla_broker::config::{self, BrokerConfig, Joining, Roles};
use ottla_broker::drivers::disk_work;
use ottla_broker::process::clock::Clock;
use ottla_broker::start::known;
use ottla_broker::{Running, StartError};
use serde_json::json;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use self::node_ids::Kept;
use crate::connect::block_on;
use crate::failure::Advised;
use crate::output::{Output, write_to_stderr};
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kafka's server.properties. Without it, the broker is a single node on 127.0.0.1:9092 with
    /// its data in ./ottla-data.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Join the cluster of this broker, as another broker, and as a controller too while fewer than
    /// three vote: the controllers, the cluster's id and a free node id come from it.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    join: Option<String>,

    /// Run this many nodes on this machine, each in a process of its own, to try a cluster. Their
    /// data is in ./ottla-data, or where `--override log.dirs=` says.
    #[arg(
        long,
        value_name = "COUNT",
        conflicts_with_all = ["config", "join", "environment"],
        value_parser = clap::value_parser!(u16).range(2..=9)
    )]
    nodes: Option<u16>,

    /// Read keys from the environment too, by the names of Apache Kafka's container image:
    /// KAFKA_ADVERTISED_LISTENERS is advertised.listeners. They override the file.
    #[arg(long)]
    environment: bool,

    /// One configuration key, which overrides the file and the environment; may be given several
    /// times.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,

    /// The format of the log, and of the line that says the broker is ready, on stderr [default:
    /// that of --output].
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,

    /// The log level: error, warn, info, debug or trace. A level may be set for a module:
    /// `info,ottla_broker::network=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        env = LOG_LEVEL_VARIABLE,
        default_value = "info",
        value_parser = LogFilter::parse
    )]
    log_level: LogFilter,
}

/// The environment variable for the log level.
const LOG_LEVEL_VARIABLE: &str = "RUST_LOG";

/// The exit status when a second signal interrupts the stop.
const ENDED_AT_ONCE: i32 = 1;

/// Levels, of all loggers or of a module.
#[derive(Debug, Clone)]
struct LogFilter(Targets);

impl LogFilter {
    /// Parses directives separated by commas. An empty text, as of a variable that is set to nothing, leaves the errors.
    fn parse(text: &str) -> Result<Self, String> {
        let directives: Vec<&str> = text.split(',').filter(|word| !word.is_empty()).collect();
        let text = match directives[..] {
            [] => "error".to_owned(),
            _ => directives.join(","),
        };
        let targets = text.parse();
        targets
            .map(Self)
            .map_err(|error: ParseError| error.to_string())
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the broker until a signal stops it.
pub fn run(args: &Args, output: Output) -> Result<()> {
    if let Some(count) = args.nodes {
        return run_nodes(usize::from(count), args, output);
    }
    let clock = Clock::start();
    let format = args.log_format.unwrap_or(match output {
        Output::Text => LogFormat::Text,
        Output::Json => LogFormat::Json,
    });
    let logs = log_to_stderr(args, format);
    ottla_broker::process::descriptors::raise_limit();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(disk_work::runtime_threads(cores))
        .max_blocking_threads(disk_work::MAX_HELD_UP)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let (config, kept) = configuration(args).await?;
        let directory = config.storage.log_dirs.first().cloned();
        let started = start(config, clock).await;
        if let (Err(_), Some(kept)) = (&started, kept)
            && directory.is_none_or(|directory| is_new(&directory))
        {
            kept.give_back().await;
        }
        let (running, mut stop) = started?;
        logs.give_to(&running);
        if args.config.is_some() && running.is_new {
            warn_of_formatting(&running);
        }
        log_start(&running);
        warn_of_exposure(&running);
        announce(&running, format);
        service::notify(service::READY);
        let signal = stop.wait().await;
        tracing::info!(signal, "stopping; a second signal ends the process at once");
        service::notify(service::STOPPING);
        tokio::select! {
            () = running.shut_down() => tracing::info!("stopped"),
            _ = stop.wait() => end_at_once(),
        }
        Ok(())
    })
}

/// Runs several nodes until a signal stops them. Each gets the options of this command but for `log.dirs`.
fn run_nodes(count: usize, args: &Args, output: Output) -> Result<()> {
    let is_directory = |text: &&String| join::is_data_directory(text);
    let overrides = args.overrides.iter().filter(|text| !is_directory(text));
    let mut arguments: Vec<String> = overrides
        .flat_map(|text| ["--override".to_owned(), text.clone()])
        .collect();
    arguments.extend(["--log-level".to_owned(), args.log_level.0.to_string()]);
    let output = match args.log_format {
        Some(LogFormat::Text) => Output::Text,
        Some(LogFormat::Json) => Output::Json,
        None => output,
    };
    if output == Output::Json {
        arguments.extend(["--log-format".to_owned(), "json".to_owned()]);
    }
    let directory = join::data_directory(&args.overrides);
    block_on(nodes::run(count, &directory, &arguments, output))
}

/// Ends the process without waiting for its threads, which may be blocked on a stalled disk.
fn end_at_once() -> ! {
    tracing::error!(
        "a second signal ends the process at once; the next start recovers the logs that were not closed"
    );
    std::process::exit(ENDED_AT_ONCE)
}

/// Reads the configuration, and logs what the operator should know about it.
async fn configuration(args: &Args) -> Result<(BrokerConfig, Option<Kept>)> {
    let environment = if args.environment {
        variables()
    } else {
        Vec::new()
    };
    let mut kept = None;
    let loaded = match (&args.config, &args.join) {
        (None, Some(address)) => {
            let mut joins = join::joining(address, &args.overrides).await?;
            let load =
                |joining: &Joining| config::load_joining(joining, &environment, &args.overrides);
            // A node with a wrong configuration takes no id, nor does one that is given its own.
            let loaded = load(&joins.joining)?;
            if loaded.config.node_id == joins.joining.node {
                kept = joins.keep_node_id().await?;
                load(&joins.joining)?
            } else {
                loaded
            }
        }
        (None, None) => config::load_with_environment(None, &environment, &args.overrides)?,
        (Some(path), _) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {name}"))?;
            let file = config::File {
                name: &name,
                text: &text,
            };
            config::load_with_environment(Some(file), &environment, &args.overrides)?
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok((loaded.config, kept))
}

/// Whether the log directory belongs to no node.
fn is_new(directory: &Path) -> bool {
    known(directory, directory).is_ok_and(|known| known.is_none())
}

/// The process's environment. A name or value that is not UTF-8 is passed on with replacement
/// characters, so that the check of the keys refuses it by name.
fn variables() -> Vec<config::Variable> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect()
}

async fn start(config: BrokerConfig, clock: Clock) -> Result<(Running, Stop)> {
    // Before the ready line, because its reader may send a signal at once.
    let stop = Stop::watch()?;
    let running = ottla_broker::start(config, clock).await;
    Ok((running.map_err(with_next_step)?, stop))
}

/// Adds the next step to the error of a port that is in use.
fn with_next_step(error: StartError) -> anyhow::Error {
    let is_in_use = |source: &io::Error| source.kind() == io::ErrorKind::AddrInUse;
    let key = match &error {
        StartError::Listen { source, .. } if is_in_use(source) => {
            "listeners=PLAINTEXT://127.0.0.1:PORT"
        }
        StartError::Http { source, .. } if is_in_use(source) => "ottla.http.listen=127.0.0.1:PORT",
        _ => return error.into(),
    };
    Advised {
        error: error.into(),
        next: format!(
            "stop the process that uses the port, or choose another port, for example --override {key}"
        ),
    }
    .into()
}

/// Warns when configured log directories were empty and have been formatted. Kafka requires
/// formatting by hand; an empty directory may mean that a disk is not mounted or a name is
/// misspelt.
fn warn_of_formatting(running: &Running) {
    let directories = running.broker.replicas.directories().iter();
    let directories: Vec<_> = directories.map(|directory| directory.log.path()).collect();
    let cluster = match running.broker.config.quorum.roles {
        Roles::Broker => "the controllers' cluster",
        Roles::BrokerAndController | Roles::Controller => "a new cluster",
    };
    tracing::warn!(
        ?directories,
        cluster_id = running.broker.cluster_id.as_str(),
        "the log directories were empty and have been formatted for {cluster}; if there should have been data, stop \
         the broker, check log.dirs and the mounts, and remove the new directories"
    );
}

/// Logs one line: version, data directories, listeners.
fn log_start(running: &Running) {
    let broker = &running.broker;
    let directories: Vec<PathBuf> = broker
        .replicas
        .directories()
        .iter()
        .map(|directory| absolute(directory.log.path()))
        .collect();
    let listeners: Vec<String> = running
        .addresses
        .iter()
        .map(|(name, address)| format!("{name}://{address}"))
        .collect();
    let metrics = running.http_address.map_or_else(
        || "none".to_owned(),
        |address| format!("http://{}/metrics", dialable(address)),
    );
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node_id = broker.config.node_id.0,
        cluster_id = broker.cluster_id.as_str(),
        log_dirs = ?directories,
        data = if running.is_new { "new" } else { "existing" },
        listeners = listeners.join(","),
        metrics,
        "started"
    );
}

/// Warns about a listener that is not on loopback, and about missing `advertised.listeners`.
fn warn_of_exposure(running: &Running) {
    let configured = &running.broker.config.network.listeners;
    for ((name, address), listener) in running.addresses.iter().zip(configured) {
        if address.ip().to_canonical().is_loopback() {
            continue;
        }
        tracing::warn!(
            listener = %format!("{name}://{address}"),
            "this listener is plaintext and without authentication: every client that reaches it can read and change everything; \
             bind it to loopback or to a private network"
        );
        if listener.advertised.is_none() {
            tracing::warn!(
                listener = name,
                "advertised.listeners is not set: clients are told the address that they reached, as this host sees it; \
                 behind a port mapping or a proxy, set it to the address that clients dial"
            );
        }
    }
}

/// The absolute path, with links resolved where possible.
fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

/// The ready line: where to connect, and what to type next. The program is named as it was started,
/// so that the command works even if `ottla` is not in the path.
fn announce(running: &Running, format: LogFormat) {
    let clients = running.addresses.first();
    let Some((_, address)) = clients.or(running.controller_addresses.first()) else {
        return;
    };
    let dial = dialable(*address);
    let program = std::env::args().next();
    let program = program.as_deref().unwrap_or("ottla");
    let line = if clients.is_some() {
        format!("ottla is ready on {dial}; next: {program} produce --bootstrap-server {dial} TOPIC")
    } else {
        format!(
            "the controller is ready on {dial}; next: start brokers whose controllers it is among"
        )
    };
    match format {
        LogFormat::Text => write_to_stderr(&line),
        LogFormat::Json => {
            let document = json!({ "message": line, "address": dial.to_string() });
            write_to_stderr(&document.to_string());
        }
    }
}

/// An address that a client on this host can connect to.
fn dialable(address: SocketAddr) -> SocketAddr {
    let mut dial = address;
    if address.ip().is_unspecified() {
        dial.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    dial
}

/// The log filter, and the handle that replaces it while the broker runs.
struct Logs {
    first: String,
    handle: reload::Handle<Targets, Registry>,
}

impl Logs {
    /// Lets IncrementalAlterConfigs change the levels.
    fn give_to(self, running: &Running) {
        let handle = self.handle;
        running
            .broker
            .log_levels
            .control(self.first, move |filter: &str| {
                let LogFilter(targets) = LogFilter::parse(filter)?;
                handle.reload(targets).map_err(|error| error.to_string())
            });
    }
}

fn log_to_stderr(args: &Args, format: LogFormat) -> Logs {
    let LogFilter(targets) = args.log_level.clone();
    let first = targets.to_string();
    let (filter, handle) = reload::Layer::new(targets);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Logs { first, handle }
}

#[cfg(test)]
mod tests {
    use super::LogFilter;

    #[test]
    fn levels_are_parsed_and_an_empty_text_leaves_the_errors() {
        let parsed = |text| LogFilter::parse(text).map(|LogFilter(targets)| targets.to_string());
        assert_eq!(parsed(""), Ok("error".to_owned()));
        assert_eq!(parsed("warn,"), Ok("warn".to_owned()));
        assert!(parsed("info,ottla_broker::network=debug").is_ok());
        assert!(parsed("ottla=loud").is_err());
    }
}
