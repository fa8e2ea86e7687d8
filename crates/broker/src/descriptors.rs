//! The process's open files: their limit is raised as far as the system allows, once, at start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the system allows more, so many open log files are enough: opening one again costs microseconds.
const MOST_LOG_FILES: usize = 100_000;

/// Raises the soft limit of open files to the hard one.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, soft = ?limit.current, "cannot raise the limit of open files");
    }
}

/// How many log files may stay open unless the configuration says so: half of the limit of this process.
pub fn for_log_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 2)
        .unwrap_or(usize::MAX)
        .min(MOST_LOG_FILES)
}
