//! Decides metadata changes: topics, placement, liveness, elections, configs. Pure.
