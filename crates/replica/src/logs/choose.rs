//! Chooses the log directory of a new partition.

use std::sync::Arc;

use ottla_log::files::Files;
use ottla_protocol::time::MonotonicTime;

use crate::{Directory, Host};

/// Chooses the directory that the metadata names. Without one, it chooses among the directories that are online and not
/// stalled the one with the fewest partitions.
#[derive(Debug)]
pub struct Chooser<'a, F: Files, H: Host> {
    directories: &'a [Arc<Directory<F, H>>],
    counts: Vec<usize>,
    /// The directories that are online and not stalled; all, if there is none.
    usable: Vec<usize>,
}

impl<'a, F: Files, H: Host> Chooser<'a, F, H> {
    /// Counts the partitions of each directory.
    pub fn new<'b>(
        directories: &'a [Arc<Directory<F, H>>],
        in_use: impl Iterator<Item = &'b Arc<Directory<F, H>>>,
        now: MonotonicTime,
    ) -> Self {
        let mut usable: Vec<usize> = (0..directories.len()).collect();
        usable.retain(|number| directories[*number].answers(now));
        if usable.is_empty() {
            usable = (0..directories.len()).collect();
        }
        let mut counts = vec![0; directories.len()];
        if directories.len() > 1 {
            for directory in in_use {
                let mut known = directories.iter();
                if let Some(place) = known.position(|known| Arc::ptr_eq(known, directory)) {
                    counts[place] += 1;
                }
            }
        }
        Self {
            directories,
            counts,
            usable,
        }
    }

    /// The number of the chosen directory.
    pub fn choose(&mut self, state: &ottla_metadata::Partition) -> usize {
        let named = self.directories.iter().position(|directory| {
            let id = directory.id.get();
            id.is_some_and(|id| state.directories.contains(id))
        });
        let place = named.unwrap_or_else(|| {
            let fewest = self.usable.iter().min_by_key(|place| self.counts[**place]);
            *fewest.expect("a node has a log directory")
        });
        self.counts[place] += 1;
        place
    }
}
