//! Several batches damaged at once, on both sides of the recovery point, as seeds have it: what is sound is read, what
//! is damaged is refused or fails its checksum, the log ends where it must, and what is appended then is read too.

use super::damage::{PARTITION, injuries, overwrite};
use super::fixture::*;
use crate::files::simulated::Random;
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open};
use crate::format::FileKind;
use crate::scan::Scan;
use crate::{Bound, FirstBatch, Left, LogConfig, ReadError, ReadRequest, StorageError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::split_batches;
use std::collections::BTreeMap;
use std::path::Path;

/// A batch as it was written, and where.
struct Written {
    segment: Offset,
    position: u64,
    bytes: Vec<u8>,
    first: i64,
    next: i64,
}

/// By the offset that each begins with: the bytes to be read there, or none where they are damaged.
type Expected = BTreeMap<i64, Option<Vec<u8>>>;

#[test]
fn what_is_sound_is_read_whatever_else_is_damaged() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let config = LogConfig {
            segment_bytes: 400 + random.below(2000),
            index_interval_bytes: u32::try_from(random.below(400)).unwrap(),
            ..LogConfig::default()
        };
        let (files, batches) = written(&mut random, &config);
        let reached = batches.len() - random.index(batches.len() / 2);
        let recovery_point = batches.get(reached).map_or(end_of(&batches), |at| at.first);
        let damaged = damage(&mut random, &files, &batches);
        let end = damaged.iter().find(|number| **number >= reached);
        let end = end.map_or(end_of(&batches), |number| batches[*number].first);
        let mut expected = Expected::new();
        for (number, batch) in batches.iter().enumerate() {
            let bytes = (!damaged.contains(&number)).then(|| batch.bytes.clone());
            expected.insert(batch.first, bytes);
        }
        expected.split_off(&end);
        let what = format!(
            "seed {seed}, {damaged:?} of {} batches, recovery point {recovery_point}",
            batches.len()
        );
        let left = Left {
            recovery_point: Offset(recovery_point),
            ..Left::default()
        };
        let (mut log, _) = open_as(&files, config.clone(), left);
        assert_eq!(log.log_end_offset().0, end, "{what}");
        compare(&log, &expected, &what);
        for _ in 0..=random.below(6) {
            let bytes = plain(1 + random.signed(4), NOW.0);
            let first = append(&mut log, &bytes).first_offset;
            expected.insert(first.0, Some(read_all(&log, first)));
        }
        compare(&log, &expected, &what);
        let end = log.close().unwrap();
        let log = reopen(&files, config, end);
        assert_eq!(log.log_end_offset(), end, "{what}");
        compare(&log, &expected, &what);
    }
}

/// A log that was flushed and killed.
fn written(random: &mut Random, config: &LogConfig) -> (Simulated, Vec<Written>) {
    let files = new_disk();
    let mut log = new_log(&files, config.clone());
    for number in 0..10 + random.signed(30) {
        append(&mut log, &plain(1 + random.signed(4), NOW.0 + 10 * number));
    }
    log.flush().unwrap();
    let mut batches = Vec::new();
    for segment in log.segments().bases() {
        let path = FileKind::Log.path(Path::new(PARTITION), segment);
        let file = files.open(&path, Open::Read).unwrap();
        let mut scan = Scan::new(&file, 0, file.length().unwrap());
        while let Some((located, batch)) = scan.next_batch().unwrap() {
            batches.push(Written {
                segment,
                position: located.position,
                bytes: batch.bytes().to_vec(),
                first: located.header.base_offset,
                next: located.header.next_offset().0,
            });
        }
    }
    drop(log);
    (files.process_killed(), batches)
}

fn end_of(batches: &[Written]) -> i64 {
    batches.last().unwrap().next
}

/// Damages some batches; yields their numbers, rising.
fn damage(random: &mut Random, files: &Simulated, batches: &[Written]) -> Vec<usize> {
    let mut damaged = Vec::new();
    let mut number = random.index(batches.len());
    for _ in 0..=random.below(4) {
        let batch = &batches[number];
        let mut injuries = injuries(batch.bytes.len());
        // No checksum covers the offset: a reader who comes from before may not notice.
        injuries.retain(|(what, ..)| !what.contains("offset") || what.contains("last offset"));
        let (_, at, bytes) = injuries.swap_remove(random.index(injuries.len()));
        let is_one = !batch.bytes[at..].starts_with(&bytes);
        if is_one && !damaged.contains(&number) {
            let path = FileKind::Log.path(Path::new(PARTITION), batch.segment);
            overwrite(files, &path, batch.position + at as u64, &bytes);
            damaged.push(number);
        }
        // Often the next, sometimes another.
        number = if random.one_in(3) {
            random.index(batches.len())
        } else {
            (number + 1) % batches.len()
        };
    }
    damaged.sort_unstable();
    damaged
}

/// Reads at every offset.
fn compare(log: &Log, expected: &Expected, what: &str) {
    for offset in 0..log.log_end_offset().0 {
        let (_, wanted) = expected.range(..=offset).next_back().unwrap();
        let what = format!("at {offset}, {what}");
        let read = log.read(&ReadRequest {
            offset: Offset(offset),
            max_bytes: 1 << 20,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
        });
        let plan = match read {
            Ok(plan) => plan,
            Err(ReadError::Storage(StorageError::Damaged { damage, .. })) => {
                assert!(
                    wanted.is_none() && damage.covers(Offset(offset)),
                    "{what}: {damage}"
                );
                continue;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        let mut bytes = Vec::new();
        plan.read(&mut bytes).unwrap();
        if let Some(wanted) = wanted {
            assert!(bytes.starts_with(wanted), "{what}");
        }
        for batch in split_batches(&bytes).map_while(Result::ok) {
            // A client stops at the first that is wrong.
            if !batch.is_crc_valid() {
                break;
            }
            let whole = expected
                .get(&batch.header().base_offset)
                .and_then(Option::as_deref);
            assert_eq!(whole, Some(batch.bytes()), "{what}");
        }
    }
}
