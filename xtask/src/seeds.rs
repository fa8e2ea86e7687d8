//! Runs tests that take a seed, from many seeds: one process per processor, whose counts are added up.
//!
//! Such a test is compiled for tests only. Its ignored test `seeds` runs the seeds that the environment names
//! (`…_FROM`, `…_TO`, `…_STEP`), and prints its progress. The output of a failure is printed: its last events, its seed and
//! how to run it again.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::toolbox;

/// A test that runs from seeds.
#[derive(Debug)]
pub struct Suite {
    pub package: &'static str,
    pub test: &'static str,
    /// The prefix of its environment variables.
    pub variables: &'static str,
    /// The first word of a line of progress; numbers follow.
    pub progress: &'static str,
    /// The names of the first numbers of such a line.
    pub counts: &'static [&'static str],
}

/// Every `step`th seed from one number up to another.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: u64,
    to: u64,
    step: u64,
}

/// The counts of each worker.
type Counts = Mutex<Vec<Vec<u64>>>;

impl Suite {
    /// Runs `seeds` seeds, or only the given `seed`. Returns the sum of each count.
    pub fn run(&self, seeds: u64, seed: Option<u64>) -> Result<Vec<u64>> {
        let built = self.cargo().arg("--no-run").status();
        ensure!(
            built.context("could not start cargo")?.success(),
            "the tests of {} do not build",
            self.package
        );
        let workers = match seed {
            Some(_) => 1,
            None => thread::available_parallelism().map_or(1, usize::from) as u64,
        };
        let (from, to) = seed.map_or((0, seeds), |seed| (seed, seed + 1));
        let counts: Counts = Mutex::new(vec![Vec::new(); usize::try_from(workers)?]);
        let outcomes: Vec<Result<()>> = thread::scope(|scope| {
            let running: Vec<_> = (0..workers)
                .map(|worker| {
                    let counts = &counts;
                    let range = Range {
                        from: from + worker,
                        to,
                        step: workers,
                    };
                    scope.spawn(move || self.run_some(range, worker, counts))
                })
                .collect();
            let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|outcome| outcome.expect("a thread that only reads and prints"))
                .collect()
        });
        outcomes.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(total(&counts))
    }

    /// Runs the ignored test `name` with one seed. Its output goes to the terminal.
    pub fn show(&self, name: &str, seed: u64) -> Result<()> {
        let status = self
            .cargo()
            .args(["--", "--ignored", "--exact", "--nocapture", name])
            .env(format!("{}_FROM", self.variables), seed.to_string())
            .status()
            .context("could not start cargo")?;
        ensure!(status.success(), "seed {seed} fails");
        Ok(())
    }

    /// Runs seeds in a process of its own.
    fn run_some(&self, range: Range, worker: u64, counts: &Counts) -> Result<()> {
        let variable = |name| format!("{}_{name}", self.variables);
        let mut child: Child = self
            .cargo()
            .args(["--", "--ignored", "--exact", "--nocapture", "seeds"])
            .env(variable("FROM"), range.from.to_string())
            .env(variable("TO"), range.to.to_string())
            .env(variable("STEP"), range.step.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start cargo")?;
        let output = child.stdout.take().context("a child has no output")?;
        let mut said = String::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            match line.strip_prefix(self.progress) {
                Some(progress) => self.note(progress, worker, counts),
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

    /// Records the progress of one worker, and prints the sum of all.
    fn note(&self, progress: &str, worker: u64, counts: &Counts) {
        let numbers = progress.split(' ').filter_map(|word| word.parse().ok());
        if let Ok(mut counts) = counts.lock()
            && let Some(of_worker) = counts.get_mut(usize::try_from(worker).unwrap_or(0))
        {
            *of_worker = numbers.collect();
        }
        let all = total(counts);
        let counted = all.iter().zip(self.counts);
        let counted: Vec<String> = counted.map(|(sum, of)| format!("{sum} {of}")).collect();
        // The reader may have closed the pipe.
        let _ = writeln!(std::io::stderr(), "{}", counted.join(", "));
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(toolbox::workspace())
            .args(["test", "--quiet", "--package", self.package])
            .args(["--test", self.test]);
        cargo
    }
}

fn total(counts: &Counts) -> Vec<u64> {
    let Ok(counts) = counts.lock() else {
        return Vec::new();
    };
    let length = counts.iter().map(Vec::len).max().unwrap_or(0);
    let sum = |place: usize| counts.iter().filter_map(|one| one.get(place)).sum();
    (0..length).map(sum).collect()
}
