//! A broker under measurement: started on an empty directory, ended as its operators end it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::contender::{Contender, Durability, Ports};
use super::proc::Process;
use crate::toolbox;

/// The longest that a start or a stop may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A broker that answers. It is killed when dropped.
pub struct Running {
    child: Child,
    bootstrap: String,
    directory: PathBuf,
    /// From the start of the process to its first answer.
    pub started_after: Duration,
}

impl Running {
    /// Starts a broker on an empty directory.
    pub fn start(contender: Contender, durability: Durability) -> Result<Self> {
        let name = format!("target/bench/{contender:?}-{}", std::process::id());
        let directory = toolbox::workspace().join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let ports = Ports {
            broker: free_port()?,
            controller: free_port()?,
        };
        let mut command = contender.command(durability, &directory, ports)?;
        let log = fs::File::create(directory.join("broker.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let start = now();
        let child = command
            .spawn()
            .with_context(|| format!("could not start {command:?}"))?;
        let mut running = Self {
            child,
            bootstrap: format!("127.0.0.1:{}", ports.broker),
            directory,
            started_after: Duration::ZERO,
        };
        running.wait_until(|| answers(ports.broker))?;
        running.started_after = start.elapsed();
        Ok(running)
    }

    /// Waits, while the process lives, until something is so.
    pub fn wait_until(&mut self, mut is_so: impl FnMut() -> bool) -> Result<()> {
        let start = now();
        while !is_so() {
            if start.elapsed() > PATIENCE || self.child.try_wait()?.is_some() {
                bail!(
                    "the broker does not answer; see {}/broker.log",
                    self.directory.display()
                );
            }
            pause(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What `/proc` knows of it.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Ends the broker and removes what it wrote.
    pub fn stop(mut self) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(id).context("a child has a process id")?;
        kill_process(pid, Signal::TERM)?;
        let start = now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            pause(Duration::from_millis(20));
        }
        Ok(fs::remove_dir_all(&self.directory)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether the broker answers a Metadata request, version 1, for no topic with itself as its one broker.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0])?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer[11] == 1)
    };
    ask().unwrap_or(false)
}

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a process outside does not say when it starts to serve or ends"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
