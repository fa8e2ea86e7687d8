//! Fills a partition's log on the real disk with batches of every kind, for `kafka-dump-log` and other readers:
//! `cargo run -p ottla-log --example fill_log -- DIRECTORY`. The log is `DIRECTORY/topic-0`.

use ottla_log::files::disk::Disk;
use ottla_log::{
    Batch, LeaderAppend, Left, LogConfig, LogDirectory, OpenLog, Origin, PartitionLog,
};
use ottla_protocol::ids::{LeaderEpoch, Uuid};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, Compression};
use ottla_protocol::time::Timestamp;
use std::error::Error;

const START: i64 = 1_700_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("name a directory that exists")?;
    let config = LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 1000,
        ..LogConfig::default()
    };
    let open = OpenLog {
        directory: LogDirectory::new(Disk, path),
        name: "topic-0".to_owned(),
        config,
        topic_id: Some(Uuid::from_parts(1, 2)),
        left: Left {
            is_clean: true,
            ..Left::default()
        },
    };
    let (mut log, _) = PartitionLog::open(open, Timestamp(START), &mut |_| {})?;
    for round in 0..300i32 {
        let leader_epoch = LeaderEpoch(round / 100);
        for batch in batches(round) {
            let origin = if batch.is_control {
                Origin::Coordinator
            } else {
                Origin::Client
            };
            let append = LeaderAppend {
                origin,
                leader_epoch,
                now: Timestamp(START + i64::from(round)),
            };
            let batch = Batch::from(BatchView::first(&batch.bytes)?);
            log.append(&[batch], append)?;
        }
    }
    log.close()?;
    Ok(())
}

struct Made {
    bytes: Vec<u8>,
    is_control: bool,
}

fn batches(round: i32) -> Vec<Made> {
    let timestamp = START + i64::from(round * 7 % 50);
    let compression = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let compression = compression
        .get(usize::try_from(round % 5).unwrap_or(0))
        .copied()
        .unwrap_or(Compression::None);
    let level = compression.default_level();
    let plain = BatchOptions {
        compression,
        level,
        ..BatchOptions::default()
    };
    let mut made = vec![data(plain, timestamp, round % 7 + 1)];
    let options = BatchOptions {
        producer_id: 10,
        producer_epoch: 0,
        base_sequence: round * 2,
        ..plain
    };
    made.push(data(options, timestamp, 2));
    let is_transactional = true;
    let options = BatchOptions {
        producer_id: 11,
        base_sequence: round * 3,
        is_transactional,
        ..options
    };
    made.push(data(options, timestamp, 3));
    if round % 4 == 3 {
        let kind = u8::from(round % 8 == 3);
        let record =
            ControlRecord::decode(Some(&[0, 0, 0, kind]), Some(&[0; 6])).expect("a marker");
        let options = BatchOptions {
            compression: Compression::None,
            ..options
        };
        made.push(Made {
            bytes: BatchBuilder::control(options, timestamp, &record),
            is_control: true,
        });
    }
    made
}

fn data(options: BatchOptions, timestamp: i64, count: i32) -> Made {
    let mut builder = BatchBuilder::new(options);
    for index in 0..count {
        let key = format!("key-{index}");
        builder.append(
            timestamp + i64::from(index),
            Some(key.as_bytes()),
            Some(b"a value of some length"),
            &[],
        );
    }
    Made {
        bytes: builder.build().expect("a batch of records"),
        is_control: false,
    }
}
