//! The programs beside the broker: consumers that print to files, and a producer that reads lines.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{RECORDS_PER_SECOND, TOPIC};
use crate::time::{now, pause};

/// The format of a printed record.
const FORMAT: &str = "%p %o %s\\n";
const BETWEEN_LINES: Duration = Duration::from_millis(50);
/// Probe records, which show that a consumer reads, have numbers from here on.
const FIRST_PROBE: u64 = 1 << 40;
const PROBES: u64 = 500;
/// The timeout for the end of a member; it also holds while the broker starts.
const LONGEST_END: Duration = Duration::from_mins(1);

/// How a consumer ends.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Interrupt,
    Terminate,
    Hangup,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Terminate, Self::Hangup, Self::Interrupt];

    fn signal(self) -> Signal {
        match self {
            Self::Interrupt => Signal::INT,
            Self::Terminate => Signal::TERM,
            Self::Hangup => Signal::HUP,
        }
    }
}

/// A running `ottla consume`. It is killed when dropped.
pub struct Consumer {
    child: Child,
    pub output: PathBuf,
}

impl Consumer {
    pub fn start(
        program: &Path,
        address: &str,
        output: PathBuf,
        arguments: &[&str],
    ) -> Result<Self> {
        let messages = File::create(output.with_extension("err"))?;
        let child = Command::new(program)
            .args(["consume", TOPIC, "-b", address, "--format", FORMAT])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(messages)
            .spawn()
            .context("cannot start a consumer")?;
        Ok(Self { child, output })
    }

    pub fn is_member(&self) -> bool {
        let name = self.output.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("member")
    }

    /// Writes probe records until this consumer, which begins at the end, prints one.
    pub fn wait_until_it_reads(&self, program: &Path, address: &str) -> Result<()> {
        for probe in FIRST_PROBE..FIRST_PROBE + PROBES {
            produce(program, address, &format!("{probe}\n"))?;
            if !fs::read(&self.output)?.is_empty() {
                return Ok(());
            }
        }
        bail!("{} reads nothing", self.output.display())
    }

    /// Stops it, and waits for its end.
    pub fn end(mut self, way: Way) -> Result<Self> {
        signal(&self.child, way.signal())?;
        let begun = now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(self);
                }
                let said = fs::read_to_string(self.output.with_extension("err"))?;
                bail!("{} ended with {status}: {said}", self.output.display());
            }
            if begun.elapsed() > LONGEST_END {
                bail!("{} does not end after {way:?}", self.output.display());
            }
            pause(BETWEEN_LINES);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ottla produce`, and the thread that writes numbered lines to it.
pub struct Feed {
    child: Child,
    lines: JoinHandle<std::io::Result<u64>>,
    is_over: Arc<AtomicBool>,
    messages: PathBuf,
}

impl Feed {
    pub fn start(program: &Path, address: &str, messages: PathBuf) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["produce", TOPIC, "-b", address, "--key-separator", ":"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&messages)?)
            .spawn()
            .context("cannot start the producer")?;
        let mut input = child.stdin.take().context("a producer has an input")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let per_pause = u64::from(RECORDS_PER_SECOND) * 50 / 1000;
        let lines = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || {
                let mut next = 0;
                while !over.load(Ordering::Relaxed) {
                    for number in next..next + per_pause {
                        writeln!(input, "{number}:{number}")?;
                    }
                    next += per_pause;
                    pause(BETWEEN_LINES);
                }
                Ok(next)
            })?;
        Ok(Self {
            child,
            lines,
            is_over,
            messages,
        })
    }

    /// Ends the input; returns the number of records written, which must equal the number of lines.
    pub fn finish(mut self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let lines = self.lines.join().expect("writing lines does not panic");
        let status = self.child.wait()?;
        let said = fs::read_to_string(&self.messages)?;
        let lines = lines.with_context(|| format!("the producer ended with {status}: {said}"))?;
        let wrote = format!("wrote {lines} records ");
        if !status.success() || !said.lines().any(|line| line.starts_with(&wrote)) {
            bail!("of {lines} lines the producer, which ended with {status}, said: {said}");
        }
        Ok(lines)
    }
}

/// Runs a command to its end; returns its stdout.
pub fn ottla(program: &Path, address: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("OTTLA_BOOTSTRAP_SERVERS", address)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ottla {}: {said}", arguments.join(" "));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn produce(program: &Path, address: &str, lines: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(["produce", TOPIC, "-b", address])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("a producer has an input")?;
    input.write_all(lines.as_bytes())?;
    drop(input);
    let status = child.wait()?;
    if !status.success() {
        bail!("a producer ended with {status}");
    }
    Ok(())
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(id.context("a child has a process id")?, signal)?;
    Ok(())
}
