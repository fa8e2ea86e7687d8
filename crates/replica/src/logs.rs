//! Logs on disk: opened at a start, made and deleted as topics come and go, closed at a stop.
//!
//! These are the steps of one log or one directory. A driver puts them together: on threads, or one after the other.

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

/// Why logs cannot be opened, made, deleted or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A log cannot be opened.
    #[error("cannot open the log of {name}: {source}")]
    Open {
        /// The partition's directory.
        name: String,
        /// Why.
        source: OpenError,
    },
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The disk cannot.
    #[error(transparent)]
    File(#[from] FileError),
    /// Two logs have the id of the same topic.
    #[error(
        "{name} lies in {} and in {}, both with its topic's id: see by `ottla log verify` which is to be served, and \
         move the other away",
        one.display(),
        other.display()
    )]
    Twice {
        /// The partition's directory.
        name: String,
        /// A log directory that has it.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// An invariant is broken.
    #[error("a task in a log directory panicked")]
    Panicked,
}
