//! `cargo xtask operations`: the commands of `docs/operations.md` as they stand there, under the load of real clients; and
//! Apache Kafka's tools on three nodes, as `tests/cluster/kafka-tools.md` has them.
//!
//! `tests/cluster/operations.py` runs them and judges.

use anyhow::Result;

use crate::cluster::{Driver, System};
use crate::toolbox;

/// The pages with commands.
const PAGES: &[&str] = &["docs/operations.md", "tests/cluster/kafka-tools.md"];

/// Runs the pages; returns a summary.
pub fn run() -> Result<String> {
    let summaries: Result<Vec<_>> = PAGES.iter().map(|page| run_page(page)).collect();
    Ok(summaries?.join("; "))
}

fn run_page(page: &str) -> Result<String> {
    let path = toolbox::workspace().join(page);
    let driver = Driver::new("operations.py", &[System::Ottla, System::Kafka])?;
    driver.with("page", path.display()).run(
        format!("all commands of {page} work, nothing is lost, no client is started again"),
        &format!("a command of {page} does not do what the page says"),
    )
}
