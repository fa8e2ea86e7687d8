//! librdkafka's own generator, `rdkafka_performance`, from the sources in the crate `rdkafka-sys`.
//!
//! One line of it is changed: if the pattern (`-m`) is longer than a record, each record is a
//! different slice of the pattern. In the published program all records of a run have the same
//! bytes, so a batch compresses to almost nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::crates;
use super::librdkafka::CRATE_VERSION;

const SAME_BYTES: &str = "pbuf = sbuf;";
/// The step is prime, so that the slices spread over the whole pattern.
const BYTES_OF_ITS_OWN: &str = "pbuf = plen > (size_t)msgsize \
    ? msgpattern + (cnt.tx * 1021) % (plen - (size_t)msgsize) : sbuf;";

/// Builds it, and returns its path.
pub fn binary() -> Result<PathBuf> {
    let source = crates::source("rdkafka-sys", CRATE_VERSION)?.join("librdkafka");
    let wanted = format!("{CRATE_VERSION}\n{BYTES_OF_ITS_OWN}\n");
    let directory = super::once("rdkafka-performance", &wanted, |directory| {
        let copy = directory.join("librdkafka");
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        super::run(Command::new("cp").arg("-R").arg(&source).arg(&copy))?;
        change(&copy.join("examples/rdkafka_performance.c"))?;
        build(&copy)
    })?;
    Ok(directory.join("librdkafka/examples/rdkafka_performance"))
}

fn change(source: &Path) -> Result<()> {
    let text = fs::read_to_string(source)?;
    ensure!(
        text.matches(SAME_BYTES).count() == 1,
        "{} is not the expected source",
        source.display()
    );
    Ok(fs::write(
        source,
        text.replace(SAME_BYTES, BYTES_OF_ITS_OWN),
    )?)
}

fn build(librdkafka: &Path) -> Result<()> {
    let without = ["ssl", "gssapi", "zstd", "zlib", "curl", "lz4-ext"];
    super::run(
        Command::new("./configure")
            .arg("--no-cache")
            .args(without.map(|part| format!("--disable-{part}")))
            .current_dir(librdkafka),
    )?;
    // The source may contain build output of the test suite, with other options.
    let steps = [
        ["-C", "src", "clean"],
        ["-C", "src", "librdkafka.a"],
        ["-C", "examples", "rdkafka_performance"],
    ];
    for step in steps {
        super::run(Command::new("make").args(step).current_dir(librdkafka))?;
    }
    Ok(())
}
