//! What compaction makes of a partition that Kafka wrote, beside what Kafka's own cleaner made of it.

use super::super::fixture::*;
use super::{records_of, try_pass};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, read_whole};
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
