//! Brings records that are not in the page cache into it, on threads that may wait for the disk, so that no thread of
//! the runtime does.
//!
//! Every log directory has its own `TURNS`: a disk that stalls holds up its own readers only. A reader that finds no
//! turn free waits in the order of arrival and holds no thread. A reader that goes away gives its place up, or leaves
//! one `PIECE` and its read-ahead behind. Pieces are small enough that syncs and appends get in between.
//! What was brought in is dropped again after `KEPT_BYTES` more, so that cold reads do not push out what is hot.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ottla_log::files::{File, FileError, Files};
use ottla_log::{LogDirectory, Missing, ReadPlan, StorageError};
use tokio::sync::Semaphore;

use crate::drivers::disk_work::blocking;

/// Reads of one log directory that run at the same time, each on a thread.
const TURNS: usize = 2;
/// The most that a reader gets in one turn.
pub const PIECE: usize = 1 << 20;
/// What is read ahead behind a piece: the next fetch of a sequential reader finds it.
const AHEAD: u64 = 3 << 20;
/// Bytes of one call to the disk.
const STEP: usize = 256 << 10;
/// What stays in the page cache of each directory's cold reads: readers close to each other share it.
const KEPT_BYTES: u64 = 64 << 20;

/// The cold reads of all log directories.
#[derive(Debug)]
pub struct ColdReads<F: Files> {
    directories: Mutex<BTreeMap<PathBuf, Arc<DirectoryReads<F>>>>,
    loaded: Arc<AtomicU64>,
}

/// The cold reads of one log directory.
#[derive(Debug)]
struct DirectoryReads<F: Files> {
    turns: Arc<Semaphore>,
    kept: Mutex<Kept<F::File>>,
}

/// Stretches that were brought into the page cache and not dropped yet, oldest first.
#[derive(Debug)]
struct Kept<H> {
    stretches: VecDeque<Stretch<H>>,
    bytes: u64,
}

/// A file that is closed meanwhile is not opened again to be dropped: the kernel's own reclaim is left to it.
#[derive(Debug)]
struct Stretch<H> {
    file: Weak<H>,
    position: u64,
    length: u64,
}

/// A piece on its way into the page cache; dropped, it gives its turn up.
pub struct Loading(Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>);

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loading")
    }
}

impl Loading {
    /// Waits until the piece is in the page cache, or the read has failed. Cancel safe.
    pub async fn wait(&mut self) -> Result<(), StorageError> {
        self.0.as_mut().await
    }
}

impl<F: Files> Default for ColdReads<F> {
    fn default() -> Self {
        Self {
            directories: Mutex::default(),
            loaded: Arc::default(),
        }
    }
}

impl<F: Files> ColdReads<F> {
    /// Brings `length` bytes of the file of `plan`, from `position` on, into the page cache when their turn comes.
    pub fn load(&self, plan: &ReadPlan<F>, position: u64, length: usize) -> Loading {
        match plan.file() {
            None => Loading(Box::pin(std::future::ready(Ok(())))),
            Some(file) => self.load_missing(
                plan.directory(),
                Missing {
                    file: Arc::clone(file),
                    position,
                    length,
                },
            ),
        }
    }

    /// The same with what a plan lacks of files in `log`, indexes among them.
    pub fn load_missing(&self, log: &Arc<LogDirectory<F>>, missing: Missing<F::File>) -> Loading {
        self.queue(Arc::clone(log), missing)
    }

    /// How many pieces have been loaded.
    pub fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    fn queue(&self, log: Arc<LogDirectory<F>>, piece: Missing<F::File>) -> Loading {
        let reads = self.of(log.path());
        let loaded = Arc::clone(&self.loaded);
        Loading(Box::pin(async move {
            let turn = Arc::clone(&reads.turns).acquire_owned().await;
            let turn = turn.expect("the semaphore is never closed");
            blocking(move || {
                let _turn = turn;
                // The disk may have failed while this reader waited for its turn.
                log.ensure_online()?;
                log.judge(reads.bring_in(&piece))?;
                loaded.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .await
        }))
    }

    fn of(&self, directory: &Path) -> Arc<DirectoryReads<F>> {
        // Held for the lookup only.
        let directories = self.directories.lock();
        let mut directories = directories.unwrap_or_else(PoisonError::into_inner);
        if let Some(reads) = directories.get(directory) {
            return Arc::clone(reads);
        }
        let reads = Arc::new(DirectoryReads::default());
        directories.insert(directory.to_path_buf(), Arc::clone(&reads));
        reads
    }
}

impl<F: Files> Default for DirectoryReads<F> {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(TURNS)),
            kept: Mutex::new(Kept {
                stretches: VecDeque::new(),
                bytes: 0,
            }),
        }
    }
}

impl<F: Files> DirectoryReads<F> {
    fn bring_in(&self, piece: &Missing<F::File>) -> Result<(), FileError> {
        let Missing {
            file,
            position,
            length,
        } = piece;
        let (position, length) = (*position, *length);
        let end = position + length as u64;
        // A cached byte there is the tail or another reader's; neither is to be dropped.
        let ahead = if file.is_cached(end, 1) { 0 } else { AHEAD };
        let total = length as u64 + ahead;
        file.prefetch(position, total);
        let mut buffer = vec![0; STEP.min(length)];
        let mut at = position;
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(STEP);
            let step = buffer.get_mut(..left.min(STEP)).unwrap_or_default();
            let read = file.read_at(step, at)?;
            if read == 0 {
                break;
            }
            at += read as u64;
        }
        self.keep(file, position, total);
        Ok(())
    }

    /// Drops the oldest stretches beyond [`KEPT_BYTES`].
    fn keep(&self, file: &Arc<F::File>, position: u64, length: u64) {
        let mut surplus = Vec::new();
        {
            let kept = self.kept.lock();
            let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
            kept.bytes += length;
            kept.stretches.push_back(Stretch {
                file: Arc::downgrade(file),
                position,
                length,
            });
            while kept.bytes > KEPT_BYTES
                && let Some(oldest) = kept.stretches.pop_front()
            {
                kept.bytes -= oldest.length;
                surplus.push(oldest);
            }
        }
        for stretch in surplus {
            if let Some(file) = stretch.file.upgrade() {
                file.forget_cached(stretch.position, stretch.length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{ErrorKind, IoSlice};
    use std::path::Path;
    use std::sync::Arc;
    use std::task::Poll;

    use ottla_log::files::simulated::{Simulated, SimulatedFile};
    use ottla_log::files::{File, Files, Open, Operation};
    use ottla_log::{LogDirectory, Missing, StorageError};

    use super::{AHEAD, ColdReads, KEPT_BYTES, Loading, PIECE, TURNS};

    const FILE_BYTES: usize = 8 << 20;

    /// A disk with a log directory, and a file in it of which nothing is in the page cache.
    fn cold(path: &str) -> (Simulated, Arc<LogDirectory<Simulated>>, Arc<SimulatedFile>) {
        let disk = Simulated::new();
        disk.create_directory(Path::new(path)).unwrap();
        let file = Path::new(path).join("0.log");
        let file = Arc::new(disk.open(&file, Open::Create).unwrap());
        file.write_at(&[IoSlice::new(&vec![1; FILE_BYTES])], 0)
            .unwrap();
        disk.forget_all_cached();
        let log = LogDirectory::new(disk.clone(), path);
        (disk, log, file)
    }

    fn piece(file: &Arc<SimulatedFile>) -> Missing<SimulatedFile> {
        Missing {
            file: Arc::clone(file),
            position: 1000,
            length: PIECE,
        }
    }

    async fn waits(loading: &mut Loading) -> bool {
        let poll = |context: &mut std::task::Context<'_>| {
            Poll::Ready(loading.0.as_mut().poll(context).is_pending())
        };
        poll_fn(poll).await
    }

    #[tokio::test]
    async fn a_cold_piece_and_what_is_read_next_are_brought_in() {
        let (_disk, log, file) = cold("/a");
        let reads = ColdReads::default();
        reads.queue(log, piece(&file)).wait().await.unwrap();
        assert!(file.is_cached(1000, PIECE as u64 + AHEAD));
        assert!(!file.is_cached(0, FILE_BYTES as u64));
        assert_eq!(reads.loaded(), 1);
    }

    #[tokio::test]
    async fn a_reader_waits_for_its_turn_and_others_pass_it_when_it_goes_away() {
        let (_disk, log, file) = cold("/a");
        let reads = ColdReads::default();
        let turns = Arc::clone(&reads.of(log.path()).turns);
        let all = u32::try_from(TURNS).unwrap();
        let taken = turns.acquire_many_owned(all).await.unwrap();

        let mut first = reads.queue(Arc::clone(&log), piece(&file));
        let mut second = reads.queue(Arc::clone(&log), piece(&file));
        assert!(waits(&mut first).await && waits(&mut second).await);
        let (_other_disk, other_log, other_file) = cold("/b");
        let mut elsewhere = reads.queue(other_log, piece(&other_file));
        elsewhere.wait().await.unwrap();
        assert!(!file.is_cached(1000, 1), "no turn was free");

        drop(first);
        drop(taken);
        second.wait().await.unwrap();
        drop(second);
        assert!(file.is_cached(1000, PIECE as u64));
        assert_eq!(Arc::strong_count(&file), 1, "nobody holds the file");
    }

    #[tokio::test]
    async fn a_read_that_fails_takes_the_directory_offline_for_those_who_wait() {
        let (disk, log, file) = cold("/a");
        let reads = ColdReads::default();
        disk.fail_nth(Operation::Read, 1, ErrorKind::Other);
        for _ in 0..2 {
            let failed = reads.queue(Arc::clone(&log), piece(&file)).wait().await;
            assert!(matches!(failed, Err(StorageError::Offline { .. })));
        }
        assert!(log.failure().is_some());
        assert_eq!(disk.count(Operation::Read), 1, "nothing is read again");
    }

    #[test]
    fn what_was_brought_in_is_dropped_when_enough_came_after_it() {
        let (_disk, log, file) = cold("/a");
        let reads = ColdReads::<Simulated>::default().of(log.path());
        file.prefetch(0, FILE_BYTES as u64);
        reads.keep(&file, 0, 4096);
        reads.keep(&file, 4096, KEPT_BYTES - 4096);
        assert!(file.is_cached(0, FILE_BYTES as u64));
        reads.keep(&file, 1 << 20, 1);
        assert!(!file.is_cached(0, 4096));
        assert!(file.is_cached(4096, 4096));
    }
}
