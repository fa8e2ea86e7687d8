//! 10,000 partitions on one node, as ten topics and as one: created, written to, read, stopped and started.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::load::Topic;
use super::sheet::Sheet;
use super::usage::{OnDisk, Usage, idle_cpu_percent};
use crate::measured::broker::Running;
use crate::measured::contender::{Contender, Setup};
use crate::measured::say;

const SHAPES: [(u32, u32); 2] = [(10, 1000), (1, 10_000)];
const PARTITIONS: f64 = 10_000.0;

/// Measures each broker with each shape.
pub fn run(brokers: &[Contender], left: &mut Vec<PathBuf>) -> Result<Sheet> {
    let mut sheet = Sheet::new("10,000 partitions");
    for broker in brokers {
        for (topics, partitions) in SHAPES {
            let column = format!("{}, {topics} × {partitions}", broker.title());
            say(&format!("partitions: {column}"))?;
            let mut trial = Trial {
                running: Running::start(&Setup::plain(*broker))?,
                column,
                sheet: &mut sheet,
            };
            trial.run(topics, partitions)?;
            left.push(trial.running.leave()?);
        }
    }
    Ok(sheet)
}

struct Trial<'a> {
    running: Running,
    column: String,
    sheet: &'a mut Sheet,
}

impl Trial<'_> {
    fn run(&mut self, topics: u32, partitions: u32) -> Result<()> {
        let before = self.usage("without topics")?;
        let mut created = Vec::new();
        let mut seconds = 0.0;
        for number in 0..topics {
            let name = format!("many-{number}");
            let (topic, took) = Topic::create(&mut self.running, (&name, partitions), &[])?;
            created.push(topic);
            seconds += took;
        }
        self.set("create, s", format!("{seconds:.1}"));
        let empty = self.usage("empty")?;
        let kibibytes = (empty.resident_mib - before.resident_mib) * 1024.0 / PARTITIONS;
        self.set(
            "memory for an empty partition, KiB",
            format!("{kibibytes:.1}"),
        );
        self.write("produce to all, s", &mut created)?;
        self.write("produce to all again, s", &mut created)?;
        self.read("read back from all, s", &created)?;
        let full = self.usage("written to")?;
        let kibibytes = (full.resident_mib - before.resident_mib) * 1024.0 / PARTITIONS;
        self.set("memory for a partition, KiB", format!("{kibibytes:.1}"));
        let on_disk = OnDisk::below(&self.data())?;
        self.set("disk really used, MiB", (on_disk.bytes >> 20).to_string());
        let idle = idle_cpu_percent(&self.running)?;
        self.set("processor when idle, % of a core", format!("{idle:.2}"));
        let took = self.running.end(Signal::TERM)?;
        self.set("clean stop, s", format!("{:.1}", took.as_secs_f64()));
        self.start("start after a clean stop, s")?;
        self.usage("started")?;
        self.write("produce to all after it, s", &mut created)?;
        self.running.end(Signal::KILL)?;
        self.start("start after kill -9, s")?;
        self.read("read back from all after it, s", &created)
    }

    fn set(&mut self, row: &str, value: String) {
        self.sheet.set((row, &self.column), value);
    }

    fn data(&self) -> PathBuf {
        self.running.directory().join("data")
    }

    fn usage(&mut self, when: &str) -> Result<Usage> {
        let usage = Usage::of(&self.running, &self.data())?;
        usage.note(self.sheet, when, &self.column);
        Ok(usage)
    }

    fn write(&mut self, row: &str, topics: &mut [Topic]) -> Result<()> {
        let mut seconds = 0.0;
        for topic in topics {
            let written = topic.write(&self.running, 1)?;
            ensure!(written.refused.is_none(), "{:?}", written.refused);
            seconds += written.seconds;
        }
        self.set(row, format!("{seconds:.2}"));
        Ok(())
    }

    fn read(&mut self, row: &str, topics: &[Topic]) -> Result<()> {
        let mut seconds = 0.0;
        for topic in topics {
            seconds += topic.read(&self.running, topic.rounds)?.1;
        }
        self.set(row, format!("{seconds:.2}"));
        Ok(())
    }

    fn start(&mut self, row: &str) -> Result<()> {
        self.running.start_again()?;
        let seconds = self.running.started_after.as_secs_f64();
        self.set(row, format!("{seconds:.1}"));
        Ok(())
    }
}
