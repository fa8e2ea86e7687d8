//! Replays a partition of `__consumer_offsets` into the state of its groups. Blocks on the disk.

use ottla_coordinator::{Config, Shard};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::own_records::{self, LoadError};

use crate::replicas::Partition;

/// Replays the whole partition into a new shard. Records that cannot be read are skipped and logged.
pub fn read(partition: &Partition, config: Config, now: MonotonicTime) -> Result<Shard, LoadError> {
    let mut shard = Shard::new(config);
    let passed_over = own_records::for_each(partition, now, |header, record| {
        shard.replay(header, record)
    })?;
    if passed_over > 0 {
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.index.0,
            records = passed_over,
            "skipped records of a group coordinator that cannot be read"
        );
    }
    Ok(shard)
}
