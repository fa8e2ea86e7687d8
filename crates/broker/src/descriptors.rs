//! The process's open files: their limit is raised as far as the system allows, once, at start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// How many files this process may have open; `None` where there is no limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
