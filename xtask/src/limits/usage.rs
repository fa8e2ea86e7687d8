//! The resources that a broker uses at one moment: memory maps, open files, memory, disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::sheet::Sheet;
use crate::measured::broker::Running;
use crate::time::{now, pause};

/// How long an idle broker is watched.
const IDLE: Duration = Duration::from_secs(30);

/// The use at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Maps of files of its data.
    pub data_maps: usize,
    /// Maps of any files: the program, its libraries, its data.
    pub file_maps: usize,
    /// All maps, with stacks and heaps, whose number grows with the threads.
    pub maps: usize,
    /// Open file descriptors.
    pub open_files: f64,
    /// Resident memory.
    pub resident_mib: f64,
}

impl Usage {
    /// Measures a broker whose data is below `data`.
    pub fn of(running: &Running, data: &Path) -> Result<Self> {
        let process = running.process();
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.0))?;
        let data = data.display().to_string();
        // The sixth field is the path, if a file is mapped.
        let is_file = |line: &&str| line.contains(" /");
        Ok(Self {
            data_maps: maps.lines().filter(|line| line.contains(&data)).count(),
            file_maps: maps.lines().filter(is_file).count(),
            maps: maps.lines().count(),
            open_files: process.open_files()?,
            resident_mib: process.resident_mib()?,
        })
    }

    /// Adds it to the rows that begin with `when`.
    pub fn note(&self, sheet: &mut Sheet, when: &str, column: &str) {
        let mut set = |what: &str, value: String| {
            sheet.set((&format!("{when}: {what}"), column), value);
        };
        set("memory maps of its data", self.data_maps.to_string());
        set("memory maps of files", self.file_maps.to_string());
        set("memory maps in all", self.maps.to_string());
        set("open files", format!("{:.0}", self.open_files));
        set("resident memory, MiB", format!("{:.1}", self.resident_mib));
    }
}

/// The CPU time of an idle broker, in % of a core.
pub fn idle_cpu_percent(running: &Running) -> Result<f64> {
    let before = running.process().cpu_seconds()?;
    let start = now();
    pause(IDLE);
    let used = running.process().cpu_seconds()? - before;
    Ok(used / start.elapsed().as_secs_f64() * 100.0)
}

/// The files below a directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnDisk {
    pub segments: u64,
    pub files: u64,
    /// The allocated blocks, not the length of the files.
    pub bytes: u64,
}

impl OnDisk {
    pub fn below(directory: &Path) -> Result<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let below = Self::below(&entry.path())?;
                found.segments += below.segments;
                found.files += below.files;
                found.bytes += below.bytes;
            } else {
                found.files += 1;
                let name = entry.file_name();
                found.segments += u64::from(name.to_string_lossy().ends_with(".log"));
            }
            found.bytes += entry.metadata()?.blocks() * 512;
        }
        Ok(found)
    }
}
