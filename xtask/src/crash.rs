//! `cargo xtask crash`, `power-cut`, `full-disk` and `stalled-disk`: a broker dies under load, or its disk fills up or
//! stands still, and what it acknowledged must be there.
//!
//! The load and the check are `tests/crash/`, over stock clients. Both print their seed; the same seed sends the
//! same requests, though threads and kills fall where they may.

use std::io::{self, Write as _};
use std::process::{Command, ExitStatus};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::toolbox::{self, ottla, python};

/// What the scripts end with where no image can be mounted.
const CANNOT_MOUNT: i32 = 77;

/// Options of each command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often the broker dies, or its disk fills up.
    #[arg(long)]
    rounds: Option<u32>,

    /// Repeats a run's choices.
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    /// As the gate runs them.
    pub const fn usual() -> Self {
        Self {
            rounds: None,
            seed: None,
        }
    }
}

/// Kills the broker with -9 at random moments under load; says what was shown.
pub fn crash(args: &Args) -> Result<String> {
    let rounds = args.rounds.unwrap_or(50);
    let status = run("kill.py", rounds, args)?;
    if !status.success() {
        bail!("records, offsets or metadata that were acknowledged are not there");
    }
    Ok(format!("{rounds} kills, nothing acknowledged was lost"))
}

/// Cuts the power of a disk image under load; says what was shown.
pub fn power_cut(args: &Args) -> Result<String> {
    let failure = "what was acknowledged did not survive the cut, or the test cannot see it";
    on_image(("power_cut.py", 10), args, failure, |rounds| {
        format!("{rounds} cuts, nothing acknowledged was lost")
    })
}

/// Fills a disk image up, starts on it, frees space; says what was shown.
pub fn full_disk(args: &Args) -> Result<String> {
    let failure = "a full disk is not survived as it must be";
    on_image(("full_disk.py", 1), args, failure, |rounds| {
        format!("the disk was filled {rounds} times, nothing acknowledged was lost")
    })
}

/// Freezes one of two log directories under load; says what was shown.
pub fn stalled_disk(args: &Args) -> Result<String> {
    let failure = "a disk that stands still holds up others, or loses records";
    on_image(("stalled_disk.py", 1), args, failure, |rounds| {
        format!("a disk stood still {rounds} times, and only what needs it waited")
    })
}

/// Runs a script that needs an image of a disk, in so many rounds unless `args` say how many.
fn on_image(
    (script, usual): (&str, u32),
    args: &Args,
    failure: &'static str,
    success: impl FnOnce(u32) -> String,
) -> Result<String> {
    let rounds = args.rounds.unwrap_or(usual);
    match run(script, rounds, args)?.code() {
        Some(0) => Ok(success(rounds)),
        Some(CANNOT_MOUNT) => {
            Ok("NOT RUN: this machine cannot mount, or freeze, an ext4 image".to_owned())
        }
        _ => bail!(failure),
    }
}

fn run(script: &str, rounds: u32, args: &Args) -> Result<ExitStatus> {
    let interpreter = python::interpreter()?;
    let broker = ottla::binary()?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let directory =
        toolbox::workspace().join(format!("target/crash/{script}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    writeln!(io::stderr(), "{script}: {rounds} rounds, seed {seed}")?;
    let status = Command::new(interpreter)
        .arg(toolbox::workspace().join("tests/crash").join(script))
        .arg(broker)
        .arg(&directory)
        .args([rounds.to_string(), seed.to_string()])
        .status()
        .context("could not start python")?;
    if status.code() == Some(1) {
        writeln!(
            io::stderr(),
            "data and logs are kept in {}",
            directory.display()
        )?;
    } else {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(status)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a seed nobody chose; it is printed"
)]
fn fresh_seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ since.as_secs()
}
