//! Names of Kafka's internal topics.

/// Holds committed offsets and groups.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Holds the state of transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Holds the state of share groups.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";

/// Whether brokers keep their own state in this topic.
pub fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE].contains(&name)
}
