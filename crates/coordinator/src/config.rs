//! The broker's `group.*` and `offset*` settings that a coordinator's decisions depend on.

use std::time::Duration;

/// Settings of groups and offsets, resolved; defaults are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first
    /// rebalance.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`: the shortest session a member may ask for.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`: the longest session a member may ask for.
    pub max_session_timeout: Duration,
    /// `group.max.size`: the most members of one group, at least 1.
    pub max_size: usize,
    /// How long a new member may wait in its first `JoinGroup` before it is removed (Kafka: five minutes,
    /// not configurable).
    pub new_member_join_timeout: Duration,
    /// `offset.metadata.max.bytes`: the longest text beside a committed offset, in UTF-16 code units.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`: how long offsets outlive the last use of their group.
    pub offsets_retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_mins(30),
            max_size: i32::MAX as usize,
            new_member_join_timeout: Duration::from_mins(5),
            offset_metadata_max: 4096,
            offsets_retention: Duration::from_hours(168),
        }
    }
}
