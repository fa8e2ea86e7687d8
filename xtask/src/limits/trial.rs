//! One broker under measurement, and the column of its figures.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::load::Topic;
use super::sheet::Sheet;
use super::usage::{OnDisk, Usage, idle_cpu_percent};
use crate::measured::broker::Running;
use crate::measured::contender::Setup;

/// A broker that runs, and its column.
pub struct Trial<'a> {
    pub running: Running,
    pub column: String,
    pub sheet: &'a mut Sheet,
}

impl<'a> Trial<'a> {
    /// Starts a broker on an empty directory.
    pub fn begin(setup: &Setup, column: String, sheet: &'a mut Sheet) -> Result<Self> {
        let running = Running::start(setup)?;
        Ok(Self {
            running,
            column,
            sheet,
        })
    }

    /// Puts a figure into its column.
    pub fn set(&mut self, row: &str, value: impl Into<String>) {
        self.sheet.set((row, &self.column), value);
    }

    /// Adds a note below the table.
    pub fn note(&mut self, text: &str) {
        self.sheet.note(&self.column, text);
    }

    fn data(&self) -> PathBuf {
        self.running.directory().join("data")
    }

    /// Its files on disk.
    pub fn on_disk(&self) -> Result<OnDisk> {
        OnDisk::below(&self.data())
    }

    /// Measures its use of the machine into the rows that begin with `when`.
    pub fn usage(&mut self, when: &str) -> Result<Usage> {
        let usage = Usage::of(&self.running, &self.data())?;
        usage.note(self.sheet, when, &self.column);
        Ok(usage)
    }

    /// Measures its CPU use without requests.
    pub fn idle(&mut self) -> Result<()> {
        let idle = idle_cpu_percent(&self.running)?;
        self.set("processor when idle, % of a core", format!("{idle:.2}"));
        Ok(())
    }

    /// Writes rounds, which it must all accept; returns the seconds.
    pub fn write(&mut self, topic: &mut Topic, rounds: u32) -> Result<f64> {
        let written = topic.write(&self.running, rounds)?;
        ensure!(written.refused.is_none(), "{:?}", written.refused);
        Ok(written.seconds)
    }

    /// Starts it again, and adds the time.
    pub fn start(&mut self, row: &str) -> Result<()> {
        self.running.start_again()?;
        let seconds = self.running.started_after.as_secs_f64();
        self.set(row, format!("{seconds:.1}"));
        Ok(())
    }
}

pub fn yes_or_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}
