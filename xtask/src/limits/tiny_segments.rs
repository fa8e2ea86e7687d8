//! A segment for each batch in 1,000 partitions, as many as are asked for or as the broker takes.
//!
//! Ottla runs with 1,024 file descriptors, Apache Kafka with those and with 20,000. What a broker does at its end is
//! part of the result: a refusal with its reason, or a process that is gone.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::connections;
use super::load::Topic;
use super::sheet::Sheet;
use super::usage::{OnDisk, Usage, idle_cpu_percent};
use crate::measured::broker::{Running, now};
use crate::measured::contender::{Contender, Setup};
use crate::measured::say;

const PARTITIONS: u32 = 1000;
/// Room for one batch of one record, not for two.
const SEGMENT: &str = "internal.segment.bytes=150";
/// Rounds that follow the last checkpoint when the broker is killed.
const UNCLEAN_ROUNDS: u32 = 5;
/// Records read back of each partition.
const EACH: u32 = 8;
/// Clients that stay connected beside the load.
const CLIENTS: usize = 500;

/// Measures each broker.
pub fn run(brokers: &[Contender], segments: u32, left: &mut Vec<PathBuf>) -> Result<Sheet> {
    let mut sheet = Sheet::new("Tiny segments");
    for broker in brokers {
        let limits: &[u32] = match broker {
            Contender::Kafka => &[1024, 20_000],
            _ => &[1024],
        };
        for descriptors in limits {
            let column = format!("{}, {descriptors} descriptors", broker.title());
            say(&format!("tiny segments: {column}"))?;
            let setup = Setup {
                descriptors: Some(*descriptors),
                ..Setup::plain(*broker)
            };
            let mut trial = Trial {
                running: Running::start(&setup)?,
                column,
                sheet: &mut sheet,
            };
            let survived = trial.run(segments)?;
            ensure!(
                survived || *broker != Contender::Ottla,
                "Ottla did not take {segments} segments; see {}",
                trial.running.directory().display()
            );
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
    /// Says whether the broker took everything.
    fn run(&mut self, segments: u32) -> Result<bool> {
        let created = Topic::create(&mut self.running, ("tiny", PARTITIONS), &[SEGMENT]);
        let Ok((mut topic, seconds)) = created else {
            self.set("segments on disk", self.on_disk()?.segments.to_string());
            let said = "not all partitions are served within five minutes";
            self.sheet.note(&self.column, said);
            self.tell_end()?;
            return Ok(false);
        };
        self.set("create 1,000 partitions, s", format!("{seconds:.1}"));
        self.usage("empty")?;
        let written = topic.write(&self.running, segments / PARTITIONS)?;
        let on_disk = self.on_disk()?;
        self.set("segments on disk", on_disk.segments.to_string());
        let rate = written.records as f64 / written.seconds;
        self.set("segments a second", format!("{rate:.0}"));
        if let Some(reason) = written.refused {
            self.sheet
                .note(&self.column, &format!("refused: {}", first_line(&reason)));
            self.tell_end()?;
            self.start_after_the_end()?;
            return Ok(false);
        }
        self.usage("full")?;
        let mebibytes = on_disk.bytes >> 20;
        self.set("disk really used, MiB", mebibytes.to_string());
        let idle = idle_cpu_percent(&self.running)?;
        self.set("processor when idle, % of a core", format!("{idle:.2}"));
        self.read("reading 8 records of each partition, s", &topic)?;
        self.with_clients(&mut topic)?;
        self.restart(&mut topic)?;
        self.more_clients_than_descriptors()?;
        Ok(true)
    }

    fn set(&mut self, row: &str, value: String) {
        self.sheet.set((row, &self.column), value);
    }

    fn data(&self) -> PathBuf {
        self.running.directory().join("data")
    }

    fn on_disk(&self) -> Result<OnDisk> {
        OnDisk::below(&self.data())
    }

    fn usage(&mut self, when: &str) -> Result<()> {
        let usage = Usage::of(&self.running, &self.data())?;
        usage.note(self.sheet, when, &self.column);
        Ok(())
    }

    fn read(&mut self, row: &str, topic: &Topic) -> Result<()> {
        let (_, seconds) = topic.read(&self.running, EACH)?;
        self.set(row, format!("{seconds:.2}"));
        Ok(())
    }

    /// Log files and clients beside each other: both must be served.
    fn with_clients(&mut self, topic: &mut Topic) -> Result<()> {
        let clients = connections::open(self.running.bootstrap(), CLIENTS);
        self.set(
            "clients that are served beside the load, of 500",
            clients.len().to_string(),
        );
        let written = topic.write(&self.running, 1)?;
        ensure!(written.refused.is_none(), "{:?}", written.refused);
        self.read("reading again with those clients, s", topic)?;
        let open = self.running.process().open_files()?;
        self.set("open files with those clients", format!("{open:.0}"));
        Ok(())
    }

    /// Stops and starts, cleanly and not.
    fn restart(&mut self, topic: &mut Topic) -> Result<()> {
        let took = self.running.end(Signal::TERM)?;
        self.set("clean stop, s", format!("{:.1}", took.as_secs_f64()));
        self.start("start after a clean stop, s")?;
        self.usage("started")?;
        let written = topic.write(&self.running, UNCLEAN_ROUNDS)?;
        ensure!(written.refused.is_none(), "{:?}", written.refused);
        self.running.end(Signal::KILL)?;
        self.start("start after kill -9 right behind 5,000 segments, s")?;
        self.read("reading again after that, s", topic)
    }

    fn start(&mut self, row: &str) -> Result<()> {
        self.running.start_again()?;
        let seconds = self.running.started_after.as_secs_f64();
        self.set(row, format!("{seconds:.1}"));
        Ok(())
    }

    /// The last limit that is reached: who connects then waits until others have gone, and the log says why.
    fn more_clients_than_descriptors(&mut self) -> Result<()> {
        let clients = connections::open(self.running.bootstrap(), 20_000);
        self.set("clients served at most", clients.len().to_string());
        let said = self.running.said()?;
        let reason = said.lines().rev().find(|line| line.contains("descriptors"));
        self.sheet.note(
            &self.column,
            &format!(
                "one client more waits; the log says: {}",
                reason.unwrap_or("nothing")
            ),
        );
        drop(clients);
        let address = self.running.bootstrap().to_owned();
        self.running
            .wait_until(|| connections::are_served(&address))
    }

    /// What became of a broker that took no more.
    fn tell_end(&mut self) -> Result<()> {
        let alive = self.running.is_alive()?;
        self.set(
            "alive after that",
            if alive { "yes" } else { "no" }.to_owned(),
        );
        if alive {
            self.usage("at the end")?;
        }
        let said = self.running.said()?;
        let reasons = [
            "Too many open files",
            "Map failed",
            "OutOfMemory",
            "Shutdown broker because",
        ];
        let lines = said.lines();
        let mut telling = lines.filter(|line| reasons.iter().any(|reason| line.contains(reason)));
        if let Some(line) = telling.next() {
            let line = short(line, self.running.directory());
            self.sheet
                .note(&self.column, &format!("its log says: {line}"));
        }
        Ok(())
    }

    fn start_after_the_end(&mut self) -> Result<()> {
        self.running.end(Signal::TERM)?;
        let start = now();
        let started = self.running.start_again();
        let seconds = start.elapsed().as_secs_f64();
        let value = match started {
            Ok(()) => format!("{seconds:.1}"),
            Err(_) if self.running.is_alive()? => format!("not within {seconds:.0}"),
            Err(_) => format!("ended after {seconds:.1}"),
        };
        self.set("start after the end, s", value);
        Ok(())
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A line of a log without the path of this run.
fn short(line: &str, directory: &Path) -> String {
    let line = line.replace(&directory.display().to_string(), "…");
    line.chars().take(300).collect()
}
