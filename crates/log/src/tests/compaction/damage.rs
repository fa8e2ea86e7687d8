//! Compaction of damaged logs: what cannot be read stays byte for byte, and the rest is compacted.

use super::super::fixture::*;
use super::{
    AMPLE, DAY, PARTITION, compacted, keyed, newest, pass, put, records_of, segment_bytes, settle,
    spoil, try_pass, visible,
};
use crate::compaction::{CompactionError, QUARANTINE};
use crate::files::{File, Files, Open};
use crate::format::FileKind;
use crate::{Left, LogConfig};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchOptions, BatchView, split_batches};
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_batch_that_cannot_be_read_stays_as_it_is_and_the_rest_is_compacted() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..6 {
        let value = format!("value {round}");
        let only = format!("only {round}");
        put(&mut log, &[("a", Some(&value)), (&only, Some("x"))]);
    }
    settle(&mut log).unwrap();
    let bytes = segment_bytes(&files, 0);
    let starts: Vec<usize> = split_batches(&bytes)
        .scan(0, |at, batch| {
            let start = *at;
            *at += batch.unwrap().size();
            Some(start)
        })
        .collect();
    // The third batch has a wrong checksum.
    spoil(&files, 0, starts[2] as u64 + 70);
    let poisoned = segment_bytes(&files, 0)[starts[2]..starts[3]].to_vec();
    let outcome = pass(&mut log, NOW);
    assert!(outcome.is_whole);
    let [entry] = outcome.quarantine.as_slice() else {
        panic!("{:?}", outcome.quarantine)
    };
    assert_eq!(
        (entry.first_offset, entry.last_offset),
        (Offset(4), Offset(5))
    );
    assert_eq!(entry.bytes, poisoned.len() as u64);
    assert!(entry.reason.contains("checksum"), "{}", entry.reason);
    assert_eq!(log.quarantine(), outcome.quarantine);
    let after = segment_bytes(&files, 0);
    let at = usize::try_from(entry.position).unwrap();
    assert_eq!(after[at..at + poisoned.len()], poisoned);
    assert!(after.len() < bytes.len());
    // All around it is compacted.
    let mut counts = Vec::new();
    for batch in split_batches(&after).map(Result::unwrap) {
        counts.push((batch.header().base_offset, batch.header().record_count));
    }
    assert_eq!(counts, [(0, 1), (2, 1), (4, 2), (6, 1), (8, 1), (10, 2)]);
    // It is known after a start, and forgotten when it is gone.
    let file = Path::new(PARTITION).join(QUARANTINE);
    assert!(files.status(&file).unwrap().is_some());
    let reopened = reopen(&files.process_killed(), compacted(), Offset(12));
    assert_eq!(reopened.quarantine(), outcome.quarantine);
}

#[test]
fn records_that_cannot_be_decompressed_stay_with_all_older_ones_of_their_keys() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1"))]);
    let mut broken = keyed(BatchOptions::default(), &[("a", Some("2"))]);
    // It says that it is compressed by zstd, and is not; the checksum is right.
    broken[22] |= 4;
    let crc = BatchView::first(&broken).unwrap().compute_crc();
    broken[17..21].copy_from_slice(&crc.to_be_bytes());
    append(&mut log, &broken);
    put(&mut log, &[("b", Some("1"))]);
    settle(&mut log).unwrap();
    let before = read_all(&log, Offset(0));
    let outcome = pass(&mut log, NOW);
    assert_eq!(outcome.quarantine.len(), 1);
    assert_eq!(read_all(&log, Offset(0)), before);
}

#[test]
fn a_segment_that_cannot_be_walked_is_left_as_it_is_and_the_others_are_compacted() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..3 {
        let value = format!("value {round}");
        put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        settle(&mut log).unwrap();
    }
    // The length of its second batch is nonsense.
    let second = split_batches(&segment_bytes(&files, 4))
        .next()
        .unwrap()
        .unwrap()
        .size();
    spoil(&files, 4, second as u64 + 8);
    let damaged = segment_bytes(&files, 4);
    let outcome = pass(&mut log, NOW);
    assert!(outcome.is_whole);
    assert_eq!(outcome.quarantine.len(), 1);
    assert_eq!(outcome.quarantine[0].segment, Offset(4));
    assert_eq!(outcome.quarantine[0].first_offset, Offset(6));
    assert_eq!(segment_bytes(&files, 4), damaged);
    assert_eq!(segment_bytes(&files, 0), []);
    assert_eq!(segment_bytes(&files, 8).len(), damaged.len() / 2);
}

#[test]
fn a_plan_passes_over_what_is_damaged_or_missing() {
    let files = new_disk();
    let config = LogConfig {
        min_compaction_lag: Duration::from_millis(1),
        max_compaction_lag: Some(Duration::from_hours(1)),
        ..compacted()
    };
    let mut log = new_log(&files, config.clone());
    for _ in 0..3 {
        put(&mut log, &[("a", Some("1"))]);
        settle(&mut log).unwrap();
    }
    let point = log.close().unwrap();
    spoil(&files, 0, 8);
    let mut log = reopen(&files, config, point);
    let missing = FileKind::Log.path(Path::new(PARTITION), Offset(1));
    files.remove(&missing).unwrap();
    let later = Timestamp(NOW.0 + 10);
    assert_eq!(
        log.plan_compaction(later).unwrap().first_uncleanable,
        Offset(3)
    );
    log.directory().ensure_online().unwrap();
    // What it says of the missing file ends the pass, and nothing else.
    let outcome = try_pass(&mut log, AMPLE, later);
    assert!(
        matches!(outcome, Err(CompactionError::Changed)),
        "{outcome:?}"
    );
    log.directory().ensure_online().unwrap();
}

#[test]
fn a_tombstone_stays_while_damage_before_it_keeps_what_it_deletes() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("k", Some("v"))]);
    put(&mut log, &[("x", Some("1"))]);
    settle(&mut log).unwrap();
    put(&mut log, &[("k", None)]);
    settle(&mut log).unwrap();
    // The length of the second batch is nonsense, so the first segment is kept whole.
    let bytes = segment_bytes(&files, 0);
    let first = split_batches(&bytes).next().unwrap().unwrap().size();
    spoil(&files, 0, first as u64 + 8);
    pass(&mut log, NOW);
    put(&mut log, &[("y", Some("1"))]);
    settle(&mut log).unwrap();
    pass(&mut log, Timestamp(NOW.0 + DAY));
    let kept = segment_bytes(&files, 2);
    let mut seen = split_batches(&kept).flat_map(|batch| records_of(&batch.unwrap()));
    assert_eq!(seen.next(), Some((2, "k".to_owned(), None)));
}

#[test]
fn an_index_that_lies_hides_no_key_from_a_pass() {
    // To a later batch, and into the middle of one.
    for astray in [0, 7] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..10 {
            let value = format!("value {round}");
            let key = if round % 5 == 0 { "k" } else { "a" };
            put(&mut log, &[(key, Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let before = visible(&log);
        let size = log.size() / 10;
        let recovery_point = log.close().unwrap();
        let index = FileKind::OffsetIndex.path(Path::new(PARTITION), Offset(0));
        let mut bytes = crate::files::read_whole(&files, &index, 1000)
            .unwrap()
            .unwrap();
        assert!(bytes.len() > 8);
        for entry in bytes.chunks_mut(8) {
            let position = i32::try_from(6 * size).unwrap() + astray;
            entry[4..].copy_from_slice(&position.to_be_bytes());
        }
        let file = files.open(&index, Open::Write).unwrap();
        file.write_at(&[IoSlice::new(&bytes)], 0).unwrap();
        // Half of the segment is dirty.
        let left = Left {
            is_clean: true,
            recovery_point,
            compacted_to: Some(Offset(10)),
            ..Left::default()
        };
        let (mut log, _) = open_as(&files, compacted(), left);
        pass(&mut log, NOW);
        assert_eq!(visible(&log), newest(&before, 20), "astray by {astray}");
    }
}
