//! Logs on disk: opened at a start, created and deleted with their topics, closed at a stop.
//!
//! Each function is a step for one log or one directory. [`Node`](crate::Node) and its driver combine them, on threads
//! or one after the other.

mod choose;
mod close;
mod delete;
mod left;
pub mod names;
mod open;

pub use choose::Chooser;
pub(crate) use close::close;
pub use delete::{delete, remove_directory};
pub use open::{
    Existing, Found, Held, NewLog, Opened, WhoseLog, find, keep_one_of_each, sync_and_hold,
};

use std::path::PathBuf;

use ottla_log::files::FileError;
use ottla_log::{OpenError, StorageError};

/// Why a log cannot be opened, created, deleted or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A log cannot be opened.
    #[error("cannot open the log of {name}: {source}")]
    Open { name: String, source: OpenError },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    File(#[from] FileError),
    /// Two log directories have a log of the same partition, both with its topic's id.
    #[error(
        "{name} lies in {} and in {}, both with its topic's id: see by `ottla log verify` which is to be served, and \
         move the other away",
        one.display(),
        other.display()
    )]
    Twice {
        name: String,
        one: PathBuf,
        other: PathBuf,
    },
    /// A task panicked: an invariant is broken.
    #[error("a task in a log directory panicked")]
    Panicked,
}
