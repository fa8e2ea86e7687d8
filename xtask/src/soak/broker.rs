//! The broker that is restarted again and again on one port and one directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::checks::Printed;
use super::children::{ottla, signal};
use crate::port;
use crate::time::pause;

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
const LOOKS: u32 = 1200;

/// How the broker ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// By SIGKILL.
    Kill,
    /// By SIGTERM.
    Terminate,
}

/// The broker. It is killed when dropped.
pub struct Broker {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    child: Child,
    starts: u32,
}

impl Broker {
    pub fn start(program: &Path, directory: &Path) -> Result<Self> {
        let port = port::free()?;
        let mut broker = Self {
            program: program.to_path_buf(),
            directory: directory.to_path_buf(),
            port,
            child: launch(program, directory, port, 0)?,
            starts: 1,
        };
        broker.wait_until_it_serves()?;
        Ok(broker)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn restart(&mut self, end: End) -> Result<()> {
        match end {
            End::Kill => self.child.kill()?,
            End::Terminate => signal(&self.child, Signal::TERM)?,
        }
        let status = self.child.wait()?;
        if matches!(end, End::Terminate) && !status.success() {
            bail!("the broker ended with {status} after SIGTERM");
        }
        self.child = launch(&self.program, &self.directory, self.port, self.starts)?;
        self.starts += 1;
        self.wait_until_it_serves()
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        for _ in 0..LOOKS {
            if port::serves(self.port) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the broker ended with {status} before it served");
            }
            pause(BETWEEN_LOOKS);
        }
        bail!("the broker does not serve after a minute")
    }

    /// Checks that a group has no members after they have ended, and that it has committed exactly
    /// what they printed.
    pub fn check_left_group(&self, group: &str, printed: &Printed, program: &Path) -> Result<()> {
        let arguments = ["group", "describe", group, "--output", "json"];
        let described = ottla(program, &self.address(), &arguments)?;
        let groups: Value = serde_json::from_str(&described).context("group describe is JSON")?;
        let group = &groups[0];
        if group["members"]
            .as_array()
            .is_none_or(|members| !members.is_empty())
        {
            bail!("the group still has members after all have ended: {described}");
        }
        for offset in group["offsets"].as_array().into_iter().flatten() {
            let partition = offset["partition"].as_i64().context("a partition")?;
            let committed = offset["committed"].as_i64().unwrap_or(0);
            let next = printed.next_offset(partition);
            if committed != next {
                bail!(
                    "partition {partition}: {committed} is committed, but the records before {next} were printed"
                );
            }
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(program: &Path, directory: &Path, port: u16, start: u32) -> Result<Child> {
    let log = File::create(directory.join(format!("broker-{start}.log")))?;
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:0");
    Command::new(program)
        .arg("serve")
        .args(["--override", &listeners])
        .args([
            "--override",
            &format!("log.dirs={}", directory.join("data").display()),
        ])
        .args(["--override", "ottla.http.listen="])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start the broker")
}
