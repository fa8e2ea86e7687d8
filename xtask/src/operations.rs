//! `cargo xtask operations`: the commands of `docs/operations.md` as they stand there, under the load of real clients.
//!
//! `tests/cluster/operations.py` runs them and judges.

use anyhow::Result;

use crate::cluster::{Driver, System};
use crate::toolbox;

/// Runs the page; returns a summary.
pub fn run() -> Result<String> {
    let page = toolbox::workspace().join("docs/operations.md");
    let driver = Driver::new("operations.py", &[System::Ottla], 3)?;
    driver.with("page", page.display()).run(
        "all commands of docs/operations.md work; nothing is lost, no client is started again"
            .to_owned(),
        "a command of docs/operations.md does not do what the page says",
    )
}
