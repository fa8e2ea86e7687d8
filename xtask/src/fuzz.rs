//! `cargo xtask fuzz`: a short coverage-guided run of every fuzz target, on the stable compiler.
//!
//! The targets in `fuzz/` are built with the compiler's own coverage and without a sanitizer, as
//! `cargo fuzz run -s none` does, so cargo is enough. A crash fails the command and keeps the
//! input.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::toolbox;

const TARGETS: [&str; 3] = ["requests", "batches", "stored_records"];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

impl Args {
    /// The options of the gate: long enough to see that each target works and finds nothing
    /// quickly.
    pub fn of_gate() -> Self {
        Self { seconds: 10 }
    }
}

/// Builds and runs all targets; returns a summary.
pub fn run(args: &Args) -> Result<String> {
    let tree = toolbox::workspace();
    let built = tree.join("target/fuzz");
    let compiled = Command::new("cargo")
        .args(["build", "--quiet", "--target", TRIPLE])
        .current_dir(tree.join("fuzz"))
        .env("RUSTFLAGS", COVERAGE)
        .env("CARGO_TARGET_DIR", &built)
        .status()
        .context("cannot run cargo")?;
    ensure!(compiled.success(), "the fuzz targets do not build");
    for target in TARGETS {
        let corpus = corpus(&built, target)?;
        let status = Command::new(built.join(TRIPLE).join("debug").join(target))
            .arg(&corpus)
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-artifact_prefix={}/", built.display()))
            .args(["-max_len=4096", "-rss_limit_mb=1024", "-timeout=10"])
            .args(["-verbosity=0", "-print_final_stats=1"])
            .status()
            .with_context(|| format!("cannot run the fuzz target {target}"))?;
        ensure!(
            status.success(),
            "{target} found something: the input is in {}",
            built.display()
        );
    }
    Ok(format!(
        "{} fuzz targets, {} s each, found nothing",
        TARGETS.len(),
        args.seconds
    ))
}

/// The directory of a target's inputs; it grows from run to run.
fn corpus(built: &Path, target: &str) -> Result<PathBuf> {
    let corpus = built.join("corpus").join(target);
    std::fs::create_dir_all(&corpus)
        .with_context(|| format!("cannot make {}", corpus.display()))?;
    Ok(corpus)
}
