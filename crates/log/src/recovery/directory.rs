//! Prepares a partition's directory before its log is opened: creates it if it is missing, and cleans up after an
//! interrupted deletion or compaction.

use crate::compaction::{REPLACEMENT, read_replacement};
use crate::damage::{Met, Survey, UNBOUNDED};
use crate::directory::StorageError;
use crate::files::{Entry, File, Files, Open};
use crate::format::{CLEANED_SUFFIX, DELETED_SUFFIX, FileKind, SWAP_SUFFIX};
use crate::place::Place;
use crate::segment::PresentIndexes;
use ottla_protocol::ids::Offset;
use std::collections::{BTreeMap, BTreeSet};

/// A deleted snapshot of the metadata log. The owner of that log removes it.
const DELETED_METADATA_SNAPSHOT: &str = ".checkpoint.deleted";

#[derive(Debug, Default)]
pub(super) struct Found {
    /// The segments, and which indexes each has.
    pub(super) segments: BTreeMap<Offset, PresentIndexes>,
    pub(super) snapshots: BTreeSet<Offset>,
}

impl<F: Files> Place<F> {
    /// The names of the files. If the directory is missing it is created, unsynced, and the result is `None`.
    pub(super) fn names_or_make(&self) -> Result<Option<Vec<String>>, StorageError> {
        let files = self.directory.files();
        let listed = files.list(&self.path).map(Some).or_else(absent);
        let entries = self.directory.judge(listed)?;
        if entries.is_none() {
            self.directory.judge(files.create_directory(&self.path))?;
        }
        Ok(entries.map(names_of))
    }

    /// Removes files of an interrupted deletion or compaction, and indexes without a segment; returns the rest.
    pub(super) fn tidy(&self, names: Vec<String>) -> Result<Found, StorageError> {
        let mut names = names;
        // A directory may have a hundred thousand names. They are listed a second time only after an interruption.
        if names.iter().any(|name| is_of_compaction(name)) {
            self.finish_compaction(&names)?;
            names = self.names()?;
        }
        let mut found = Found::default();
        let mut indexes = Vec::new();
        for name in names {
            match FileKind::of_name(&name) {
                Some((FileKind::Log, base)) => _ = found.segments.entry(base).or_default(),
                Some((FileKind::ProducerSnapshot, offset)) => _ = found.snapshots.insert(offset),
                Some((kind, base)) => indexes.push((kind, base)),
                None if name.ends_with(DELETED_SUFFIX)
                    && !name.ends_with(DELETED_METADATA_SNAPSHOT) =>
                {
                    self.remove(&name)?;
                }
                None => {}
            }
        }
        for (kind, base) in indexes {
            if let Some(indexes) = found.segments.get_mut(&base) {
                indexes.add(kind);
            } else {
                let path = self.path_of(kind, base);
                self.directory.judge(self.directory.files().remove(&path))?;
            }
        }
        Ok(found)
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        let entries = self
            .directory
            .judge(self.directory.files().list(&self.path))?;
        Ok(names_of(entries))
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        self.directory
            .judge(self.directory.files().remove(&self.path.join(name)))
    }

    /// Finishes a compaction that a crash interrupted, as Kafka does. Files still being written are removed. A complete
    /// segment replaces its sources, which are removed first.
    fn finish_compaction(&self, names: &[String]) -> Result<(), StorageError> {
        let files = self.directory.files();
        let replacement = self.directory.judge(read_replacement(files, &self.path))?;
        let bases_of = |suffix| {
            let stems = names
                .iter()
                .filter_map(move |name| name.strip_suffix(suffix));
            stems.filter_map(FileKind::of_name).map(|(_, base)| base)
        };
        let cleaned: BTreeSet<Offset> = bases_of(CLEANED_SUFFIX).collect();
        let is_present = |base: Offset| {
            let log = Some((FileKind::Log, base));
            names.iter().any(|name| FileKind::of_name(name) == log)
        };
        // Ottla renames all files of the new segment before it removes the sources, from this one on. So while the old
        // `.log` is here, a remaining `.cleaned` file means that the renames were interrupted. Otherwise Kafka's rule
        // applies.
        let is_incomplete = |base: Offset| match &replacement {
            Some(bases) if bases.start == base => cleaned.contains(&base) && is_present(base),
            _ => cleaned.first().is_some_and(|first| base >= *first),
        };
        let mut swaps = Vec::new();
        for name in names {
            let swap = name.strip_suffix(SWAP_SUFFIX).and_then(FileKind::of_name);
            match swap {
                // The segment was being split or renamed, and not all its files were complete.
                Some((_, base)) if is_incomplete(base) => {
                    self.remove(name)?;
                }
                Some((kind, base)) => swaps.push((kind, base, name)),
                None => {}
            }
        }
        // Removed after the incomplete `.swap` files: a crash in between must not make them look complete.
        for name in names.iter().filter(|name| name.ends_with(CLEANED_SUFFIX)) {
            self.remove(name)?;
        }
        let Some(from) = swaps.iter().map(|(_, base, _)| *base).min() else {
            return self.forget_replacement(names);
        };
        let mut to = from;
        for (_, base, name) in swaps.iter().filter(|(kind, ..)| *kind == FileKind::Log) {
            to = to.max(self.end_of(name, *base)?);
            // Kafka has no such file. In ours, the range may end after the last batch that was kept.
            if let Some(bases) = &replacement
                && bases.start == *base
            {
                to = to.max(bases.end);
            }
        }
        for name in names {
            if FileKind::of_name(name).is_some_and(|(_, base)| (from..to).contains(&base)) {
                self.remove(name)?;
            }
        }
        for (kind, base, name) in swaps {
            let renamed = self
                .directory
                .files()
                .rename(&self.path.join(name), &self.path_of(kind, base));
            self.directory.judge(renamed)?;
        }
        self.directory.judge(files.sync_directory(&self.path))?;
        self.forget_replacement(names)
    }

    fn forget_replacement(&self, names: &[String]) -> Result<(), StorageError> {
        if names.iter().any(|name| name == REPLACEMENT) {
            self.remove(REPLACEMENT)?;
        }
        Ok(())
    }

    /// The offset after the last batch in the file `name`.
    fn end_of(&self, name: &str, base: Offset) -> Result<Offset, StorageError> {
        let path = self.path.join(name);
        let file = self
            .directory
            .judge(self.directory.files().open(&path, Open::Read))?;
        let length = self.directory.judge(file.length())?;
        let mut survey = Survey::new(&file, base, 0..length, base..UNBOUNDED);
        let mut end = base;
        while let Some(met) = self.directory.judge(survey.advance())? {
            if let Met::Batch(located) = met {
                end = located.header.next_offset();
            }
        }
        Ok(end)
    }
}

fn is_of_compaction(name: &str) -> bool {
    name == REPLACEMENT || name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX)
}

fn names_of(entries: Vec<Entry>) -> Vec<String> {
    let files = entries.into_iter().filter(|entry| !entry.is_directory);
    files.map(|entry| entry.name).collect()
}

fn absent<T>(error: crate::files::FileError) -> Result<Option<T>, crate::files::FileError> {
    if error.is_not_found() {
        Ok(None)
    } else {
        Err(error)
    }
}
