//! `cargo xtask crash`, `power-cut`, `full-disk` and `stalled-disk`: a broker is killed under load,
//! or its disk loses power, fills up or stalls. All that it acknowledged must still be there.
//!
//! The load and the check are in `tests/crash/` and use stock clients. They print their seed. The
//! same seed sends the same requests; the timing of threads and kills still differs.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, ottla, python};

/// The exit status of the scripts when no image can be mounted.
const CANNOT_MOUNT: i32 = 77;

/// Options of each command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often the broker dies, or its disk fills up.
    #[arg(long)]
    rounds: Option<u32>,

    /// The seed of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    /// The options of the gate.
    pub const fn usual() -> Self {
        Self {
            rounds: None,
            seed: None,
        }
    }
}

/// Kills the broker with -9 at random moments under load; returns a summary.
pub fn crash(args: &Args) -> Result<String> {
    let rounds = args.rounds.unwrap_or(50);
    let (status, fault) = run("kill.py", rounds, args)?;
    if !status.success() {
        bail!("records, offsets or metadata that were acknowledged are not there: {fault}");
    }
    Ok(format!("{rounds} kills, nothing acknowledged was lost"))
}

/// Cuts the power of a disk image under load; returns a summary.
pub fn power_cut(args: &Args) -> Result<String> {
    let failure = "acknowledged records did not survive the cut, or the test could not check them";
    on_image(("power_cut.py", 10), args, failure, |rounds| {
        format!("{rounds} cuts, nothing acknowledged was lost")
    })
}

/// Fills a disk image, starts on it, frees space; returns a summary.
pub fn full_disk(args: &Args) -> Result<String> {
    let failure = "the broker did not survive a full disk as it must";
    on_image(("full_disk.py", 1), args, failure, |rounds| {
        format!("the disk was filled {rounds} times, nothing acknowledged was lost")
    })
}

/// Freezes one of two log directories under load; returns a summary.
pub fn stalled_disk(args: &Args) -> Result<String> {
    let failure = "a stalled disk delayed other disks, or lost records";
    on_image(("stalled_disk.py", 1), args, failure, |rounds| {
        format!("a disk stalled {rounds} times, and only requests that need it waited")
    })
}

/// Runs a script that needs a disk image, for `args.rounds` rounds or by default `rounds`.
fn on_image(
    (script, usual): (&str, u32),
    args: &Args,
    failure: &'static str,
    success: impl FnOnce(u32) -> String,
) -> Result<String> {
    let rounds = args.rounds.unwrap_or(usual);
    let (status, fault) = run(script, rounds, args)?;
    match status.code() {
        Some(0) => Ok(success(rounds)),
        Some(CANNOT_MOUNT) => {
            Ok("NOT RUN: this machine cannot mount, or freeze, an ext4 image".to_owned())
        }
        _ => bail!("{failure}: {fault}"),
    }
}

/// Runs a script; returns how it ended and the first fault that it printed.
fn run(script: &str, rounds: u32, args: &Args) -> Result<(ExitStatus, String)> {
    let interpreter = python::interpreter()?;
    let broker = ottla::binary()?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let directory =
        toolbox::workspace().join(format!("target/crash/{script}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    writeln!(io::stderr(), "{script}: {rounds} rounds, seed {seed}")?;
    let mut child = Command::new(interpreter)
        .arg(toolbox::workspace().join("tests/crash").join(script))
        .arg(broker)
        .arg(&directory)
        .args([rounds.to_string(), seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start python")?;
    let fault = child.stdout.take().map(first_fault).transpose()?;
    let status = child.wait()?;
    if status.code() == Some(1) {
        writeln!(
            io::stderr(),
            "data and logs are kept in {}",
            directory.display()
        )?;
    } else {
        std::fs::remove_dir_all(&directory)?;
    }
    let fault = fault.flatten();
    Ok((status, fault.unwrap_or_else(|| "see its output".to_owned())))
}

/// Prints what a script says as it says it; returns its first line that begins with FAULT.
fn first_fault(output: impl io::Read) -> Result<Option<String>> {
    let mut fault = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        writeln!(io::stderr(), "{line}")?;
        if fault.is_none()
            && let Some(said) = line.strip_prefix("FAULT ")
        {
            fault = Some(said.to_owned());
        }
    }
    Ok(fault)
}

#[expect(clippy::disallowed_methods, reason = "a random seed, which is printed")]
pub fn fresh_seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ since.as_secs()
}
