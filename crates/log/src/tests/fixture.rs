//! What the tests of the log share: a topic's log on a simulated disk, and batches to put into it.

use crate::files::Files;
use crate::files::simulated::Simulated;
use crate::{
    AppendError, Appended, Batch, Bound, FirstBatch, LeaderAppend, Left, LogConfig, LogDirectory,
    OpenLog, Origin, PartitionLog, ReadRequest, Recovery,
};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, split_batches};
use ottla_protocol::time::Timestamp;
use std::path::Path;
use std::sync::Arc;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub(crate) const ROOT: &str = "/data";

pub(crate) type Log = PartitionLog<Simulated>;

pub(crate) fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
}

pub(crate) fn new_disk() -> Simulated {
    let files = Simulated::new();
    files.create_directory(Path::new(ROOT)).unwrap();
    files.sync_directory(Path::new("/")).unwrap();
    files
}

pub(crate) fn open_as<F: Files>(
    files: &F,
    config: LogConfig,
    left: Left,
) -> (PartitionLog<F>, Recovery) {
    try_open(files, ROOT, config, left).unwrap()
}

pub(crate) fn try_open<F: Files>(
    files: &F,
    root: &str,
    config: LogConfig,
    left: Left,
) -> Result<(PartitionLog<F>, Recovery), crate::OpenError> {
    let directory = LogDirectory::new(files.clone(), root);
    let name = "topic-0".to_owned();
    let topic_id = Some(ottla_protocol::ids::Uuid::from_parts(1, 2));
    PartitionLog::open(
        OpenLog {
            directory,
            name,
            config,
            topic_id,
            left,
        },
        NOW,
        &mut |_| {},
    )
}

pub(crate) fn new_log(files: &Simulated, config: LogConfig) -> Log {
    open_as(files, config, Left::default()).0
}

/// Opens what a clean stop left.
pub(crate) fn reopen(files: &Simulated, config: LogConfig, recovery_point: Offset) -> Log {
    open_as(
        files,
        config,
        Left {
            is_clean: true,
            recovery_point,
            ..Left::default()
        },
    )
    .0
}

/// Flushes and moves the recovery point to the end of the log.
pub(crate) fn checkpoint(log: &mut Log) -> Offset {
    log.flush().unwrap();
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    checkpoint.run().unwrap();
    log.complete_checkpoint(&checkpoint)
}

pub(crate) fn plain(count: i64, timestamp: i64) -> Vec<u8> {
    batch(BatchOptions::default(), count, timestamp)
}

pub(crate) fn batch(options: BatchOptions, count: i64, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for index in 0..count {
        builder.append(timestamp + index, None, Some(b"some value"), &[]);
    }
    builder.build().unwrap()
}

pub(crate) fn idempotent(
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i64,
) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch,
        base_sequence,
        ..BatchOptions::default()
    };
    batch(options, count, NOW.0)
}

pub(crate) fn transactional(producer_id: i64, base_sequence: i32, count: i64) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        is_transactional: true,
        ..BatchOptions::default()
    };
    batch(options, count, NOW.0)
}

/// The marker that aborts (0) or commits (1) a transaction.
pub(crate) fn marker(producer_id: i64, kind: u8) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        is_transactional: true,
        ..BatchOptions::default()
    };
    let record = ControlRecord::decode(Some(&[0, 0, 0, kind]), Some(&[0; 6])).unwrap();
    BatchBuilder::control(options, NOW.0, &record)
}

pub(crate) fn as_leader(origin: Origin) -> LeaderAppend {
    LeaderAppend {
        origin,
        leader_epoch: LeaderEpoch(1),
        now: NOW,
    }
}

pub(crate) fn try_append<F: Files>(
    log: &mut PartitionLog<F>,
    bytes: &[u8],
) -> Result<Appended, AppendError> {
    try_append_in(LeaderEpoch(1), log, bytes)
}

pub(crate) fn try_append_in<F: Files>(
    leader_epoch: LeaderEpoch,
    log: &mut PartitionLog<F>,
    bytes: &[u8],
) -> Result<Appended, AppendError> {
    let batches: Vec<Batch<'_>> = split_batches(bytes)
        .map(|batch| Batch::from(batch.unwrap()))
        .collect();
    let is_control = batches.first().unwrap().header.is_control();
    let origin = if is_control {
        Origin::Coordinator
    } else {
        Origin::Client
    };
    let append = LeaderAppend {
        leader_epoch,
        ..as_leader(origin)
    };
    log.append(&batches, append)
}

pub(crate) fn append<F: Files>(log: &mut PartitionLog<F>, bytes: &[u8]) -> Appended {
    try_append(log, bytes).unwrap()
}

/// All batches from `offset` to the end of the log, read as a consumer reads.
pub(crate) fn read_all<F: Files>(log: &PartitionLog<F>, offset: Offset) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = offset;
    loop {
        let request = ReadRequest {
            offset,
            max_bytes: 300,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
        };
        let before = bytes.len();
        if log.read(&request).unwrap().read(&mut bytes).unwrap() == 0 {
            return bytes;
        }
        let batches = split_batches(&bytes[before..]);
        offset = batches
            .map(|batch: Result<BatchView<'_>, _>| batch.unwrap().header().next_offset())
            .last()
            .unwrap();
    }
}

/// The base offset and record count of each batch in `bytes`; checks every checksum.
pub(crate) fn summary(bytes: &[u8]) -> Vec<(i64, i32)> {
    let checked = |batch: BatchView<'_>| {
        assert!(batch.is_crc_valid());
        (batch.header().base_offset, batch.header().record_count)
    };
    split_batches(bytes)
        .map(|batch| checked(batch.unwrap()))
        .collect()
}

pub(crate) fn directory_of<F: Files>(log: &PartitionLog<F>) -> Arc<LogDirectory<F>> {
    Arc::clone(log.directory())
}
