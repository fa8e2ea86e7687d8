//! What recovery cuts off the end of a log moves aside, for a human to look at: nothing is destroyed unseen.
//!
//! A `.cutoff` file in the partition's directory, which Kafka ignores: lines that say what, where and why, an empty
//! line, and the bytes as they stood. Segments after the cut keep their bytes under a `.cutoff` name. Bounded: so many
//! bytes of one segment, so many files of earlier cuts. On a full disk nothing can be kept, and the report says so.

use super::Recovering;
use super::segment::Cut;
use crate::batch::parse_checked;
use crate::directory::StorageError;
use crate::files::{File, FileError, Files, Open};
use crate::format::{CUT_OFF_SUFFIX, FileKind};
use ottla_protocol::ids::Offset;
use std::io::IoSlice;
use std::path::PathBuf;

/// The files of earlier cuts kept in one partition; the oldest goes first.
const MAX_FILES: usize = 8;

/// What the name of a whole segment ends with, before the suffix.
const WHOLE: &str = "-whole";

/// What was cut off a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// The offset at which the log now ends.
    pub end: Offset,
    /// The segment it was cut in, and where.
    pub segment: Offset,
    /// The position of the cut.
    pub position: u64,
    /// The bytes cut off that segment.
    pub bytes: u64,
    /// The whole segments after it that were taken off too.
    pub segments: usize,
    /// What was wrong with the first batch cut off.
    pub reason: String,
    /// The sound batches found behind it: 0 after an ordinary torn write.
    pub sound_batches: usize,
    /// The offset of the first of them.
    pub first_sound_offset: Option<Offset>,
    /// The file that now holds the bytes; none when they were all zero, or the disk full.
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

    /// Removes the oldest cut-offs beyond the limit; those of this cut do not count, nor does what a repair moved
    /// aside. Names begin with the offset and then the time; by time is by age.
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

/// Whether this is a whole segment that recovery moved aside.
pub(crate) fn is_whole_segment(name: &str) -> bool {
    let stem = name.strip_suffix(CUT_OFF_SUFFIX);
    stem.is_some_and(|stem| stem.ends_with(WHOLE))
}

/// Whether recovery moved this aside: what a repair did has a third part of its own.
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

/// The sound batches anywhere in `bytes`, and the offset of the first.
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
