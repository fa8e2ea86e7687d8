//! Brings records that are not in the page cache into it, on threads that may wait for the disk, so that no thread of
//! the runtime does.
//!
//! Each log directory has `TURNS` of its own: a disk that stalls holds up its own readers only. A reader that finds no
//! turn free waits in the order of arrival and holds no thread. Each thread has one `STEP` on its way to the disk, and lets
//! a sync go first: syncs and appends wait for a few steps at most. A reader that goes on where an earlier one ended is
//! read ahead of, while its piece is sent. A reader that goes away gives its place up, or leaves one step behind.
//! What was brought in is dropped again after `KEPT_BYTES` more, so that cold reads do not push out what is hot.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ottla_log::files::{File, FileError, Files};
use ottla_log::{LogDirectory, Missing, ReadPlan, StorageError};
use tokio::sync::{Semaphore, oneshot};

use super::syncs::Syncs;

/// Reads of one log directory that run at the same time, each on a thread.
const TURNS: usize = 2;
/// The most that a reader waits for in one turn, and that is sent without another look at the page cache. The kernel may
/// not give the core to another thread meanwhile: 256 KiB take it a tenth of a millisecond.
pub const PIECE: usize = 256 << 10;
/// What is read ahead of a sequential reader.
const AHEAD: u64 = 3 << 20;
/// What one thread asks the disk for at a time. Twice this is what a sync may find before it.
const STEP: u64 = 256 << 10;
/// The page cache holds whole pages.
const PAGE: u64 = 4096;
/// What stays in the page cache of each directory's cold reads: readers close to each other share it.
const KEPT_BYTES: u64 = 64 << 20;

/// The cold reads of all log directories.
#[derive(Debug)]
pub struct ColdReads<F: Files> {
    directories: BTreeMap<PathBuf, Arc<DirectoryReads<F>>>,
    loaded: Arc<AtomicU64>,
}

/// The cold reads of one log directory.
#[derive(Debug)]
struct DirectoryReads<F: Files> {
    turns: Arc<Semaphore>,
    /// The syncs of the directory, which go first.
    syncs: Arc<Syncs>,
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

impl<F: Files> ColdReads<F> {
    /// Those of these log directories, with the syncs of each.
    pub fn new(directories: impl IntoIterator<Item = (PathBuf, Arc<Syncs>)>) -> Self {
        let directories = directories.into_iter();
        Self {
            directories: directories
                .map(|(path, syncs)| (path, Arc::new(DirectoryReads::new(syncs))))
                .collect(),
            loaded: Arc::default(),
        }
    }

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

    /// The same with what a search lacks of a file in `log`, and what lies around it: the search goes on near by.
    pub fn load_missing(&self, log: &Arc<LogDirectory<F>>, missing: Missing<F::File>) -> Loading {
        let around = Missing {
            position: missing.position - missing.position % PIECE as u64,
            length: PIECE,
            file: missing.file,
        };
        self.queue(Arc::clone(log), around)
    }

    /// How many pieces have been loaded.
    pub fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Holds all turns of a directory, as readers of a disk do that does not answer.
    #[cfg(test)]
    pub async fn take_all_turns(&self, directory: &Path) -> tokio::sync::OwnedSemaphorePermit {
        let turns = Arc::clone(&self.of(directory).turns);
        let all = u32::try_from(TURNS).expect("a few turns");
        let taken = turns.acquire_many_owned(all).await;
        taken.expect("the semaphore is never closed")
    }

    fn queue(&self, log: Arc<LogDirectory<F>>, wanted: Missing<F::File>) -> Loading {
        let reads = self.of(log.path());
        let loaded = Arc::clone(&self.loaded);
        Loading(Box::pin(async move {
            let turn = Arc::clone(&reads.turns).acquire_owned().await;
            let turn = turn.expect("the semaphore is never closed");
            let (tell, told) = oneshot::channel();
            let thread = tokio::task::spawn_blocking(move || {
                // The turn is given back after the file.
                let (_turn, wanted) = (turn, wanted);
                reads.take_turn(&log, &wanted, tell);
            });
            match told.await {
                Ok(outcome) => {
                    loaded.fetch_add(1, Ordering::Relaxed);
                    outcome
                }
                Err(_) => match thread.await {
                    Ok(()) => unreachable!("a turn tells its outcome"),
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
            }
        }))
    }

    fn of(&self, directory: &Path) -> Arc<DirectoryReads<F>> {
        let reads = self.directories.get(directory);
        Arc::clone(reads.expect("a log lies in one of the node's log directories"))
    }
}

/// How a reader learns that its piece is there.
type Tell = oneshot::Sender<Result<(), StorageError>>;

impl<F: Files> DirectoryReads<F> {
    fn new(syncs: Arc<Syncs>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(TURNS)),
            syncs,
            kept: Mutex::new(Kept {
                stretches: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    /// Brings in what is wanted, tells its reader, and goes on ahead of it.
    fn take_turn(&self, log: &LogDirectory<F>, wanted: &Missing<F::File>, tell: Tell) {
        if tell.is_closed() {
            return;
        }
        let goes_on = self.was_read_before(&wanted.file, wanted.position);
        let end = wanted.position + wanted.length as u64;
        // The disk may have failed while this reader waited for its turn.
        let outcome = log.ensure_online().and_then(|()| {
            let mut at = wanted.position;
            while at < end {
                at = log.judge(self.step(&wanted.file, at..end))?;
            }
            Ok(())
        });
        let is_there = outcome.is_ok();
        if tell.send(outcome).is_ok() && is_there && goes_on {
            self.read_ahead(&wanted.file, end);
        }
    }

    /// Goes on from `position` as far as nothing is in the page cache: a cached byte there is the tail or another reader's.
    /// Failures are left to the reader, who comes to the same place.
    fn read_ahead(&self, file: &Arc<F::File>, position: u64) {
        let length = file.length().unwrap_or(position);
        let end = length.min(position + AHEAD);
        // The page that `position` lies in came with the piece.
        let mut at = position.next_multiple_of(PAGE);
        while at < end && !file.is_cached(at, 1) {
            at = self.step(file, at..end).unwrap_or(end);
        }
    }

    /// Brings the first step of `stretch` in; returns where the next begins.
    fn step(&self, file: &Arc<F::File>, stretch: Range<u64>) -> Result<u64, FileError> {
        let Range { start, end } = stretch;
        let end = end.min(start + STEP);
        let length = end - start;
        if file.is_cached(start, length) {
            return Ok(end);
        }
        self.syncs.let_through();
        file.prefetch(start, length);
        // The step comes in one transfer as a rule: its last byte comes last.
        file.read_at(&mut [0], end - 1)?;
        if !file.is_cached(start, length) {
            let mut buffer = vec![0; usize::try_from(length).unwrap_or(PIECE)];
            file.read_at(&mut buffer, start)?;
        }
        self.keep(file, start, length);
        Ok(end)
    }

    /// Whether a stretch that was brought in ends at `position` or a little behind it: a batch may have been cut.
    fn was_read_before(&self, file: &Arc<F::File>, position: u64) -> bool {
        let kept = self.lock_kept();
        let mut stretches = kept.stretches.iter();
        stretches.any(|stretch| {
            (stretch.position..=stretch.position + stretch.length).contains(&position)
                && std::ptr::eq(stretch.file.as_ptr(), Arc::as_ptr(file))
        })
    }

    fn lock_kept(&self) -> MutexGuard<'_, Kept<F::File>> {
        // Held for a change in memory only.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the oldest stretches beyond [`KEPT_BYTES`].
    fn keep(&self, file: &Arc<F::File>, position: u64, length: u64) {
        let mut surplus = Vec::new();
        {
            let mut kept = self.lock_kept();
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
mod tests;
