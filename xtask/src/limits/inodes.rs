//! A small file system that runs out of inodes before bytes: what is refused, what still works, and
//! what restores service.
//!
//! It needs a loop mount, as root. Without one nothing is measured, and the table says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::connections;
use super::load::Topic;
use super::sheet::Sheet;
use super::trial::{Trial, yes_or_no};
use crate::measured::contender::{Contender, Setup};
use crate::measured::{output, say};
use crate::time::pause;
use crate::toolbox;

const INODES: u32 = 20_000;
const PARTITIONS: u32 = 100;
/// The number of rounds to write. It is more than the inodes allow.
const ROUNDS: u32 = 1000;
/// Deleted files are removed after a second instead of a minute.
const CONFIGS: [&str; 2] = ["internal.segment.bytes=150", "file.delete.delay.ms=1000"];
/// The pause between attempts to produce once inodes are free again.
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
        let mut trial = Trial::begin(&setup, column, &mut sheet)?;
        measure(&mut trial, &image.at())?;
        trial.running.stop()?;
    }
    Ok(sheet)
}

fn measure(trial: &mut Trial<'_>, at: &Path) -> Result<()> {
    let (mut topic, _) = Topic::create(&mut trial.running, ("tiny", PARTITIONS), &CONFIGS)?;
    let (mut other, _) = Topic::create(&mut trial.running, ("other", 1), &CONFIGS)?;
    let written = topic.write(&trial.running, ROUNDS)?;
    trial.set("segments taken", written.records.to_string());
    trial.set("inodes free then", free_inodes(at)?.to_string());
    let reason = written.refused.unwrap_or_default();
    let reason = reason.replace(&at.display().to_string(), "…");
    trial.note(&format!("refused: {reason}"));
    let alive = trial.running.is_alive()?;
    trial.set("alive", yes_or_no(alive));
    if !alive {
        start(trial, "starts as it is");
        return Ok(());
    }
    let read = topic.read(&trial.running, 4);
    trial.set("reads what was taken", yes_or_no(read.is_ok()));
    trial.running.end(Signal::KILL)?;
    start(trial, "starts as it is");
    if !trial.running.is_alive()? {
        return Ok(());
    }
    let read = topic.read(&trial.running, 4);
    trial.set(
        "reads it after kill -9 and a start",
        yes_or_no(read.is_ok()),
    );
    let deleted = topic.delete(&trial.running);
    trial.set("deletes the topic", yes_or_no(deleted.is_ok()));
    let mut produces = false;
    for _ in 0..TRIES {
        let written = other.write(&trial.running, 1)?;
        produces = written.refused.is_none();
        if produces {
            break;
        }
        pause(PAUSE);
    }
    trial.set(
        "then produces again, without a restart",
        yes_or_no(produces),
    );
    Ok(())
}

fn start(trial: &mut Trial<'_>, row: &str) {
    let started = trial.running.start_again().is_ok();
    let address = trial.running.bootstrap().to_owned();
    trial.set(row, yes_or_no(started && connections::are_served(&address)));
}

fn free_inodes(at: &Path) -> Result<u64> {
    Ok(rustix::fs::statvfs(at)?.f_favail)
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
        // The unmount fails when nothing was mounted.
        let _ = Command::new("umount").arg("--lazy").arg(self.at()).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
