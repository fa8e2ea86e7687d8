//! A broker under measurement, or a cluster of them: started on empty directories, stopped by a signal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::contender::{Ports, Setup};
use super::proc::Process;
use crate::port;
use crate::time::{now, pause};
use crate::toolbox;

/// The timeout of a start or a stop.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running broker, killed when dropped.
pub struct Running {
    command: Command,
    child: Child,
    /// The other nodes of its cluster.
    others: Vec<Child>,
    port: u16,
    bootstrap: String,
    directory: PathBuf,
    /// From the start of the process to its first answer.
    pub started_after: Duration,
}

impl Running {
    /// Starts a broker on an empty directory.
    pub fn start(setup: &Setup) -> Result<Self> {
        let name = format!("target/bench/{:?}-{}", setup.contender, std::process::id());
        let directory = toolbox::workspace().join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let mut ports = Vec::new();
        for _ in 0..setup.nodes {
            ports.push(Ports {
                broker: port::free()?,
                controller: port::free()?,
            });
        }
        let mut commands = Vec::new();
        for node in 0..ports.len() {
            commands.push(node_command(setup, &directory, node, &ports)?);
        }
        let start = now();
        let mut children = Vec::new();
        for command in &mut commands {
            children.push(spawn(command)?);
        }
        let bootstrap: Vec<_> = ports
            .iter()
            .map(|ports| format!("127.0.0.1:{}", ports.broker))
            .collect();
        let mut running = Self {
            command: commands.swap_remove(0),
            child: children.remove(0),
            others: children,
            port: ports[0].broker,
            bootstrap: bootstrap.join(","),
            directory,
            started_after: Duration::ZERO,
        };
        running.wait_until_served(start)?;
        Ok(running)
    }

    /// Starts a stopped broker again on its data.
    pub fn start_again(&mut self) -> Result<()> {
        let start = now();
        self.child = spawn(&mut self.command)?;
        self.wait_until_served(start)
    }

    fn wait_until_served(&mut self, start: Instant) -> Result<()> {
        let number = self.port;
        let brokers = 1 + u32::try_from(self.others.len())?;
        self.wait_until(|| port::knows(number, brokers))?;
        self.started_after = start.elapsed();
        Ok(())
    }

    /// Waits until the check holds; fails when the process ends.
    pub fn wait_until(&mut self, mut is_so: impl FnMut() -> bool) -> Result<()> {
        let start = now();
        while !is_so() {
            if start.elapsed() > PATIENCE || !self.is_alive()? {
                bail!(
                    "the broker does not answer; see {}/broker.log",
                    self.directory.display()
                );
            }
            pause(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether its process runs.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The directory with its configuration, its log and its data.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its log so far.
    pub fn said(&self) -> Result<String> {
        let said = fs::read(self.directory.join("broker.log"))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Its process in `/proc`.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// The sum of a figure over the processes of all nodes.
    pub fn sum(&self, figure: impl Fn(Process) -> Result<f64>) -> Result<f64> {
        let all = std::iter::once(&self.child).chain(&self.others);
        all.map(|child| figure(Process(child.id()))).sum()
    }

    /// Stops all nodes by a signal; returns the time that took.
    pub fn end(&mut self, signal: Signal) -> Result<Duration> {
        let start = now();
        for child in std::iter::once(&mut self.child).chain(&mut self.others) {
            let id = i32::try_from(child.id())?;
            let pid = Pid::from_raw(id).context("a child has a process id")?;
            if child.try_wait()?.is_none() {
                kill_process(pid, signal)?;
            }
        }
        for child in std::iter::once(&mut self.child).chain(&mut self.others) {
            while child.try_wait()?.is_none() {
                if start.elapsed() > PATIENCE {
                    child.kill()?;
                }
                pause(Duration::from_millis(5));
            }
        }
        Ok(start.elapsed())
    }

    /// Stops the broker and renames its directory, so that another broker can start; returns the
    /// new path.
    pub fn leave(mut self) -> Result<PathBuf> {
        self.end(Signal::TERM)?;
        let left = self.directory.with_extension(self.port.to_string());
        fs::rename(&self.directory, &left)?;
        Ok(left)
    }

    /// Stops the broker and removes its directory.
    pub fn stop(mut self) -> Result<()> {
        self.end(Signal::TERM)?;
        Ok(fs::remove_dir_all(&self.directory)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in std::iter::once(&mut self.child).chain(&mut self.others) {
            // The kill fails when the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The command of a node. The first has the directory of a single broker, the others have directories in it.
fn node_command(setup: &Setup, first: &Path, node: usize, ports: &[Ports]) -> Result<Command> {
    let directory = match node {
        0 => first.to_path_buf(),
        _ => first.join(format!("node-{}", node + 1)),
    };
    fs::create_dir_all(&directory)?;
    let mut command = setup.command(&directory, node, ports)?;
    let log = fs::File::create(directory.join("broker.log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

fn spawn(command: &mut Command) -> Result<Child> {
    let spawned = command.spawn();
    spawned.with_context(|| format!("could not start {command:?}"))
}
