//! `cargo xtask torture`: runs the torture of `crates/replica` with many seeds.
//!
//! The torture itself is `crates/replica/tests/torture`. This command divides the seeds among the
//! processors, adds up the printed counts, and prints a failure with its last steps, its seed and
//! the command that repeats it.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::toolbox;

const TEST: [&str; 6] = [
    "test",
    "--package",
    "ottla-replica",
    "--test",
    "torture",
    "--quiet",
];
/// The prefix of the progress lines.
const PROGRESS: &str = "torture: ";

/// Options of `cargo xtask torture`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The number of seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,

    /// Run only this seed.
    #[arg(long)]
    seed: Option<u64>,
}

/// The counts: seeds, crashes, checks.
type Counts = [u64; 3];

/// Runs the seeds; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let built = cargo().args(TEST).arg("--no-run").status();
    ensure!(
        built.context("could not start cargo")?.success(),
        "the tests of ottla-replica do not build"
    );
    let workers = if args.seed.is_some() {
        1
    } else {
        thread::available_parallelism().map_or(1, usize::from) as u64
    };
    let (from, to) = args.seed.map_or((0, args.seeds), |seed| (seed, seed + 1));
    let counts = Mutex::new(vec![[0; 3]; usize::try_from(workers)?]);
    let outcomes: Vec<Result<()>> = thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|worker| {
                let counts = &counts;
                scope.spawn(move || torture((from + worker, to, workers), worker, counts))
            })
            .collect();
        let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|outcome| outcome.expect("a thread that only reads and prints"))
            .collect()
    });
    outcomes.into_iter().collect::<Result<Vec<()>>>()?;
    let [seeds, crashes, checks] = total(&counts);
    Ok(format!(
        "{seeds} seeds, {crashes} crashes, {checks} checks: nothing was lost"
    ))
}

/// Runs every `step`th seed of a range in its own process.
fn torture(
    (from, to, step): (u64, u64, u64),
    worker: u64,
    counts: &Mutex<Vec<Counts>>,
) -> Result<()> {
    let mut child: Child = cargo()
        .args(TEST)
        .args(["--", "--ignored", "--exact", "--nocapture", "seeds"])
        .env("OTTLA_TORTURE_FROM", from.to_string())
        .env("OTTLA_TORTURE_TO", to.to_string())
        .env("OTTLA_TORTURE_STEP", step.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start cargo")?;
    let output = child.stdout.take().context("a child has no output")?;
    let mut said = String::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        match line.strip_prefix(PROGRESS) {
            Some(progress) => note(progress, worker, counts),
            None => said.extend([line.as_str(), "\n"]),
        }
    }
    let mut errors = child.stderr.take().context("a child has no output")?;
    errors.read_to_string(&mut said)?;
    if !child.wait()?.success() {
        bail!("{said}");
    }
    Ok(())
}

/// Stores the progress of one worker, and prints the progress of all.
fn note(progress: &str, worker: u64, counts: &Mutex<Vec<Counts>>) {
    let numbers = progress.split(' ').filter_map(|word| word.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    if let Ok(new) = Counts::try_from(numbers)
        && let Ok(mut counts) = counts.lock()
        && let Some(of_worker) = counts.get_mut(usize::try_from(worker).unwrap_or(0))
    {
        *of_worker = new;
    }
    let [seeds, crashes, checks] = total(counts);
    // A closed pipe is not an error.
    let _ = writeln!(
        std::io::stderr(),
        "{seeds} seeds, {crashes} crashes, {checks} checks"
    );
}

fn total(counts: &Mutex<Vec<Counts>>) -> Counts {
    let Ok(counts) = counts.lock() else {
        return [0; 3];
    };
    counts.iter().fold([0; 3], |sum, one| {
        [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]]
    })
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(toolbox::workspace());
    cargo
}
