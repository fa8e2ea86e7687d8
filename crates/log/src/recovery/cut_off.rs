//! Keeps the bytes that recovery cuts off the end of a log, so that a human can look at them.
//!
//! The bytes go into a `.cutoff` file in the partition's directory, which Kafka ignores. It begins with lines that say
//! what was cut, where and why, and an empty line; then come the bytes. Segments after the cut are renamed to
//! `.cutoff`. Two bounds apply: `cut_off_bytes` of one segment, and [`MAX_FILES`] files of earlier cuts. On a full disk
//! nothing is kept, and [`CutOff::kept_in`] is `None`.

use super::Recovering;
use super::segment::Cut;
use crate::batch::parse_checked;
use crate::directory::StorageError;
use crate::files::{File, FileError, Files, Open};
use crate::format::{CUT_OFF_SUFFIX, FileKind};
use ottla_protocol::ids::Offset;
use std::io::IoSlice;
use std::path::PathBuf;

/// Upper bound of the files of earlier cuts in one partition. The oldest is removed first.
const MAX_FILES: usize = 8;

/// The end of the name of a renamed segment, before the suffix.
const WHOLE: &str = "-whole";

/// Bytes that were cut off a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// The new end of the log.
    pub end: Offset,
    /// The base offset of the segment that was cut.
    pub segment: Offset,
    /// The position of the cut.
    pub position: u64,
    /// The bytes cut off that segment.
    pub bytes: u64,
    /// The number of segments after it, which were removed from the log too.
    pub segments: usize,
    /// What is wrong with the first batch that was cut off.
    pub reason: String,
    /// Sound batches in the bytes cut off. There are none after an ordinary torn write.
    pub sound_batches: usize,
    /// The offset of the first of them.
    pub first_sound_offset: Option<Offset>,
    /// The file with the bytes; `None` if they were all zero, or if the disk was full.
    pub kept_in: Option<PathBuf>,
}

impl<F: Files> Recovering<F> {
    pub(super) fn cut_off(
        &mut self,
        base: Offset,
        Cut { position, cause }: &Cut,
        later: &[Offset],
    ) -> Result<CutOff, StorageError> {
        let position = *position;
        let path = self.place().path_of(FileKind::Log, base);
        let directory = std::sync::Arc::clone(self.segments.directory());
        let file = directory.judge(self.place().open(FileKind::Log, base))?;
        let length = directory.judge(file.length())?;
        let end = self.segments.end();
        let kept = (length - position).min(self.config.cut_off_bytes);
        let mut bytes = vec![0; usize::try_from(kept).unwrap_or(usize::MAX)];
        directory.judge(file.read_at(&mut bytes, position))?;
        let (sound_batches, first_sound_offset) = sound_batches(&bytes);
        let mut cut = CutOff {
            end,
            segment: base,
            position,
            bytes: length - position,
            segments: later.len(),
            reason: cause.to_string(),
            sound_batches,
            first_sound_offset,
            kept_in: None,
        };
        if bytes.iter().any(|byte| *byte != 0) {
            let kept_in =
                path.with_file_name(format!("{:020}-{}{CUT_OFF_SUFFIX}", end.0, self.now.0));
            let kept = self.keep(kept_in, &cut.describe(kept), &bytes);
            cut.kept_in = directory.judge(kept.or_else(nothing_when_full))?;
        }
        for base in later {
            self.set_segment_aside(*base)?;
        }
        self.bound_cut_offs()?;
        directory.judge(directory.files().sync_directory(&self.place().path))?;
        directory.judge(file.truncate(position))?;
        Ok(cut)
    }

    fn keep(&self, path: PathBuf, head: &str, bytes: &[u8]) -> Result<Option<PathBuf>, FileError> {
        let directory = self.segments.directory();
        let file = directory.open_anew(&path, Open::Replace)?;
        let slices = [IoSlice::new(head.as_bytes()), IoSlice::new(bytes)];
        let written = file.write_at(&slices, 0).and_then(|()| file.sync_data());
        if let Err(error) = written {
            if error.is_full() {
                directory.files().remove(&path)?;
            }
            return Err(error);
        }
        Ok(Some(path))
    }

    fn set_segment_aside(&mut self, base: Offset) -> Result<(), StorageError> {
        let path = self.place().path_of(FileKind::Log, base);
        let aside = path.with_file_name(format!(
            "{:020}-{}{WHOLE}{CUT_OFF_SUFFIX}",
            base.0, self.now.0
        ));
        let directory = self.segments.directory();
        directory.forget(&path);
        directory.judge(directory.files().rename(&path, &aside))?;
        self.segments.remove(base)
    }

    /// Removes the oldest `.cutoff` files over the limit. Files of this start and of repairs do not count. The second
    /// part of a name is the time of its start.
    fn bound_cut_offs(&self) -> Result<(), StorageError> {
        let directory = self.segments.directory();
        let entries = directory.judge(directory.files().list(&self.place().path))?;
        let time_of = |name: &str| {
            let time = name.split(['-', '.']).nth(1);
            time.and_then(|time| time.parse::<i64>().ok())
        };
        let mut names: Vec<String> = entries
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| is_of_recovery(name) && time_of(name) != Some(self.now.0))
            .collect();
        names.sort_by_key(|name| time_of(name));
        let surplus = names.len().saturating_sub(MAX_FILES);
        for name in names.iter().take(surplus) {
            directory.judge(directory.files().remove(&self.place().path.join(name)))?;
        }
        Ok(())
    }
}

/// Whether this is a segment that recovery renamed.
pub(crate) fn is_whole_segment(name: &str) -> bool {
    let stem = name.strip_suffix(CUT_OFF_SUFFIX);
    stem.is_some_and(|stem| stem.ends_with(WHOLE))
}

/// Whether this `.cutoff` file is recovery's: the name of a repair's file has a third part.
fn is_of_recovery(name: &str) -> bool {
    let stem = name.strip_suffix(CUT_OFF_SUFFIX);
    is_whole_segment(name) || stem.is_some_and(|stem| stem.split('-').nth(2).is_none())
}

fn nothing_when_full(error: FileError) -> Result<Option<PathBuf>, FileError> {
    if error.is_full() {
        Ok(None)
    } else {
        Err(error)
    }
}

impl CutOff {
    fn describe(&self, kept: u64) -> String {
        let sound = match self.first_sound_offset {
            Some(offset) => format!("{} from offset {offset}", self.sound_batches),
            None => "none".to_owned(),
        };
        format!(
            "cut off the end of a log that was not closed properly\n\
             log-end-offset: {}\nsegment: {:020}.log\nposition: {}\nbytes: {}\nbytes-kept: {kept}\n\
             later-segments: {}\nreason: {}\nsound-batches: {sound}\n\n",
            self.end, self.segment.0, self.position, self.bytes, self.segments, self.reason,
        )
    }
}

/// The number of sound batches anywhere in `bytes`, and the offset of the first.
fn sound_batches(bytes: &[u8]) -> (usize, Option<Offset>) {
    const MAGIC_AT: usize = 16;
    let mut rest = bytes;
    let (mut count, mut first) = (0, None);
    while rest.len() > MAGIC_AT {
        let step = match parse_checked(rest) {
            Ok(batch) if rest.get(MAGIC_AT) == Some(&2) => {
                count += 1;
                first = first.or(Some(batch.header().base_offset()));
                batch.size()
            }
            _ => 1,
        };
        rest = rest.get(step..).unwrap_or_default();
    }
    (count, first)
}
