//! One partition on disk: segments, indexes, recovery, retention. Files only; knows no async.
