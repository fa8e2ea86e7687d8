//! `leader-epoch-checkpoint` of the metadata log: the first offset of every leader epoch, as Kafka keeps it.
//!
//! A text file: version 0, the number of entries, then `epoch offset` lines. It is derived from the log: if it cannot be
//! read, its content comes from the batches.

use ottla_log::files::{self, FileError, Files};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;
use std::path::Path;

const FILE: &str = "leader-epoch-checkpoint";
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// The first offset of every leader epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochStarts(BTreeMap<LeaderEpoch, Offset>);

impl EpochStarts {
    /// The entries of the file in `directory`, without those at `end` and above.
    pub(crate) fn read<F: Files>(
        files: &F,
        directory: &Path,
        end: Offset,
    ) -> Result<Self, FileError> {
        let bytes = files::read_whole(files, &directory.join(FILE), SIZE_LIMIT)?;
        let mut starts = bytes
            .and_then(|bytes| parse(&String::from_utf8_lossy(&bytes)))
            .unwrap_or_default();
        starts.retain(|_, start| *start < end);
        Ok(Self(starts))
    }

    /// Adds a batch of `epoch` at `offset`; only the first batch of an epoch counts.
    pub(crate) fn note(&mut self, epoch: LeaderEpoch, offset: Offset) {
        self.0.entry(epoch).or_insert(offset);
    }

    /// The largest epoch that is not above `epoch`, and where it ends in a log that ends at `log_end`.
    pub(crate) fn end_of(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let (found, _) = self.0.range(..=epoch).next_back()?;
        let later = (Bound::Excluded(*found), Bound::Unbounded);
        let next = self.0.range(later).next();
        Some((*found, next.map_or(log_end, |(_, start)| *start)))
    }

    /// Adds epochs that were read from batches; those that are known stay.
    pub(crate) fn merge(&mut self, read: &Self) {
        for (epoch, start) in &read.0 {
            self.note(*epoch, *start);
        }
    }

    /// Replaces the file in `directory` durably, without epochs that ended before `log_start`.
    pub(crate) fn write<F: Files>(
        &mut self,
        files: &F,
        directory: &Path,
        log_start: Offset,
    ) -> Result<(), FileError> {
        let first_kept = self
            .0
            .iter()
            .filter(|(_, start)| **start <= log_start)
            .map(|(epoch, _)| *epoch)
            .next_back();
        if let Some(first_kept) = first_kept {
            self.0.retain(|epoch, _| *epoch >= first_kept);
        }
        let mut text = format!("0\n{}\n", self.0.len());
        for (epoch, start) in &self.0 {
            let _ = writeln!(text, "{epoch} {start}");
        }
        files::replace_durably(files, &directory.join(FILE), text.as_bytes())
    }
}

fn parse(text: &str) -> Option<BTreeMap<LeaderEpoch, Offset>> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let starts: BTreeMap<LeaderEpoch, Offset> = lines
        .map(|line| {
            let (epoch, start) = line.split_once(' ')?;
            Some((
                LeaderEpoch(epoch.parse().ok()?),
                Offset(start.parse().ok()?),
            ))
        })
        .collect::<Option<_>>()?;
    (starts.len() == count).then_some(starts)
}

#[cfg(test)]
mod tests {
    use super::{EpochStarts, FILE};
    use ottla_log::files::simulated::Simulated;
    use ottla_log::files::{Files, read_whole};
    use ottla_protocol::ids::{LeaderEpoch, Offset};
    use std::path::Path;

    #[test]
    fn keeps_the_epochs_that_the_log_still_holds() {
        let files = Simulated::new();
        let directory = Path::new("/d");
        files.create_directory(directory).unwrap();
        let mut starts = EpochStarts::default();
        for (epoch, offset) in [(1, 0), (2, 10), (2, 15), (5, 20)] {
            starts.note(LeaderEpoch(epoch), Offset(offset));
        }
        starts.write(&files, directory, Offset(12)).unwrap();
        let text = read_whole(&files, &directory.join(FILE), 100)
            .unwrap()
            .unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "0\n2\n2 10\n5 20\n");
        let read = EpochStarts::read(&files, directory, Offset(20)).unwrap();
        let mut expected = EpochStarts::default();
        expected.note(LeaderEpoch(2), Offset(10));
        assert_eq!(read, expected);
    }
}
