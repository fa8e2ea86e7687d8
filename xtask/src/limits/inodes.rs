//! A small file system whose inodes end before its bytes: what is refused, what goes on, and what it takes to come back.
//!
//! It needs a loop mount, as root; where there is none, nothing is measured and the table says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::connections;
use super::load::Topic;
use super::sheet::Sheet;
use crate::measured::broker::{Running, pause};
use crate::measured::contender::{Contender, Setup};
use crate::measured::{output, say};
use crate::toolbox;

const INODES: u32 = 20_000;
const PARTITIONS: u32 = 100;
/// More than there are inodes for.
const ROUNDS: u32 = 1000;
/// Deleted files go after a second instead of a minute.
const CONFIGS: [&str; 2] = ["internal.segment.bytes=150", "file.delete.delay.ms=1000"];
/// How often, and for how long, produce is tried once there are inodes again.
const PAUSE: Duration = Duration::from_millis(500);
const TRIES: u32 = 60;

/// Measures each broker.
pub fn run(brokers: &[Contender]) -> Result<Sheet> {
    let mut sheet = Sheet::new("A file system with 20,000 inodes");
    for broker in brokers {
        let column = broker.title();
        say(&format!("inodes: {column}"))?;
        let image = match Image::mount() {
            Ok(image) => image,
            Err(error) => {
                sheet.note(&column, &format!("not measured, no loop mount: {error:#}"));
                continue;
            }
        };
        let setup = Setup {
            data: Some(image.at().join("data")),
            ..Setup::plain(*broker)
        };
        let mut trial = Trial {
            running: Running::start(&setup)?,
            at: image.at(),
            column,
            sheet: &mut sheet,
        };
        trial.run()?;
        trial.running.stop()?;
    }
    Ok(sheet)
}

struct Trial<'a> {
    running: Running,
    at: PathBuf,
    column: String,
    sheet: &'a mut Sheet,
}

impl Trial<'_> {
    fn run(&mut self) -> Result<()> {
        let (mut topic, _) = Topic::create(&mut self.running, ("tiny", PARTITIONS), &CONFIGS)?;
        let (mut other, _) = Topic::create(&mut self.running, ("other", 1), &CONFIGS)?;
        let written = topic.write(&self.running, ROUNDS)?;
        self.set("segments taken", written.records.to_string());
        self.set("inodes free then", self.free_inodes()?.to_string());
        let reason = written.refused.unwrap_or_default();
        let reason = reason.replace(&self.at.display().to_string(), "…");
        self.sheet.note(&self.column, &format!("refused: {reason}"));
        let alive = self.running.is_alive()?;
        self.set("alive", yes_or_no(alive));
        if !alive {
            self.start("starts as it is");
            return Ok(());
        }
        let read = topic.read(&self.running, 4);
        self.set("reads what was taken", yes_or_no(read.is_ok()));
        self.running.end(Signal::KILL)?;
        self.start("starts as it is");
        if !self.running.is_alive()? {
            return Ok(());
        }
        let read = topic.read(&self.running, 4);
        self.set(
            "reads it after kill -9 and a start",
            yes_or_no(read.is_ok()),
        );
        let deleted = topic.delete(&self.running);
        self.set("deletes the topic", yes_or_no(deleted.is_ok()));
        let mut produces = false;
        for _ in 0..TRIES {
            let written = other.write(&self.running, 1)?;
            produces = written.refused.is_none();
            if produces {
                break;
            }
            pause(PAUSE);
        }
        self.set(
            "then produces again, without a restart",
            yes_or_no(produces),
        );
        Ok(())
    }

    fn set(&mut self, row: &str, value: impl Into<String>) {
        self.sheet.set((row, &self.column), value);
    }

    fn start(&mut self, row: &str) {
        let started = self.running.start_again().is_ok();
        let address = self.running.bootstrap().to_owned();
        self.set(row, yes_or_no(started && connections::are_served(&address)));
    }

    fn free_inodes(&self) -> Result<u64> {
        Ok(rustix::fs::statvfs(&self.at)?.f_favail)
    }
}

fn yes_or_no(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

/// A mounted image; unmounted and removed when dropped.
struct Image {
    directory: PathBuf,
}

impl Image {
    fn mount() -> Result<Self> {
        let name = format!("target/bench/image-{}", std::process::id());
        let image = Self {
            directory: toolbox::workspace().join(name),
        };
        fs::create_dir_all(image.at())?;
        let file = image.directory.join("ext4");
        let run = |program: &str, arguments: &[&str], at: &[&Path]| {
            output(Command::new(program).args(arguments).args(at)).map(drop)
        };
        run("truncate", &["-s", "2G"], &[&file])?;
        run("mkfs.ext4", &["-q", "-N", &INODES.to_string()], &[&file])?;
        run("mount", &["-o", "loop"], &[&file, &image.at()])?;
        Ok(image)
    }

    fn at(&self) -> PathBuf {
        self.directory.join("mounted")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // What was not mounted cannot be unmounted, which is as well.
        let _ = Command::new("umount").arg("--lazy").arg(self.at()).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
