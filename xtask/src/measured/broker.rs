//! A broker under measurement: started on an empty directory, stopped by a signal.

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
        let ports = Ports {
            broker: port::free()?,
            controller: port::free()?,
        };
        let mut command = setup.command(&directory, ports)?;
        let log = fs::File::create(directory.join("broker.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let start = now();
        let child = spawn(&mut command)?;
        let mut running = Self {
            command,
            child,
            port: ports.broker,
            bootstrap: format!("127.0.0.1:{}", ports.broker),
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
        self.wait_until(|| port::serves(number))?;
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

    /// Stops the broker by a signal; returns the time that took.
    pub fn end(&mut self, signal: Signal) -> Result<Duration> {
        let id = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(id).context("a child has a process id")?;
        let start = now();
        if self.is_alive()? {
            kill_process(pid, signal)?;
        }
        while self.is_alive()? {
            if start.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            pause(Duration::from_millis(5));
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
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let spawned = command.spawn();
    spawned.with_context(|| format!("could not start {command:?}"))
}
