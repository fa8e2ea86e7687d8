//! Reads a closed segment as a whole, to find damage before a consumer meets it.
//!
//! The segment is chosen under the log's lock, read without it, and the damage is recorded under it if the segment is
//! still the same. The file is opened for the scrub alone, and its bytes do not stay in the page cache. Active segments
//! are not read. A failed read does not take the log directory offline, because no request needed the bytes; the caller
//! logs it.

use crate::damage::{Damage, Met, Salvage};
use crate::directory::LogDirectory;
use crate::files::{File, FileError, Files, Open};
use ottla_protocol::ids::Offset;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes after which `pace` is called and the page cache is told to drop them.
const STEP_BYTES: u64 = 1 << 20;

/// A closed segment to read.
#[derive(Debug)]
pub struct SegmentScrub<F: Files> {
    pub(crate) directory: Arc<LogDirectory<F>>,
    pub(crate) path: PathBuf,
    pub(crate) base: Offset,
    pub(crate) size: u64,
    /// All offsets of the segment are below this.
    pub(crate) bound: Offset,
}

/// Called with the bytes read since its last call; returns whether to continue.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

impl<F: Files> SegmentScrub<F> {
    /// The base offset of the segment.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Reads the segment; returns its damage, or `None` if `pace` ended the read.
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
