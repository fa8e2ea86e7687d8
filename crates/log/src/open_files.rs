//! The cache of open files: a bounded number for all segments of all partitions.
//!
//! Active and closed segments count alike. The file that was not used for longest is closed, and opened again when it
//! is needed, which takes two microseconds. Its unsynced writes stay in the kernel; assumption 12 of `docs/formats.md`
//! says how an error in writing them back is reported. A file that is being read, written or synced stays open beyond
//! the bound until that has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The default bound.
const DEFAULT_LIMIT: usize = 1000;

/// A cache of open files. The least recently used one is closed first.
#[derive(Debug)]
pub struct OpenFiles<H> {
    limit: usize,
    // Shared by all partitions. Held for a lookup only.
    state: Mutex<State<H>>,
}

#[derive(Debug)]
struct State<H> {
    clock: u64,
    files: BTreeMap<PathBuf, (Arc<H>, u64)>,
    by_use: BTreeMap<u64, PathBuf>,
}

impl<H> Default for OpenFiles<H> {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl<H> OpenFiles<H> {
    /// A cache of at most `limit` files, at least one.
    pub fn new(limit: usize) -> Self {
        let state = State {
            clock: 0,
            files: BTreeMap::new(),
            by_use: BTreeMap::new(),
        };
        Self {
            limit: limit.max(1),
            state: Mutex::new(state),
        }
    }

    pub fn len(&self) -> usize {
        self.lock().files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, path: &Path) -> Option<Arc<H>> {
        self.lock().get(path)
    }

    pub(crate) fn insert(&self, path: PathBuf, file: Arc<H>) {
        // Dropped, and so closed, after the lock is released.
        let _closed = self.lock().insert(path, file, self.limit);
    }

    pub(crate) fn remove(&self, path: &Path) {
        let _closed = self.lock().remove(path);
    }

    pub(crate) fn clear(&self) {
        let _closed = {
            let mut state = self.lock();
            state.by_use.clear();
            std::mem::take(&mut state.files)
        };
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> State<H> {
    fn get(&mut self, path: &Path) -> Option<Arc<H>> {
        let (file, used) = self.files.get_mut(path)?;
        let path = self.by_use.remove(used)?;
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, path);
        Some(Arc::clone(file))
    }

    /// Adds a file; returns those that are over the limit.
    fn insert(&mut self, path: PathBuf, file: Arc<H>, limit: usize) -> Vec<Arc<H>> {
        let mut closed = Vec::new();
        self.clock += 1;
        self.by_use.insert(self.clock, path.clone());
        if let Some((file, used)) = self.files.insert(path, (file, self.clock)) {
            self.by_use.remove(&used);
            closed.push(file);
        }
        while self.files.len() > limit {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            closed.extend(self.files.remove(&oldest).map(|(file, _)| file));
        }
        closed
    }

    fn remove(&mut self, path: &Path) -> Vec<Arc<H>> {
        let below: Vec<PathBuf> = self
            .files
            .range(path.to_path_buf()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(path))
            .cloned()
            .collect();
        let mut closed = Vec::with_capacity(below.len());
        for path in below {
            if let Some((file, used)) = self.files.remove(&path) {
                self.by_use.remove(&used);
                closed.push(file);
            }
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::OpenFiles;
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn the_file_unused_for_longest_is_closed_first() {
        let open = OpenFiles::new(2);
        open.insert("a".into(), Arc::new(1));
        open.insert("b".into(), Arc::new(2));
        assert_eq!(open.get(Path::new("a")).as_deref(), Some(&1));
        open.insert("c".into(), Arc::new(3));
        assert!(open.get(Path::new("b")).is_none());
        assert!(open.get(Path::new("a")).is_some() && open.len() == 2);
    }

    #[test]
    fn a_directory_is_forgotten_with_what_is_below_it_and_nothing_else() {
        let open = OpenFiles::new(9);
        for path in ["t-0/1.log", "t-0/2.log", "t-01/1.log", "t/1.log"] {
            open.insert(path.into(), Arc::new(()));
        }
        open.remove(Path::new("t-0"));
        assert_eq!(open.len(), 2);
        assert!(open.get(Path::new("t-01/1.log")).is_some());
        open.clear();
        assert!(open.is_empty());
    }
}
