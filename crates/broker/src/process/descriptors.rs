//! The limit of open files of the process: it is raised once, at the start, as far as the system allows, and divided.
//!
//! Log files, the files that answers hold open, and connections have a share each, so that none of them takes the
//! descriptors of another. The rest is for listeners, checkpoints, the cleaner and the metadata log. Invariant: the shares
//! together are less than the limit, unless the limit is too small for any broker.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Upper bound of the log files that stay open. More would gain little: opening one again costs microseconds.
const MOST_LOG_FILES: usize = 100_000;
/// Upper bound of the files that answers hold open.
const MOST_HELD_FILES: usize = 10_000;
/// Bounds of the descriptors for everything else.
const OTHERS: std::ops::RangeInclusive<usize> = 32..=1024;

/// How the descriptors are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For log files that stay open: `ottla.max.open.files`, or a quarter of the limit.
    pub log_files: usize,
    /// For log files that answers hold open until they are read or sent: an eighth.
    pub held_files: usize,
    /// For connections of clients: the rest, which is at least half of a limit of 256 or more.
    pub connections: usize,
}

impl Shares {
    /// The shares of this process; `log_files` is `ottla.max.open.files`, where it is set.
    pub fn of_process(log_files: Option<usize>) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::of(usize::try_from(limit).unwrap_or(usize::MAX), log_files)
    }

    fn of(limit: usize, log_files: Option<usize>) -> Self {
        let most = limit / 4;
        let log_files = log_files.map_or(most.min(MOST_LOG_FILES), |configured| {
            if configured > most {
                tracing::warn!(
                    configured,
                    most,
                    limit,
                    "ottla.max.open.files is more than a quarter of the open files that the process may have; the \
                     quarter counts. Raise that limit (ulimit -n) or lower the key"
                );
            }
            configured.min(most)
        });
        let held_files = (limit / 8).min(MOST_HELD_FILES);
        let others = (limit / 16).clamp(*OTHERS.start(), *OTHERS.end());
        Self {
            log_files: log_files.max(1),
            held_files: held_files.max(1),
            connections: limit.saturating_sub(log_files + held_files + others).max(1),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::Shares;

    #[test]
    fn nobodys_share_is_anothers() {
        for limit in [64, 256, 1024, 20_000, 1 << 20, usize::MAX] {
            for configured in [None, Some(1), Some(10_000), Some(usize::MAX)] {
                let shares = Shares::of(limit, configured);
                let Shares {
                    log_files,
                    held_files,
                    connections,
                } = shares;
                assert!(log_files + held_files + connections < limit, "{shares:?}");
                assert!(connections >= limit / 2 || limit < 256, "{shares:?}");
            }
        }
        let few = Shares::of(1024, None);
        assert_eq!((few.log_files, few.held_files), (256, 128));
        assert_eq!(few.connections, 576);
        assert_eq!(Shares::of(20_000, Some(50)).log_files, 50);
    }
}
