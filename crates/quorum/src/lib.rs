//! Owns the replicated metadata log and tells its owner what has committed.
