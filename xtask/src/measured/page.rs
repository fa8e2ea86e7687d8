//! A document with figures: the text above a mark is written by hand, the figures below it are
//! generated.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::proc;
use crate::toolbox;

/// A document with figures.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The document, from the root of the checkout.
    pub path: &'static str,
    /// The line below which the text is generated.
    pub mark: &'static str,
}

impl Page {
    pub fn today() -> Result<String> {
        let date = super::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
        Ok(date.trim().to_owned())
    }

    /// When, where and by which command figures were measured, as a sentence.
    pub fn circumstances() -> Result<String> {
        let date = Self::today()?;
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        Ok(format!(
            "Measured on {} with {}, by `cargo xtask {}`.",
            date,
            proc::machine()?,
            arguments.join(" "),
        ))
    }

    /// Replaces the older figures.
    pub fn write(&self, measured: &str) -> Result<()> {
        let path = toolbox::workspace().join(self.path);
        let page = fs::read_to_string(&path)?;
        Ok(fs::write(&path, self.replaced(&page, measured)?)?)
    }

    /// The older figures.
    pub fn measured(&self) -> Result<String> {
        let page = fs::read_to_string(toolbox::workspace().join(self.path))?;
        let (_, measured) = self.split(&page)?;
        Ok(measured.trim_start().to_owned())
    }

    fn split<'a>(&self, page: &'a str) -> Result<(&'a str, &'a str)> {
        let parts = page.split_once(self.mark);
        parts.with_context(|| format!("{} has lost its line `{}`", self.path, self.mark))
    }

    fn replaced(&self, page: &str, measured: &str) -> Result<String> {
        let (by_hand, _) = self.split(page)?;
        Ok(format!("{by_hand}{}\n\n{measured}", self.mark))
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn only_what_was_measured_is_replaced() {
        let page = Page {
            path: "a page",
            mark: "<!-- mark -->",
        };
        let before = "by hand\n\n<!-- mark -->\n\nold figures\n";
        let next = page.replaced(before, "new figures\n").unwrap();
        assert_eq!(next, "by hand\n\n<!-- mark -->\n\nnew figures\n");
        assert!(page.replaced("no mark", "figures").is_err());
    }
}
