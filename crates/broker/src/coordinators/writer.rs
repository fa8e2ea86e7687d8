//! Records of a coordinator, put into a batch and appended to its partition.

use std::sync::Arc;

use ottla_coordinator::group::offsets::record::value_version;
use ottla_log::{Batch, Origin};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, Compression};
use ottla_protocol::time::Now;

use crate::replicas::Partition;
use crate::replicas::partition::{Append, Refused, RequiredAcks};
use ottla_coordinator::Unavailable;

/// Appends `records` as one batch, all or none, and asks for a flush; returns the offset of the first.
pub fn append(
    partition: &Arc<Partition>,
    compression: Compression,
    records: &[GroupRecord],
    now: Now,
) -> Result<Offset, Unavailable> {
    let bytes = batch(compression, records, now)?;
    let limit = partition.settings().rules.max_message_bytes;
    if bytes.len() > limit {
        tracing::error!(
            bytes = bytes.len(),
            limit,
            topic = &*partition.topic,
            "a group's record is too large; raise max.message.bytes of the topic"
        );
        return Err(Unavailable::TooLarge);
    }
    let view = BatchView::first(&bytes).expect("a batch that was built can be read");
    let batch = [Batch::from(view)];
    let append = Append {
        batches: &batch,
        acks: RequiredAcks::All,
    };
    let outcome = partition.append(&[append], Origin::Coordinator, now).pop();
    match outcome.expect("an outcome for each request") {
        Ok(appended) => Ok(appended.first_offset),
        Err(refused) => {
            tracing::warn!(
                topic = &*partition.topic,
                partition = partition.index.0,
                error = %refused,
                "a group coordinator cannot write"
            );
            Err(unavailable(&refused))
        }
    }
}

fn unavailable(refused: &Refused) -> Unavailable {
    use ottla_protocol::messages::ErrorCode;
    match refused.code() {
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => {
            Unavailable::NotCoordinator
        }
        ErrorCode::RecordListTooLarge | ErrorCode::MessageTooLarge => Unavailable::TooLarge,
        _ => Unavailable::NotAvailable,
    }
}

fn batch(
    compression: Compression,
    records: &[GroupRecord],
    now: Now,
) -> Result<Vec<u8>, Unavailable> {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        level: compression.default_level(),
        ..BatchOptions::default()
    });
    for record in records {
        // A string longer than the format takes (32 KiB) is the only way to fail.
        let encoded = record.encode(value_version(record));
        let (key, value) = encoded.map_err(|_| Unavailable::TooLarge)?;
        builder.append(now.wall.0, Some(&key), value.as_deref(), &[]);
    }
    Ok(builder.build().expect("a batch with records can be built"))
}
