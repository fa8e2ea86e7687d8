//! `docs/benchmarks.md`: what is written by hand stands above a mark, what was measured below it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::proc;
use crate::toolbox;

const PAGE: &str = "docs/benchmarks.md";
const MARK: &str = "<!-- Everything below is written by `cargo xtask bench --write`. -->";

/// When, where and by which command figures were measured.
pub fn circumstances(runs: u32) -> Result<String> {
    let date = super::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    Ok(format!(
        "Measured on {} with {}, by `cargo xtask {}`. Each figure is the median of {runs} alternating runs, with the \
         smallest and the largest; `-` is what a broker did not do.\n",
        date.trim(),
        proc::machine()?,
        arguments.join(" "),
    ))
}

/// Replaces what was measured before.
pub fn write(measured: &str) -> Result<()> {
    let path = toolbox::workspace().join(PAGE);
    let page = fs::read_to_string(&path)?;
    Ok(fs::write(&path, replaced(&page, measured)?)?)
}

fn replaced(page: &str, measured: &str) -> Result<String> {
    let (by_hand, _) = page
        .split_once(MARK)
        .with_context(|| format!("{PAGE} has lost its line `{MARK}`"))?;
    Ok(format!("{by_hand}{MARK}\n\n{measured}"))
}

#[cfg(test)]
mod tests {
    use super::{MARK, replaced};

    #[test]
    fn only_what_was_measured_is_replaced() {
        let page = format!("by hand\n\n{MARK}\n\nold figures\n");
        let next = replaced(&page, "new figures\n").unwrap();
        assert_eq!(next, format!("by hand\n\n{MARK}\n\nnew figures\n"));
        assert!(replaced("no mark", "figures").is_err());
    }
}
