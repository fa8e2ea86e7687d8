//! The directories of deleted partitions, which are removed after a delay (`file.delete.delay.ms`).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ottla_log::files::Files;
use ottla_protocol::time::MonotonicTime;

use super::Node;
use crate::{Directory, Host};

#[derive(Debug, Default)]
pub(super) struct Removals(Mutex<Vec<(MonotonicTime, PathBuf)>>);

impl Removals {
    /// Schedules the removal of `path`, not before `at`.
    pub(super) fn add(&self, at: MonotonicTime, path: PathBuf) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((at, path));
    }

    fn take(&self, is_due: impl Fn(MonotonicTime, &Path) -> bool) -> Vec<PathBuf> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = waiting.extract_if(.., |(at, path)| is_due(*at, path));
        due.map(|(_, path)| path).collect()
    }
}

impl<F: Files, H: Host> Node<F, H> {
    /// Removes and returns the paths in `directory` that are due. While its disk is short of space all are due: the
    /// delay only lets an operator look at the files.
    pub fn take_removals(&self, directory: &Directory<F, H>, now: MonotonicTime) -> Vec<PathBuf> {
        let is_short = directory.reserve.is_short();
        self.removals
            .take(|at, path| (is_short || at <= now) && path.starts_with(directory.log.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::Removals;
    use ottla_protocol::time::MonotonicTime;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    #[test]
    fn each_path_is_taken_once() {
        let removals = Removals::default();
        let at = |seconds| MonotonicTime(Duration::from_secs(seconds));
        removals.add(at(5), PathBuf::from("/one/a-delete"));
        removals.add(at(9), PathBuf::from("/one/b-delete"));
        let due = || removals.take(|due, path| due <= at(5) && path.starts_with("/one"));
        assert_eq!(due(), [Path::new("/one/a-delete")]);
        assert!(due().is_empty());
    }
}
