//! A file system in memory that knows what was synced: the disk of tests and of the simulation.
//!
//! [`Simulated::power_cut`] returns the disk as it may be after a power cut: all that was synced, and an arbitrary part
//! of the rest, whole, torn or as zeros, in any order between files and directories. Only the names of one directory
//! keep their order, as in a journal. The same seed gives the same disk.
//!
//! Faults are injected with [`Simulated::fail_nth`], [`Simulated::limit_space`] (a full disk),
//! [`Simulated::limit_handles`] (no descriptors) and [`Simulated::cut_power_after`]. After a failed sync of a file its
//! unsynced writes count as clean and are lost, as on Linux: a second sync reports no error and saves nothing. Names
//! stay unsynced after a failed sync of their directory.

mod random;
mod state;

pub use self::random::Random;
use self::state::{Node, State};
use super::{Entry, File, FileError, Files, Open, Operation, Space, Status};
use rustix::io::Errno;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file system in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`Simulated`] file system.
#[derive(Debug)]
pub struct SimulatedFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    path: PathBuf,
}

impl Simulated {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk after a power cut: what was synced, and a part, chosen by `seed`, of what was not.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.lock().after_power_cut(seed))),
        }
    }

    /// The disk after the process was killed: everything written is there (assumption 13 of `docs/formats.md`).
    #[must_use]
    pub fn process_killed(&self) -> Self {
        Self {
            state: Arc::new(Mutex::new(self.lock().after_kill())),
        }
    }

    /// Makes the `nth` `operation` from now on, counted from 1, fail once with `kind`.
    pub fn fail_nth(&self, operation: Operation, nth: u64, kind: io::ErrorKind) {
        self.lock().faults.push(state::Fault {
            operation,
            remaining: nth,
            kind,
        });
    }

    /// Limits all files together to `bytes`. The write that exceeds it is cut short and fails. `None` removes the
    /// limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.lock().space = bytes;
    }

    /// Limits the number of open files. Opening one more fails with `EMFILE`. `None` removes the limit.
    pub fn limit_handles(&self, count: Option<usize>) {
        self.lock().handles = count;
    }

    /// Cuts the power after `count` more changes: from then on every call fails.
    pub fn cut_power_after(&self, count: u64) {
        self.lock().changes_until_cut = Some(count);
    }

    /// Removes all limits, and all faults that have not happened yet.
    pub fn heal(&self) {
        self.lock().heal();
    }

    /// Whether the power is off: see [`Simulated::cut_power_after`].
    pub fn is_power_off(&self) -> bool {
        self.lock().changes_until_cut == Some(0)
    }

    /// The number of changes (writes, syncs, renames, …) so far.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// The number of open files.
    pub fn open_handles(&self) -> usize {
        self.lock().open_handles
    }

    /// How often `operation` was called so far.
    pub fn count(&self, operation: Operation) -> u64 {
        self.lock().counts.get(&operation).copied().unwrap_or(0)
    }

    /// Empties the page cache: all content is cold until it is read again.
    pub fn forget_all_cached(&self) {
        self.lock().forget_all_cached();
    }

    /// Sets the clock for the modification times of files.
    pub fn set_clock(&self, now_ms: i64) {
        self.lock().now_ms = now_ms;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listing or syncing a directory opens it for a moment.
    fn need_handle(state: &State, operation: Operation, path: &Path) -> Result<(), FileError> {
        if state.has_free_handle() {
            Ok(())
        } else {
            Err(FileError::new(operation, path, Errno::MFILE))
        }
    }

    fn open_file(&self, state: &mut State, inode: u64, path: &Path) -> SimulatedFile {
        state.open_handles += 1;
        SimulatedFile {
            state: Arc::clone(&self.state),
            inode,
            path: path.to_path_buf(),
        }
    }
}

fn failed(operation: Operation, path: &Path) -> impl FnOnce(io::ErrorKind) -> FileError {
    move |kind| FileError::new(operation, path, kind)
}

impl Files for Simulated {
    type File = SimulatedFile;

    fn open(&self, path: &Path, how: Open) -> Result<SimulatedFile, FileError> {
        let mut state = self.lock();
        Self::need_handle(&state, Operation::Open, path)?;
        let changes = how != Open::Read && how != Open::Write;
        state
            .before(Operation::Open, changes)
            .map_err(failed(Operation::Open, path))?;
        let inode = match state.find(path) {
            Ok(inode) if state.is_directory(inode) => Err(io::ErrorKind::IsADirectory),
            Ok(inode) => Ok(inode),
            Err(_) if changes => {
                let file = Node::empty_file(state.now_ms);
                state.create(path, file)
            }
            Err(kind) => Err(kind),
        };
        let inode = inode.map_err(failed(Operation::Open, path))?;
        if how == Open::Replace {
            state.truncate(inode, 0);
        }
        Ok(self.open_file(&mut state, inode, path))
    }

    fn create_directory(&self, path: &Path) -> Result<(), FileError> {
        let mut state = self.lock();
        let error = |kind| FileError::new(Operation::CreateDirectory, path, kind);
        state
            .before(Operation::CreateDirectory, true)
            .map_err(error)?;
        if state.find(path).is_err() {
            state.create(path, Node::empty_directory()).map_err(error)?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        let mut state = self.lock();
        Self::need_handle(&state, Operation::List, path)?;
        let error = |kind| FileError::new(Operation::List, path, kind);
        state.before(Operation::List, false).map_err(error)?;
        let inode = state.find(path).map_err(error)?;
        let names = state.names(inode).map_err(error)?;
        Ok(names
            .into_iter()
            .map(|(name, inode)| Entry {
                name,
                is_directory: state.is_directory(inode),
            })
            .collect())
    }

    fn status(&self, path: &Path) -> Result<Option<Status>, FileError> {
        let mut state = self.lock();
        state
            .before(Operation::Status, false)
            .map_err(failed(Operation::Status, path))?;
        Ok(state.find(path).ok().map(|inode| state.status(inode)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let mut state = self.lock();
        let error = |kind| FileError::new(Operation::Rename, from, kind);
        state.before(Operation::Rename, true).map_err(error)?;
        state.rename(from, to).map_err(error)
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        let mut state = self.lock();
        let error = |kind| FileError::new(Operation::Remove, path, kind);
        state.before(Operation::Remove, true).map_err(error)?;
        let inode = state.find(path).map_err(error)?;
        if state.is_directory(inode) {
            return Err(error(io::ErrorKind::IsADirectory));
        }
        state.unlink(path).map_err(error)
    }

    fn remove_directory(&self, path: &Path) -> Result<(), FileError> {
        let mut state = self.lock();
        let error = |kind| FileError::new(Operation::Remove, path, kind);
        state.before(Operation::Remove, true).map_err(error)?;
        let inode = state.find(path).map_err(error)?;
        if !state.names(inode).map_err(error)?.is_empty() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty));
        }
        state.unlink(path).map_err(error)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), FileError> {
        let mut state = self.lock();
        Self::need_handle(&state, Operation::Open, path)?;
        let error = |kind| FileError::new(Operation::SyncDirectory, path, kind);
        let allowed = state.before(Operation::SyncDirectory, true);
        let inode = state.find(path).map_err(error)?;
        state.settle(inode, allowed.is_ok());
        allowed.map_err(error)
    }

    fn sync_file_system(&self, path: &Path) -> Result<(), FileError> {
        let mut state = self.lock();
        Self::need_handle(&state, Operation::Open, path)?;
        let allowed = state.before(Operation::SyncFileSystem, true);
        state.settle_all(allowed.is_ok());
        allowed.map_err(failed(Operation::SyncFileSystem, path))
    }

    fn space(&self, path: &Path) -> Result<Space, FileError> {
        let mut state = self.lock();
        state
            .before(Operation::Status, false)
            .map_err(failed(Operation::Status, path))?;
        Ok(Space {
            total: state.total_bytes(),
            free: state.free_bytes(),
            inodes: None,
        })
    }
}

impl SimulatedFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: Operation) -> impl FnOnce(io::ErrorKind) -> FileError {
        failed(operation, &self.path)
    }
}

impl File for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        let read = self.read_past_cache_at(buffer, position)?;
        self.lock().cache(self.inode, position, read as u64);
        Ok(read)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> Result<(), FileError> {
        let mut state = self.lock();
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let was_off = state.power_is_off;
        let allowed = state.before(Operation::Write, true);
        if was_off {
            return allowed.map_err(self.failed(Operation::Write));
        }
        let torn = allowed.is_err();
        let kept = state.write(self.inode, &bytes, position, torn);
        allowed.and(kept).map_err(self.failed(Operation::Write))
    }

    fn sync_data(&self) -> Result<(), FileError> {
        let mut state = self.lock();
        let allowed = state.before(Operation::Sync, true);
        // A failed sync of the file system is reported by the next sync of each file that has lost something by it
        // (assumption 12 of `docs/formats.md`).
        let allowed = allowed.and(state.report_error(self.inode));
        state.settle(self.inode, allowed.is_ok());
        allowed.map_err(self.failed(Operation::Sync))
    }

    fn length(&self) -> Result<u64, FileError> {
        let mut state = self.lock();
        state
            .before(Operation::Status, false)
            .map_err(self.failed(Operation::Status))?;
        Ok(state.status(self.inode).length)
    }

    fn truncate(&self, length: u64) -> Result<(), FileError> {
        let mut state = self.lock();
        state
            .before(Operation::Truncate, true)
            .map_err(self.failed(Operation::Truncate))?;
        state.truncate(self.inode, length);
        Ok(())
    }

    fn reserve(&self, _position: u64, _length: u64) -> Result<(), FileError> {
        self.lock()
            .before(Operation::Reserve, false)
            .map_err(self.failed(Operation::Reserve))
    }

    fn forget_cached(&self, position: u64, length: u64) {
        self.lock().forget_cached(self.inode, position, length);
    }

    fn is_cached(&self, position: u64, length: u64) -> bool {
        self.lock().is_cached(self.inode, position, length)
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> Result<Option<usize>, FileError> {
        if self.is_cached(position, buffer.len() as u64) {
            self.read_at(buffer, position).map(Some)
        } else {
            Ok(None)
        }
    }

    fn read_past_cache_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        let mut state = self.lock();
        state
            .before(Operation::Read, false)
            .map_err(self.failed(Operation::Read))?;
        Ok(state.read(self.inode, buffer, position))
    }

    fn prefetch(&self, position: u64, length: u64) {
        self.lock().cache(self.inode, position, length);
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.lock().open_handles -= 1;
    }
}
