//! Reading a closed segment from its first byte to its last, to find damage before somebody needs what is there.
//!
//! What to read is taken under the log's lock, read outside of it, and noted under it, if the segment is still the same.
//! The file is opened for this alone, and what was read of it does not stay in the system's cache. Active segments are
//! left alone. A read that fails is the caller's to say: it does not take the log directory offline, for nobody has
//! missed anything yet.

use crate::damage::{Damage, Met, Salvage};
use crate::directory::LogDirectory;
use crate::files::{File, FileError, Files, Open};
use crate::format::FileKind;
use crate::partition_log::PartitionLog;
use ottla_protocol::ids::Offset;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes after which the pace is asked, and the cache rid of them.
const STEP_BYTES: u64 = 1 << 20;

/// A closed segment that is to be read.
#[derive(Debug)]
pub struct SegmentScrub<F: Files> {
    directory: Arc<LogDirectory<F>>,
    path: PathBuf,
    base: Offset,
    size: u64,
    /// Its offsets are below this.
    bound: Offset,
}

/// Asked now and then with the bytes read since; says whether to go on.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

impl<F: Files> SegmentScrub<F> {
    /// The base offset of the segment.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Reads it; returns the damage in it, or nothing where the pace ended it.
    pub fn run(&self, pace: Pace<'_>) -> Result<Option<Vec<Damage>>, FileError> {
        let file = self.directory.open_anew(&self.path, Open::Read)?;
        let (places, offsets) = ((0, self.size), (self.base, self.bound));
        let mut walk = Salvage::new(&file, self.base, places, offsets);
        let mut found = Vec::new();
        let mut done = 0;
        loop {
            let met = walk.advance()?;
            if let Some(Met::Damage(damage)) = met {
                found.push(damage);
            }
            let read = walk.position() - done;
            if read >= STEP_BYTES || met.is_none() {
                file.forget_cached(done, read);
                done = walk.position();
                if pace(read).is_break() {
                    return Ok(None);
                }
            }
            if met.is_none() {
                return Ok(Some(found));
            }
        }
    }
}

impl<F: Files> PartitionLog<F> {
    /// The first closed segment with a base offset of `from` or later.
    pub fn segment_to_scrub(&self, from: Offset) -> Option<SegmentScrub<F>> {
        let (base, segment) = self.segments.range(from..).next()?;
        (*base < self.active().base).then(|| SegmentScrub {
            directory: Arc::clone(&self.place.directory),
            path: self.place.path_of(FileKind::Log, *base),
            base: *base,
            size: segment.size,
            bound: self.bound_of(*base),
        })
    }

    /// Whether a segment whose file was not found is still to be there: retention and compaction take others away.
    pub fn misses(&self, scrub: &SegmentScrub<F>) -> Result<bool, FileError> {
        if !self.holds(scrub) {
            return Ok(false);
        }
        // Compaction may have put another in its place since.
        let status = self.place.directory.files().status(&scrub.path)?;
        Ok(status.is_none())
    }

    fn holds(&self, scrub: &SegmentScrub<F>) -> bool {
        let held = self.segments.get(&scrub.base);
        held.is_some_and(|segment| segment.size == scrub.size)
    }

    /// Takes note of the damage found in a segment, if that is still there; returns what was not known.
    pub fn complete_scrub(&mut self, scrub: &SegmentScrub<F>, found: Vec<Damage>) -> Vec<Damage> {
        if !self.holds(scrub) {
            return Vec::new();
        }
        let known: Vec<Damage> = self.known_damage().copied().collect();
        self.damage.forget(scrub.base);
        for damage in &found {
            self.note_damage(*damage);
        }
        let is_new = |damage: &Damage| !known.contains(damage);
        found.into_iter().filter(is_new).collect()
    }
}
