//! The reserve of a log directory's file system: `ottla.disk.reserve` bytes, and some inodes.
//!
//! With less free space than that, clients' records are refused, with the reason. Fetches, committed offsets, metadata,
//! retention and deletion continue, and may use the reserve. The free space is checked every second, and after appends
//! of an eighth of the reserve. When inodes are few it is checked at each append, because an append may create four
//! files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use ottla_log::LogDirectory;
use ottla_log::files::{Files, Inodes, Space};

use crate::refusals::Refused;
use crate::spare;

/// Upper bound of the default reserve; on small file systems it is 1/[`SHARE`] of all bytes.
const LARGEST_DEFAULT: u64 = 1 << 30;
const SHARE: u64 = 20;
/// Upper bound of the inode reserve; on small file systems it is 1/[`SHARE`] of all inodes.
const MOST_INODES: u64 = 10_000;
/// With at most this many times the inode reserve free, the file system is checked after each append.
const FEW: u64 = 10;
/// Lower bound of the bytes between two checks, because a check is a system call.
const LEAST_BETWEEN_LOOKS: u64 = 1 << 20;

/// The reserve of one log directory.
#[derive(Debug)]
pub struct DiskReserve<F: Files> {
    directory: Arc<LogDirectory<F>>,
    /// `ottla.disk.reserve`, if it is set.
    configured: Option<u64>,
    /// Bytes that may be appended before the next check. It wraps below zero when a check is due.
    until_look: AtomicU64,
    /// [`ENOUGH`], [`FEW_BYTES`] or [`FEW_INODES`].
    state: AtomicU8,
    has_spare: AtomicBool,
}

const ENOUGH: u8 = 0;
const FEW_BYTES: u8 = 1;
const FEW_INODES: u8 = 2;

/// What there is less of than the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortage {
    Bytes { free: u64, reserve: u64 },
    Inodes { free: u64, reserve: u64 },
}

impl<F: Files> DiskReserve<F> {
    /// The reserve of `directory`, of the configured size or the default.
    pub fn new(directory: Arc<LogDirectory<F>>, configured: Option<u64>) -> Self {
        Self {
            directory,
            configured,
            until_look: AtomicU64::new(0),
            state: AtomicU8::new(ENOUGH),
            has_spare: AtomicBool::new(false),
        }
    }

    /// Whether clients' records are refused for lack of space.
    pub fn is_short(&self) -> bool {
        self.state.load(Ordering::Relaxed) != ENOUGH
    }

    /// The error for clients' records; `None` if they are accepted.
    pub fn refusal(&self) -> Option<Refused> {
        let path = || self.path().to_path_buf();
        match self.state.load(Ordering::Relaxed) {
            ENOUGH => None,
            FEW_INODES => Some(Refused::InodeReserve(path())),
            _ => Some(Refused::DiskReserve(path())),
        }
    }

    /// The path of the log directory.
    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Counts bytes that were appended.
    pub fn appended(&self, bytes: u64) {
        let before = self.until_look.fetch_sub(bytes, Ordering::Relaxed);
        if before < bytes {
            self.look();
        }
    }

    /// Checks the file system, and logs when the shortage begins and ends.
    pub fn look(&self) {
        let Ok(space) = self.directory.files().space(self.path()) else {
            // A failed disk is noticed by the next write.
            return;
        };
        let reserve = reserve(space, self.configured);
        let next = if inodes_are_few(space) {
            0
        } else {
            (reserve / 8).max(LEAST_BETWEEN_LOOKS)
        };
        self.until_look.store(next, Ordering::Relaxed);
        let shortage = shortage(space, reserve);
        let state = match shortage {
            None => ENOUGH,
            Some(Shortage::Bytes { .. }) => FEW_BYTES,
            Some(Shortage::Inodes { .. }) => FEW_INODES,
        };
        if self.state.swap(state, Ordering::Relaxed) != state {
            self.say(shortage, space);
        }
    }

    fn say(&self, shortage: Option<Shortage>, space: Space) {
        let log_dir = self.path().display();
        match shortage {
            Some(Shortage::Bytes { free, reserve }) => tracing::error!(
                %log_dir,
                free,
                reserve,
                "below ottla.disk.reserve: records of clients are refused until there is space; \
                 delete topics or records, lower retention, or enlarge the disk"
            ),
            Some(Shortage::Inodes { free, reserve }) => tracing::error!(
                %log_dir,
                free,
                reserve,
                "few inodes are left: records of clients are refused until there are more; delete topics or records, \
                 lower retention, make segments larger, or use a file system with more inodes"
            ),
            None => tracing::info!(
                %log_dir,
                free = space.free,
                "there is space again: records of clients are accepted"
            ),
        }
    }

    /// Makes the [`spare`] file once, as soon as there is space for it beyond the reserve: the next start, which may find
    /// the disk full, uses its space.
    pub fn keep_spare(&self) {
        if self.has_spare.load(Ordering::Relaxed) {
            return;
        }
        let files = self.directory.files();
        let space = files.space(self.path());
        let is_enough = space.is_ok_and(|space| {
            space.free >= reserve(space, self.configured).saturating_add(spare::BYTES)
        });
        if !is_enough || self.has_spare.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = spare::keep(files, self.path()) {
            self.has_spare.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "cannot reserve space for a start on a full disk");
        }
    }
}

fn reserve(space: Space, configured: Option<u64>) -> u64 {
    configured.unwrap_or_else(|| LARGEST_DEFAULT.min(space.total / SHARE))
}

fn shortage(space: Space, reserve: u64) -> Option<Shortage> {
    let Space { free, inodes, .. } = space;
    if free < reserve {
        return Some(Shortage::Bytes { free, reserve });
    }
    // If no bytes are reserved, no inodes are.
    let Inodes { free, total } = inodes.filter(|_| reserve > 0)?;
    let reserve = reserve_of_inodes(total);
    (free < reserve).then_some(Shortage::Inodes { free, reserve })
}

fn reserve_of_inodes(total: u64) -> u64 {
    MOST_INODES.min(total / SHARE)
}

fn inodes_are_few(space: Space) -> bool {
    space
        .inodes
        .is_some_and(|inodes| inodes.free < FEW * reserve_of_inodes(inodes.total))
}

#[cfg(test)]
mod tests {
    use super::{
        DiskReserve, Inodes, LARGEST_DEFAULT, Shortage, Space, inodes_are_few, reserve, shortage,
    };
    use ottla_log::LogDirectory;
    use ottla_log::files::disk::Disk;

    fn space(total: u64, free: u64) -> Space {
        Space {
            total,
            free,
            inodes: None,
        }
    }

    #[test]
    fn the_default_is_a_share_of_the_disk_and_a_gibibyte_at_most() {
        let of = |total| reserve(space(total, 0), None);
        assert_eq!(of(64 << 20), (64 << 20) / 20);
        assert_eq!(of(1 << 40), LARGEST_DEFAULT);
        assert_eq!(reserve(space(1 << 40, 0), Some(5)), 5);
    }

    #[test]
    fn a_disk_is_short_below_its_reserve_only() {
        let with = |free| shortage(space(100, free), 10);
        assert_eq!(with(10), None);
        let (free, reserve) = (9, 10);
        assert_eq!(with(9), Some(Shortage::Bytes { free, reserve }));
        assert_eq!(shortage(space(100, 0), 0), None);
    }

    #[test]
    fn a_disk_is_short_of_inodes_too() {
        let with = |total, free| Space {
            inodes: Some(Inodes { total, free }),
            ..space(100, 100)
        };
        assert_eq!(shortage(with(2000, 100), 10), None);
        let (free, reserve) = (99, 100);
        let few = Some(Shortage::Inodes { free, reserve });
        assert_eq!(shortage(with(2000, 99), 10), few);
        assert_eq!(shortage(with(2000, 99), 0), None, "nothing is to be kept");
        assert_eq!(shortage(with(1 << 40, 10_000), 10), None);
        assert!(inodes_are_few(with(2000, 999)) && !inodes_are_few(with(2000, 1000)));
        assert!(!inodes_are_few(space(1, 1)));
    }

    #[test]
    fn a_disk_is_looked_at_when_enough_was_appended() {
        let directory = tempfile::tempdir().unwrap();
        let log = LogDirectory::new(Disk, directory.path());
        let all = DiskReserve::new(log, Some(u64::MAX));
        assert!(!all.is_short(), "nobody has looked yet");
        all.appended(1);
        assert!(all.is_short());
        let log = LogDirectory::new(Disk, directory.path());
        let nothing = DiskReserve::new(log, Some(0));
        nothing.appended(1);
        assert!(!nothing.is_short());
    }
}
