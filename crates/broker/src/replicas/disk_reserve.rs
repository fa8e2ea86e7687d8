//! What is kept free on the file system of a log directory: `ottla.disk.reserve`.
//!
//! Below it clients' records are refused, with the reason, until there is space again. All else goes on: fetches,
//! committed offsets, metadata, retention, deletion; the reserve is their space. The file system is looked at every
//! second, and again whenever an eighth of the reserve may have been written since.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ottla_log::LogDirectory;
use ottla_log::files::disk::Disk;
use ottla_log::files::{Files as _, Space};

use crate::disk_spare;

/// The default is this, or a [`SHARE`]th of the file system where that is less.
const LARGEST_DEFAULT: u64 = 1 << 30;
const SHARE: u64 = 20;
/// A look is a system call: however small the reserve, not every append pays for one.
const LEAST_BETWEEN_LOOKS: u64 = 1 << 20;

/// The reserve of one log directory.
#[derive(Debug)]
pub struct DiskReserve {
    directory: Arc<LogDirectory<Disk>>,
    /// `ottla.disk.reserve`, where it is set.
    configured: Option<u64>,
    /// Bytes that may be appended before the next look; wraps below zero once that is due.
    until_look: AtomicU64,
    is_short: AtomicBool,
    has_spare: AtomicBool,
}

/// Less space than is to be kept free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shortage {
    free: u64,
    reserve: u64,
}

impl DiskReserve {
    /// The reserve of `directory`, of the configured size or the default.
    pub fn new(directory: Arc<LogDirectory<Disk>>, configured: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            directory,
            configured,
            until_look: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
            has_spare: AtomicBool::new(false),
        })
    }

    /// Whether clients' records are refused for lack of space.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// The path of the log directory.
    pub fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Takes note of bytes that were appended.
    pub fn appended(&self, bytes: u64) {
        let before = self.until_look.fetch_sub(bytes, Ordering::Relaxed);
        if before < bytes {
            self.look();
        }
    }

    /// Looks at the file system, and says when it begins and ends to be short.
    pub fn look(&self) {
        let Ok(space) = self.directory.files().space(self.path()) else {
            // A failed disk is noticed by those who write.
            return;
        };
        let reserve = reserve(space, self.configured);
        self.until_look
            .store((reserve / 8).max(LEAST_BETWEEN_LOOKS), Ordering::Relaxed);
        let shortage = shortage(space, reserve);
        let was_short = self.is_short.swap(shortage.is_some(), Ordering::Relaxed);
        match shortage {
            Some(Shortage { free, reserve }) if !was_short => tracing::error!(
                log_dir = %self.path().display(),
                free,
                reserve,
                "below ottla.disk.reserve: records of clients are refused until there is space; \
                 delete topics or records, lower retention, or enlarge the disk"
            ),
            None if was_short => tracing::info!(
                log_dir = %self.path().display(),
                free = space.free,
                "there is space again: records of clients are accepted"
            ),
            _ => {}
        }
    }

    /// Sees once, as soon as there is enough space, that the next start finds some, whatever happens until then.
    pub fn keep_spare(&self) {
        if self.has_spare.load(Ordering::Relaxed) {
            return;
        }
        let space = self.directory.files().space(self.path());
        let is_enough = space.is_ok_and(|space| {
            space.free >= reserve(space, self.configured).saturating_add(disk_spare::BYTES)
        });
        if !is_enough || self.has_spare.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = disk_spare::keep(self.path()) {
            self.has_spare.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "cannot keep space for a start on a full disk");
        }
    }
}

/// The bytes to keep free.
fn reserve(space: Space, configured: Option<u64>) -> u64 {
    configured.unwrap_or_else(|| LARGEST_DEFAULT.min(space.total / SHARE))
}

fn shortage(space: Space, reserve: u64) -> Option<Shortage> {
    let Space { free, .. } = space;
    (free < reserve).then_some(Shortage { free, reserve })
}

#[cfg(test)]
mod tests {
    use super::{DiskReserve, LARGEST_DEFAULT, Shortage, Space, reserve, shortage};
    use ottla_log::LogDirectory;
    use ottla_log::files::disk::Disk;

    #[test]
    fn the_default_is_a_share_of_the_disk_and_a_gibibyte_at_most() {
        let of = |total| reserve(Space { total, free: 0 }, None);
        assert_eq!(of(64 << 20), (64 << 20) / 20);
        assert_eq!(of(1 << 40), LARGEST_DEFAULT);
        assert_eq!(
            reserve(
                Space {
                    total: 1 << 40,
                    free: 0
                },
                Some(5)
            ),
            5
        );
    }

    #[test]
    fn a_disk_is_short_below_its_reserve_only() {
        let with = |free| shortage(Space { total: 100, free }, 10);
        assert_eq!(with(10), None);
        assert_eq!(
            with(9),
            Some(Shortage {
                free: 9,
                reserve: 10
            })
        );
        assert_eq!(
            shortage(
                Space {
                    total: 100,
                    free: 0
                },
                0
            ),
            None
        );
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
