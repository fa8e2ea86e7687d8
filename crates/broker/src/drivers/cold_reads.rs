//! Reads records that are not in the page cache, on threads that may wait for the disk. No thread of the runtime does.
//!
//! Each log directory has `THREADS` of these threads, so that a stalled disk delays its own readers only. Other readers
//! wait in the order of arrival. Before each request to the disk a thread lets a running sync end: a sync or an append
//! waits for `THREADS` requests at most.
//!
//! Records are read in large pieces past the page cache (`pieces.rs`), so that they push nothing out of it. Indexes and
//! the heads of batches are read into the page cache, and so are records when the memory for pieces is used up.
//! Those bytes are dropped from it again after `KEPT_BYTES` more.

mod buffers;
mod pieces;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use ottla_log::files::{File, FileError, Files};
use ottla_log::{LogDirectory, Missing, ReadPlan, StorageError};
use tokio::sync::Semaphore;

use self::buffers::Buffers;
use self::pieces::{Asked, Pieces, Unread};
use super::disk_work::blocking;
use super::syncs::Syncs;

/// Threads of one log directory that read at the same time.
const THREADS: usize = 2;
/// Upper bound of the bytes that are sent from the page cache after one look whether they are there, and of the bytes that
/// are read into it at a time. The kernel may not give the core to another thread while it sends: a tenth of a
/// millisecond for this many.
pub const PIECE: usize = 256 << 10;
/// A search that misses some bytes gets those around them too, because it goes on near by.
const SEARCHED: u64 = 16 << 10;
/// The bytes that cold reads leave in the page cache, of each log directory: searches close to each other share them.
const KEPT_BYTES: u64 = 64 << 20;

/// The cold reads of all log directories.
#[derive(Debug)]
pub struct ColdReads<F: Files> {
    directories: BTreeMap<PathBuf, Arc<DirectoryReads<F>>>,
}

/// The cold reads of one log directory.
#[derive(Debug)]
struct DirectoryReads<F: Files> {
    /// A permit for each thread.
    threads: Arc<Semaphore>,
    /// The syncs of the directory, which go first.
    syncs: Arc<Syncs>,
    pieces: Pieces<F::File>,
    buffers: Arc<Buffers>,
    kept: Mutex<Kept<F::File>>,
    loaded: AtomicU64,
}

/// The ranges that were read into the page cache and not dropped yet, oldest first.
#[derive(Debug)]
struct Kept<H> {
    ranges: VecDeque<KeptRange<H>>,
    bytes: u64,
}

/// A range of a file in the page cache. If the file has been closed, the kernel decides when to drop the range.
#[derive(Debug)]
struct KeptRange<H> {
    file: Weak<H>,
    position: u64,
    length: u64,
}

/// Records that were asked for.
#[derive(Debug)]
pub enum Records {
    /// They are in memory.
    Read(Bytes),
    /// They are being read.
    Loading(Loading),
}

/// Bytes that are being read. If this is dropped, its reader no longer waits for a thread.
pub struct Loading(Pin<Box<dyn Future<Output = Result<Option<Bytes>, StorageError>> + Send>>);

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loading")
    }
}

impl Loading {
    /// Waits for the bytes, which are not empty; `None` if they are in the page cache now. Cancel safe.
    pub async fn wait(&mut self) -> Result<Option<Bytes>, StorageError> {
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
        }
    }

    /// Whether the first of the planned bytes behind `skipped` were read before, or are being read.
    pub fn has(&self, plan: &ReadPlan<F>, skipped: usize) -> bool {
        let has = |file| {
            let reads = self.of(plan.directory().path());
            reads.pieces.has(file, plan.position + skipped as u64)
        };
        plan.file().is_some_and(has)
    }

    /// The first of the planned bytes behind `skipped`, as many as are in one piece. If they are not in memory, the result
    /// may be that the first [`PIECE`] of them are in the page cache.
    pub fn records(&self, plan: &ReadPlan<F>, skipped: usize) -> Records {
        let Some(file) = plan.file() else {
            return Records::Read(Bytes::new());
        };
        let asked = Asked::of(plan, plan.position + skipped as u64);
        self.read(plan.directory(), file, (&asked, plan.length - skipped))
    }

    fn read(
        &self,
        log: &Arc<LogDirectory<F>>,
        file: &Arc<F::File>,
        (asked, length): (&Asked, usize),
    ) -> Records {
        let reads = self.of(log.path());
        let position = asked.position;
        let piece = reads.pieces.ask(file, asked).map(|answer| {
            if !answer.unread.is_empty() {
                reads.start(log, file, answer.unread);
            }
            answer.piece
        });
        let read = piece
            .as_ref()
            .and_then(|piece| piece.read(position, length));
        if let Some(bytes) = read {
            return Records::Read(bytes);
        }
        let missing = Missing {
            file: Arc::clone(file),
            position,
            length: length.min(PIECE),
        };
        let log = Arc::clone(log);
        Records::Loading(Loading(Box::pin(async move {
            if let Some(piece) = piece
                && let Some(bytes) = piece.arrived(position, length).await
            {
                return Ok(Some(bytes));
            }
            reads.cache(log, missing).await.map(|()| None)
        })))
    }

    /// Reads what a search misses of a file in `log`, and what lies around it, into the page cache.
    pub fn load_missing(&self, log: &Arc<LogDirectory<F>>, missing: Missing<F::File>) -> Loading {
        let end = missing.position + missing.length as u64;
        let position = missing.position - missing.position % SEARCHED;
        let length = end.next_multiple_of(SEARCHED) - position;
        let around = Missing {
            position,
            length: usize::try_from(length).unwrap_or(PIECE),
            file: missing.file,
        };
        let (log, reads) = (Arc::clone(log), self.of(log.path()));
        Loading(Box::pin(async move {
            reads.cache(log, around).await.map(|()| None)
        }))
    }

    /// How often a thread has read something.
    pub fn loaded(&self) -> u64 {
        let loaded = |reads: &Arc<DirectoryReads<F>>| reads.loaded.load(Ordering::Relaxed);
        self.directories.values().map(loaded).sum()
    }

    /// Holds all threads of a directory, as readers of a disk do that does not answer.
    #[cfg(test)]
    pub async fn take_all_threads(&self, directory: &Path) -> tokio::sync::OwnedSemaphorePermit {
        let threads = Arc::clone(&self.of(directory).threads);
        let all = u32::try_from(THREADS).expect("a few threads");
        let taken = threads.acquire_many_owned(all).await;
        taken.expect("the semaphore is never closed")
    }

    fn of(&self, directory: &Path) -> Arc<DirectoryReads<F>> {
        let reads = self.directories.get(directory);
        Arc::clone(reads.expect("a log lies in one of the node's log directories"))
    }
}

impl<F: Files> DirectoryReads<F> {
    fn new(syncs: Arc<Syncs>) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(THREADS)),
            syncs,
            pieces: Pieces::default(),
            buffers: Arc::default(),
            kept: Mutex::new(Kept {
                ranges: VecDeque::new(),
                bytes: 0,
            }),
            loaded: AtomicU64::new(0),
        }
    }

    /// Runs work on one of the directory's threads.
    async fn on_thread<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        blocking(move || {
            let done = work(&self);
            // The work has dropped its files before.
            drop(permit);
            done
        })
        .await
    }

    /// Reads pieces one after the other. A reader that leaves does not stop it: others may wait for the same pieces.
    fn start(
        self: &Arc<Self>,
        log: &Arc<LogDirectory<F>>,
        file: &Arc<F::File>,
        unread: Vec<Unread>,
    ) {
        let (reads, log, file) = (Arc::clone(self), Arc::clone(log), Arc::clone(file));
        drop(tokio::spawn(reads.on_thread(move |reads| {
            // Dropped pieces are those that failed: their readers load them into the page cache, which reports the error.
            let _ = reads.read_pieces(&log, &file, unread);
        })));
    }

    fn read_pieces(
        &self,
        log: &LogDirectory<F>,
        file: &F::File,
        unread: Vec<Unread>,
    ) -> Result<(), StorageError> {
        // The disk may have failed, and the reader may have left, while this waited for a thread.
        log.ensure_online()?;
        for piece in unread {
            if !piece.is_awaited() {
                return Ok(());
            }
            let Some(mut buffer) = self.buffers.lend() else {
                return Ok(());
            };
            self.syncs.let_through();
            let read = file.read_past_cache_at(buffer.room(), piece.position);
            let read = log.judge(read)?;
            self.loaded.fetch_add(1, Ordering::Relaxed);
            piece.arrives(&buffer.filled(read));
        }
        Ok(())
    }

    /// Reads what is missing into the page cache.
    async fn cache(
        self: Arc<Self>,
        log: Arc<LogDirectory<F>>,
        missing: Missing<F::File>,
    ) -> Result<(), StorageError> {
        let read = move |reads: &Self| {
            // The disk may have failed while this waited for a thread.
            log.ensure_online()?;
            log.judge(reads.read_into_cache(&missing))
        };
        self.on_thread(read).await
    }

    fn read_into_cache(&self, missing: &Missing<F::File>) -> Result<(), FileError> {
        let Missing {
            ref file,
            position,
            length,
        } = *missing;
        let bytes = length as u64;
        self.loaded.fetch_add(1, Ordering::Relaxed);
        // The look of the search may have made the kernel read it.
        if file.is_cached(position, bytes) {
            return Ok(());
        }
        self.syncs.let_through();
        file.prefetch(position, bytes);
        let mut buffer = vec![0; length];
        file.read_at(&mut buffer, position)?;
        self.keep(file, position, bytes);
        Ok(())
    }

    /// Drops the oldest ranges beyond [`KEPT_BYTES`].
    fn keep(&self, file: &Arc<F::File>, position: u64, length: u64) {
        let mut surplus = Vec::new();
        {
            // Held for a change in memory only.
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.bytes += length;
            kept.ranges.push_back(KeptRange {
                file: Arc::downgrade(file),
                position,
                length,
            });
            while kept.bytes > KEPT_BYTES
                && let Some(oldest) = kept.ranges.pop_front()
            {
                kept.bytes -= oldest.length;
                surplus.push(oldest);
            }
        }
        for range in surplus {
            if let Some(file) = range.file.upgrade() {
                file.forget_cached(range.position, range.length);
            }
        }
    }
}

#[cfg(test)]
mod tests;
