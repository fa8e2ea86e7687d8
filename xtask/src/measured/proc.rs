//! Figures from `/proc` about a process and about the machine.

use std::fs;

use anyhow::{Context, Result};

/// `USER_HZ`, in which `/proc` counts processor time; 100 on every architecture that the JVM and we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process, by its id.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// The CPU time of all its threads, also of those that have ended.
    pub fn cpu_seconds(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name in parentheses may contain spaces, so the fields are counted after it.
        let fields = stat.rsplit_once(") ").context("no process name in stat")?.1;
        // Fields 14 and 15 of proc(5): user and system time.
        seconds(fields.split(' ').skip(11).take(2))
    }

    /// The resident memory now.
    pub fn resident_mib(self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The largest resident memory so far.
    pub fn peak_resident_mib(self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Open file descriptors.
    pub fn open_files(self) -> Result<f64> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0))?.count() as f64)
    }

    /// Memory maps.
    pub fn memory_maps(self) -> Result<f64> {
        Ok(self.read("maps")?.lines().count() as f64)
    }

    fn status_mib(self, field: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: u32 = kib
            .with_context(|| format!("no {field} in status"))?
            .parse()?;
        Ok(f64::from(kib) / 1024.0)
    }

    fn read(self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.0))?)
    }
}

/// The CPU time of the whole machine: users, kernel and interrupts.
pub fn machine_cpu_seconds() -> Result<f64> {
    busy_seconds(&fs::read_to_string("/proc/stat")?)
}

/// Parses the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq; the rest
/// is time of other machines.
fn busy_seconds(stat: &str) -> Result<f64> {
    let line = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "));
    let fields: Vec<_> = line.context("no sum in stat")?.split_whitespace().collect();
    let busy = [0, 1, 2, 5, 6].map(|at| fields.get(at).copied().unwrap_or_default());
    seconds(busy.into_iter())
}

fn seconds<'a>(ticks: impl Iterator<Item = &'a str>) -> Result<f64> {
    let mut sum = 0;
    for field in ticks {
        sum += field.parse::<u64>()?;
    }
    Ok(sum as f64 / TICKS_PER_SECOND)
}

/// Processor, memory and kernel of this machine, for readers of the figures.
pub fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u32 = memory
        .and_then(|kib| kib.trim().strip_suffix(" kB"))
        .context("no MemTotal in meminfo")?
        .parse()?;
    Ok(format!(
        "{} cores ({}), {:.0} GiB of memory, Linux {}",
        std::thread::available_parallelism()?,
        model.map_or("unknown", |(_, model)| model),
        f64::from(kib) / 1_048_576.0,
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::{Process, busy_seconds};

    #[test]
    fn idle_and_stolen_time_are_not_busy() {
        let stat = "cpu  100 20 30 999 888 4 6 777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert!((busy_seconds(stat).unwrap() - 1.6).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_seen() {
        let this = Process(std::process::id());
        assert!(this.cpu_seconds().is_ok());
        assert!(this.resident_mib().unwrap() > 0.0);
        assert!(this.peak_resident_mib().unwrap() >= this.resident_mib().unwrap() / 2.0);
        assert!(this.open_files().unwrap() >= 3.0);
        assert!(this.memory_maps().unwrap() > 0.0);
    }
}
