//! What compaction makes of a partition that Kafka wrote, beside what Kafka's own cleaner made of it.

use super::super::fixture::*;
use super::{compacted, pass, put, records_of, settle, try_pass, visible};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, read_whole};
use crate::verify::{Checkpointed, verify_partition};
use crate::{Left, LogConfig};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchHeader, BatchView, split_batches};
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

const FIXTURE: &str = include_str!("../../../tests/fixtures/compaction.txt");
const PARTITION: &str = "/data/topic-0";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The files of the fixture under this word.
fn files_of(word: &str) -> Vec<(String, Vec<u8>)> {
    let lines = FIXTURE.lines().map(|line| line.split(' ').collect());
    let matching = lines.filter(|words: &Vec<&str>| words[0] == word);
    matching
        .map(|words| (words[1].to_owned(), bytes(words[2])))
        .collect()
}

/// What must be alike in a batch: all but its length and checksum, since no two compressors write the same.
fn content(batch: &BatchView<'_>) -> (BatchHeader, Vec<super::Seen>) {
    let header = BatchHeader {
        length: 0,
        crc: 0,
        ..*batch.header()
    };
    (header, records_of(batch))
}

#[test]
fn each_batch_is_what_kafkas_cleaner_leaves() {
    let files: Simulated = new_disk();
    files.create_directory(Path::new(PARTITION)).unwrap();
    for (name, content) in files_of("before") {
        let path = Path::new(PARTITION).join(name);
        let file = files.open(&path, Open::Create).unwrap();
        file.write_at(&[IoSlice::new(&content)], 0).unwrap();
    }
    let now = FIXTURE.lines().find_map(|line| line.strip_prefix("now "));
    let now = Timestamp(now.unwrap().parse().unwrap());
    let config = LogConfig {
        compact: true,
        delete: false,
        min_cleanable_dirty_ratio: 0.0,
        producer_id_expiration: Duration::MAX,
        ..LogConfig::default()
    };
    let left = Left {
        is_clean: true,
        recovery_point: Offset(i64::MAX),
        ..Left::default()
    };
    let (mut log, _) = open_as(&files, config, left);
    let outcome = try_pass(&mut log, 1 << 20, now).unwrap().unwrap();
    assert!(outcome.is_whole && outcome.quarantine.is_empty());
    assert!(outcome.stats.segments_before > 5);

    let expected = files_of("after");
    let ours = |name: &str| {
        let path = Path::new(PARTITION).join(name);
        read_whole(&files, &path, 1 << 20).unwrap().unwrap()
    };
    let (name, kafkas) = &expected[0];
    let batches = |bytes: &[u8]| -> Vec<_> {
        let batches = split_batches(bytes).map(Result::unwrap);
        batches
            .inspect(|batch| assert!(batch.is_crc_valid()))
            .map(|batch| content(&batch))
            .collect()
    };
    let (found, wanted) = (batches(&ours(name)), batches(kafkas));
    assert!(wanted.len() > 30);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len());
    let (name, kafkas) = &expected[1];
    assert_eq!(&ours(name), kafkas, "the transaction index, byte for byte");
}

/// Kafka compacts what is on stable storage, also beyond the recovery point that its checkpoint has.
#[test]
fn a_gap_of_kafkas_cleaner_across_the_recovery_point_is_no_loss() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for _ in 0..40 {
        put(&mut log, &[("a", Some("a value of some length"))]);
    }
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    put(&mut log, &[("b", Some("after the compaction"))]);
    let (end, compacted_to) = (log.log_end_offset(), log.compacted_to());
    assert_eq!(compacted_to, Some(Offset(40)));
    log.set_high_watermark(end).unwrap();
    let before = visible(&log);
    assert_eq!(before.len(), 2);
    let killed = files.process_killed();
    for recovery_point in (0..=end.0).map(Offset) {
        let checkpointed = Checkpointed {
            recovery_point: Some(recovery_point),
            log_start: None,
            compacted_to,
        };
        let verified = verify_partition(&killed, Path::new(PARTITION), checkpointed).unwrap();
        assert_eq!(verified.findings, [], "recovery point {recovery_point}");
        let left = Left {
            recovery_point,
            compacted_to,
            ..Left::default()
        };
        let (log, recovery) = open_as(&killed.process_killed(), compacted(), left);
        let lost = (recovery.cut_off, recovery.damage);
        assert_eq!(lost, (None, vec![]), "recovery point {recovery_point}");
        assert_eq!(visible(&log), before);
    }
}
