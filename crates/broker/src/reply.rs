//! The parts of an answer: bytes in memory, and ranges of log files that the kernel sends.
//!
//! A range holds its file open, so that the segment may be deleted meanwhile. Its bytes are below the high watermark and do
//! not change any more.

use bytes::Bytes;
use ottla_log::ReadPlan;
use ottla_log::files::disk::Disk;

use crate::process::held_files::HeldFile;

/// An encoded response with its frame length and header, in parts that are sent one after the other.
#[derive(Debug, Default)]
pub struct Reply {
    /// In the order they are sent; none for a request that gets no answer (Produce with acks=0).
    pub parts: Vec<Part>,
    /// Whether it says that another controller is the active one.
    pub is_not_controller: bool,
}

/// A part of a response.
#[derive(Debug)]
pub enum Part {
    /// In memory.
    Bytes(Bytes),
    /// In a log file.
    Stored(Stored),
}

/// A range of a log file, or what is left to send of it.
#[derive(Debug)]
pub struct Stored {
    /// Where the records lie: a plan that has something to read.
    pub plan: ReadPlan<Disk>,
    /// The bytes of the plan that have been sent already.
    pub sent: usize,
    /// The bytes of the plan, those sent included, that were in the page cache when they were looked for.
    pub cached: usize,
    /// Counts its file while it is open.
    pub held: HeldFile,
}

impl Part {
    /// The bytes that are still to be sent.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(stored) => stored.plan.length - stored.sent,
        }
    }

    /// Whether nothing is left to be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Part {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<(ReadPlan<Disk>, HeldFile)> for Part {
    fn from((plan, held): (ReadPlan<Disk>, HeldFile)) -> Self {
        Self::Stored(Stored {
            plan,
            sent: 0,
            cached: 0,
            held,
        })
    }
}
