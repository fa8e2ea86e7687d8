//! The broker under test: Ottla, or Apache Kafka to check the suite itself.
//!
//! Both use `tests/compat/server.properties`. Each run has its own directory below `target/compat`.
//! Brokers are stopped by their process id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::program::Claim;
use crate::port;
use crate::time::pause;
use crate::toolbox::{self, java, ottla};

/// The time between two checks of a process.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The broker of this checkout.
    Ottla,
    /// Apache Kafka, in the release that Ottla is compared with.
    Kafka,
}

/// A running broker, killed when dropped.
pub struct Broker {
    kind: Kind,
    child: Child,
    port: u16,
    directory: PathBuf,
    log: PathBuf,
}

impl Broker {
    /// Starts a broker on an empty data directory and waits until it serves.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, "")
    }

    /// As [`Self::start`], with additional properties, which replace those with the same keys.
    pub fn start_with(kind: Kind, additions: &str) -> Result<Self> {
        let port = port::free()?;
        let run = format!("target/compat/{kind:?}-{}-{port}", std::process::id());
        let directory = toolbox::workspace().join(run);
        fs::create_dir_all(&directory)?;
        let config = directory.join("server.properties");
        let template =
            fs::read_to_string(toolbox::workspace().join("tests/compat/server.properties"))?;
        let text = filled(&merged(&template, additions), port, &directory.join("data"))?;
        fs::write(&config, text)?;
        if kind == Kind::Kafka {
            format(&config)?;
        }
        let command = command(kind, &config)?;
        Self::launch(kind, command, port, &directory.join("broker.log"))
    }

    /// Runs `command`, which is a broker of this kind on `port`, in the directory of `log`, and waits until it serves.
    pub fn launch(kind: Kind, command: Command, port: u16, log: &Path) -> Result<Self> {
        let mut broker = Self::launch_without_waiting(kind, command, port, log)?;
        broker.wait_until_ready()?;
        Ok(broker)
    }

    /// The same for one that serves only when others run too.
    pub fn launch_without_waiting(
        kind: Kind,
        mut command: Command,
        port: u16,
        log: &Path,
    ) -> Result<Self> {
        let directory = log.parent().context("a log lies in a directory")?;
        let output = File::create(log)?;
        let child = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("could not start {command:?}"))?;
        Ok(Self {
            kind,
            child,
            port,
            directory: directory.to_path_buf(),
            log: log.to_path_buf(),
        })
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory with the logs and the data of this run.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until it serves.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        for _ in 0..600 {
            if port::serves(self.port) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(&self.log)?;
                bail!("the broker ended with {status} before it served:\n{log}");
            }
            pause(BETWEEN_LOOKS);
        }
        bail!(
            "the broker does not serve after a minute; see {}",
            self.log.display()
        )
    }

    /// Stops the broker by SIGTERM, and waits for its end.
    pub fn stop(mut self) -> Result<Stopped> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a child has a process id")?;
        kill_process(pid, Signal::TERM)?;
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Stopped {
                    kind: self.kind,
                    status: Some(status),
                    directory: self.directory.clone(),
                });
            }
            pause(BETWEEN_LOOKS);
        }
        self.child.kill()?;
        Ok(Stopped {
            kind: self.kind,
            status: None,
            directory: self.directory.clone(),
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stopped broker, and its files.
pub struct Stopped {
    kind: Kind,
    status: Option<ExitStatus>,
    directory: PathBuf,
}

impl Stopped {
    /// The claim that it stopped in order.
    pub fn claim(&self) -> Claim {
        let name = "stops_cleanly";
        let Some(status) = self.status else {
            return Claim::failed(name, "still running a minute after SIGTERM");
        };
        // A JVM that ran its shutdown hooks still reports the signal.
        let clean = match self.kind {
            Kind::Ottla => status.success(),
            Kind::Kafka => status.code() == Some(143),
        };
        if clean {
            Claim::passed(name)
        } else {
            Claim::failed(name, status.to_string())
        }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes all files of the run.
    pub fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(self.directory)?)
    }
}

/// A configuration with the ports and the data directory filled in.
pub fn filled(template: &str, port: u16, data: &Path) -> Result<String> {
    Ok(template
        .replace("{broker.port}", &port.to_string())
        .replace("{controller.port}", &port::free()?.to_string())
        .replace("{data}", &data.display().to_string()))
}

/// The lines of `template` whose keys `additions` does not set, then `additions`.
fn merged(template: &str, additions: &str) -> String {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.to_owned());
    let replaced: Vec<String> = additions.lines().filter_map(key).collect();
    let mut merged = String::new();
    for line in template.lines() {
        if !key(line).is_some_and(|key| replaced.contains(&key)) {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    merged + additions
}

/// The command of this checkout's broker, built in the target directory of xtask.
pub fn serve(config: &Path) -> Result<Command> {
    let mut command = Command::new(ottla::binary()?);
    command.arg("serve").arg("--config").arg(config);
    Ok(command)
}

/// The command of a broker of this kind. For Kafka it formats the directory first.
pub fn command(kind: Kind, config: &Path) -> Result<Command> {
    match kind {
        Kind::Ottla => serve(config),
        Kind::Kafka => {
            let mut command = java::kafka()?;
            command.arg("kafka.Kafka").arg(config);
            Ok(command)
        }
    }
}

fn format(config: &Path) -> Result<()> {
    let format = java::kafka()?
        .args([
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            "b3R0bGEtY29tcGF0LTAwMQ",
            // The level at which Ottla formats, so that both have the same features.
            "--release-version",
            "4.3",
            "--config",
        ])
        .arg(config)
        .output()?;
    if !format.status.success() {
        bail!(
            "kafka-storage format failed:\n{}",
            String::from_utf8_lossy(&format.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_replace_what_has_their_key() {
        assert_eq!(
            merged(
                "# both\nnode.id=1\nlog.dirs=x\n",
                "node.id=0\nnum.partitions=4\n"
            ),
            "# both\nlog.dirs=x\nnode.id=0\nnum.partitions=4\n"
        );
    }
}
