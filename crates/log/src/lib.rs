//! One partition on disk: segments, indexes, recovery, retention. Files only; knows no async.

#![deny(clippy::indexing_slicing)]

pub mod files;
