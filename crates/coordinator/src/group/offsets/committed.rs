//! One committed offset, and the key under which it is stored.

use ottla_protocol::ids::Uuid;

/// The key of an offset: group, topic, partition.
pub type Place<'a> = (&'a str, &'a str, i32);

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, if known.
    pub leader_epoch: Option<i32>,
    /// A text of the client's.
    pub metadata: String,
    /// When it was committed, on the wall clock.
    pub commit_timestamp: i64,
    /// When it expires, if an old client asked for that.
    pub expire_timestamp: Option<i64>,
    /// Zero in old records.
    pub topic_id: Uuid,
    /// The offset of the record that commits it.
    pub record_offset: i64,
}
