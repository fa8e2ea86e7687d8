//! `ottla serve --nodes N`: a cluster of several nodes on this machine, each in a process of its own, to try it.
//!
//! The first start writes a configuration file for each node, with ports that are free then; later starts use the files as
//! they are. A node that dies is not started again by itself: what a cluster does without it is what there is to see.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use ottla_broker::config::properties;
use ottla_broker::process::random::unreserved_id;
use ottla_log::files::disk::Disk;
use ottla_log::files::{Files as _, read_whole, replace_durably};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::output::{Output, write_to_stderr};
use crate::stop::Stop;

/// The ports that the first node takes if they are free; each further node takes the next two.
const FIRST_PORT: u16 = 9092;
/// The first port of `/metrics` and `/ready`.
const FIRST_HTTP_PORT: u16 = 9464;
/// What a line of a node says once it serves.
const READY: &str = "ottla is ready on ";
const MAX_FILE: u64 = 1024 * 1024;

/// What happens to a node.
enum Event {
    Line(usize, String),
    Ended(usize, std::io::Result<ExitStatus>),
}

/// A running node.
struct Node {
    number: usize,
    file: PathBuf,
    address: String,
    pid: Option<Pid>,
    is_ready: bool,
}

/// Runs `count` nodes with their data in `directory` until a signal stops them. `arguments` are further ones of each node.
pub async fn run(
    count: usize,
    directory: &Path,
    arguments: &[String],
    output: Output,
) -> Result<()> {
    let mut stop = Stop::watch()?;
    let mut is_stopping = false;
    let files = configured(count, directory)?;
    let (events, mut happens) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    let mut nodes = Vec::new();
    for (index, (file, address)) in files.into_iter().enumerate() {
        let child = start(&file, arguments)?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        nodes.push(Node {
            number: index + 1,
            file,
            address,
            pid,
            is_ready: false,
        });
        tasks.spawn(follow(index, child, events.clone()));
    }
    drop(events);
    loop {
        let event = tokio::select! {
            event = happens.recv() => event,
            signal = stop.wait() => {
                is_stopping = true;
                say(output, &format!("{signal}: stopping {count} nodes"));
                for pid in nodes.iter().filter_map(|node| node.pid) {
                    // A node that has ended meanwhile needs no signal.
                    let _ = kill_process(pid, Signal::TERM);
                }
                continue;
            }
        };
        match event {
            Some(Event::Ended(_, Ok(status))) if is_stopping && status.success() => {}
            Some(event) => on_event(&mut nodes, event, output),
            None => return Ok(()),
        }
    }
}

/// Writes a message of this process.
fn say(output: Output, message: &str) {
    match output {
        Output::Text => write_to_stderr(message),
        Output::Json => write_to_stderr(&json!({ "message": message }).to_string()),
    }
}

/// Passes on a line of a node.
fn pass_on(output: Output, node: usize, line: &str) {
    match output {
        Output::Text => write_to_stderr(&format!("node {node} | {line}")),
        Output::Json => {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| line.into());
            write_to_stderr(&json!({ "node": node, "line": line }).to_string());
        }
    }
}

fn on_event(nodes: &mut [Node], event: Event, output: Output) {
    match event {
        Event::Line(index, line) => {
            pass_on(output, index + 1, &line);
            if let Some(node) = nodes.get_mut(index)
                && line.contains(READY)
                && !std::mem::replace(&mut node.is_ready, true)
                && nodes.iter().all(|node| node.is_ready)
            {
                say(output, &announcement(nodes));
            }
        }
        Event::Ended(index, status) => {
            let Some(node) = nodes.get_mut(index) else {
                return;
            };
            node.pid = None;
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let (number, program, file) = (node.number, program(), node.file.display());
            say(
                output,
                &format!(
                    "node {number} has ended ({status}); start it again: {program} serve --config {file}"
                ),
            );
        }
    }
}

/// The ready line: how to kill a node, and what to watch.
fn announcement(nodes: &[Node]) -> String {
    let addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    let addresses = addresses.join(",");
    let last = nodes.last().and_then(|node| Some((node.number, node.pid?)));
    let kill = last.map_or(String::new(), |(number, pid)| {
        format!("; kill node {number}: kill -9 {}", pid.as_raw_nonzero())
    });
    format!(
        "{} nodes are ready on {addresses}{kill}; watch: {} cluster -b {addresses}",
        nodes.len(),
        program()
    )
}

/// The program as it was started, so that the commands work even if `ottla` is not in the path.
fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "ottla".to_owned())
}

fn start(file: &Path, arguments: &[String]) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find the program of this process")?;
    Command::new(program)
        .args(["serve", "--config"])
        .arg(file)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        // A signal of the terminal is passed on by this process.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a node")
}

/// Passes on the lines of a node, and its end.
async fn follow(index: usize, mut child: Child, events: mpsc::Sender<Event>) {
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if events.send(Event::Line(index, line)).await.is_err() {
                return;
            }
        }
    }
    let ended = Event::Ended(index, child.wait().await);
    let _ = events.send(ended).await;
}

/// The configuration file and the address of each node. Files that are not there are written, all of them or none.
fn configured(count: usize, directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let file = |number: usize| directory.join(format!("node-{number}.properties"));
    if Disk.status(&directory.join("meta.properties"))?.is_some() {
        bail!(
            "{} has the data of a single node; choose another directory with --override log.dirs=DIRECTORY",
            directory.display()
        );
    }
    if Disk.status(&file(1))?.is_none() {
        create(directory)?;
        let directory = std::path::absolute(directory)?;
        let ports = ports(count)?;
        let id = unreserved_id().to_string();
        for number in 1..=count {
            let text = text(&directory, (number, &id), &ports);
            replace_durably(&Disk, &file(number), text.as_bytes())?;
        }
    }
    let node = |number: usize| {
        let path = file(number);
        let text = read_whole(&Disk, &path, MAX_FILE)?;
        let text = text.with_context(|| {
            format!(
                "{} is missing: the cluster there has fewer than {count} nodes; give --nodes {}",
                path.display(),
                number - 1
            )
        })?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let entries = properties::parse(&text);
        let mut listeners = entries.iter().filter(|entry| entry.key == "listeners");
        let listener = listeners
            .next()
            .and_then(|entry| entry.value.split(',').next());
        let address = listener.and_then(|listener| listener.split_once("://"));
        let address = address.map_or("", |(_, address)| address).to_owned();
        Ok((path, address))
    };
    (1..=count).map(node).collect()
}

fn create(directory: &Path) -> Result<()> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| *path != Path::new("") && matches!(Disk.status(path), Ok(None)))
        .collect();
    for path in missing.into_iter().rev() {
        Disk.create_directory(path)?;
    }
    Ok(())
}

/// The ports of a node: for clients, for controllers, for `/metrics`.
type Ports = [u16; 3];

/// Ports that are free now: the usual ones, or others.
fn ports(count: usize) -> Result<Vec<Ports>> {
    // All are held until all are found, so that no port is found twice.
    let mut held = Vec::new();
    let mut free = |wanted: u16| -> Result<u16> {
        let bound = TcpListener::bind(("127.0.0.1", wanted));
        let bound = bound.or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
        let listener = bound.context("there is no free port")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    let steps = 0..u16::try_from(count).unwrap_or(u16::MAX);
    let node = |step: u16| {
        Ok([
            free(FIRST_PORT + 2 * step)?,
            free(FIRST_PORT + 2 * step + 1)?,
            free(FIRST_HTTP_PORT + step)?,
        ])
    };
    steps.map(node).collect()
}

fn text(directory: &Path, (number, cluster_id): (usize, &str), ports: &[Ports]) -> String {
    let voters: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(index, [_, port, _])| format!("{}@127.0.0.1:{port}", index + 1))
        .collect();
    let [port, controller, http] = ports.get(number - 1).copied().unwrap_or_default();
    let replicas = ports.len().min(3);
    format!(
        "# Node {number} of a cluster on this machine, written by ottla serve --nodes.\n\
         process.roles=broker,controller\n\
         node.id={number}\n\
         ottla.cluster.id={cluster_id}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.voters={}\n\
         log.dirs={}\n\
         ottla.http.listen=127.0.0.1:{http}\n\
         default.replication.factor={replicas}\n\
         offsets.topic.replication.factor={replicas}\n\
         group.initial.rebalance.delay.ms=0\n",
        voters.join(","),
        directory.join(format!("node-{number}")).display()
    )
}

#[cfg(test)]
mod tests {
    use super::configured;

    #[test]
    fn files_are_written_once_and_a_larger_cluster_is_not_made_of_a_smaller_one() {
        let directory = tempfile::tempdir().unwrap();
        let first = configured(3, directory.path()).unwrap();
        let addresses: Vec<&str> = first.iter().map(|(_, address)| address.as_str()).collect();
        assert!(
            addresses
                .iter()
                .all(|address| address.starts_with("127.0.0.1:")),
            "{addresses:?}"
        );
        assert_eq!(configured(3, directory.path()).unwrap(), first);
        let refused = configured(4, directory.path()).unwrap_err().to_string();
        assert!(refused.ends_with("give --nodes 3"), "{refused}");
    }
}
