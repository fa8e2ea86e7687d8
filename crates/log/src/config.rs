//! The settings of one partition's log: the topic's configuration, resolved, so that no field is unset.

use std::time::Duration;

/// The settings of one log. Each field names the topic config that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it grows beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is rolled when it is this old.
    pub segment_age: Duration,
    /// `segment.jitter.ms`: a segment's age limit is lowered by up to this, so that not all roll at once.
    pub segment_jitter: Duration,
    /// `segment.index.bytes`: a segment is rolled when an index has grown to this.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: an index entry is made after this many bytes of batches.
    pub index_interval_bytes: u32,
    /// `retention.ms`: how long records are kept; `None` for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes`: how many bytes are kept; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` has `delete`.
    pub delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`: a log is compacted when more than this share of its bytes is dirty.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a record is left alone until it is this old.
    pub min_compaction_lag: Duration,
    /// `max.compaction.lag.ms`: a record is compacted, whatever the ratio, when it is this old; `None` for never.
    pub max_compaction_lag: Option<Duration>,
    /// `delete.retention.ms`: how long tombstones and transaction markers stay after compaction first met them.
    pub delete_retention: Duration,
    /// `producer.id.expiration.ms` (a broker config): how long an idle producer's sequence is remembered.
    pub producer_id_expiration: Duration,
    /// `max.decompressed.message.bytes`: a search by time stops at a larger record of a compressed batch.
    pub max_record_bytes: usize,
    /// Upper bound of the bytes that recovery keeps of one cut-off. Bytes beyond it are dropped, and the file says how
    /// many it has.
    pub cut_off_bytes: u64,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_age: Duration::from_hours(7 * 24),
            segment_jitter: Duration::ZERO,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention: Some(Duration::from_hours(7 * 24)),
            retention_bytes: None,
            delete: true,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag: Duration::ZERO,
            max_compaction_lag: None,
            delete_retention: Duration::from_hours(24),
            producer_id_expiration: Duration::from_hours(24),
            max_record_bytes: 0x7FFF_FFF7,
            cut_off_bytes: 64 << 20,
        }
    }
}
