//! Reads a closed segment from its first byte to its last, to find damage before a consumer needs what is there.
//!
//! What to read is taken under the log's lock, read outside of it, and recorded under it if the segment is still the same.
//! The file is opened for this alone, and what was read of it does not stay in the page cache. Active segments are not
//! read. A failed read does not take the log directory offline, because no request has missed anything yet; the caller
//! logs it.

use crate::damage::{Damage, Met, Salvage};
use crate::directory::LogDirectory;
use crate::files::{File, FileError, Files, Open};
use ottla_protocol::ids::Offset;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes after which the pace is asked, and the cache rid of them.
const STEP_BYTES: u64 = 1 << 20;

/// A closed segment that is to be read.
#[derive(Debug)]
pub struct SegmentScrub<F: Files> {
    pub(crate) directory: Arc<LogDirectory<F>>,
    pub(crate) path: PathBuf,
    pub(crate) base: Offset,
    pub(crate) size: u64,
    /// The offsets of the segment are below this.
    pub(crate) bound: Offset,
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
        let mut walk = Salvage::new(&file, self.base, 0..self.size, self.base..self.bound);
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
