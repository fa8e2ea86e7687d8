//! Compaction of transactions: what was aborted goes, and what says so stays for as long as readers need it.

use super::super::fixture::*;
use super::{
    DAY, Written, compacted, headers, keyed, newest, pass, put, segment_bytes, settle, spoil,
    visible,
};
use crate::Left;
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchOptions, split_batches};
use ottla_protocol::time::Timestamp;

fn in_transaction(producer_id: i64, base_sequence: i32, records: &[Written<'_>]) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        is_transactional: true,
        ..BatchOptions::default()
    };
    keyed(options, records)
}

#[test]
fn aborted_records_go_and_markers_follow_when_nothing_is_left_of_their_transactions() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("old")), ("b", Some("old"))]);
    append(&mut log, &in_transaction(1, 0, &[("a", Some("aborted"))]));
    append(&mut log, &in_transaction(2, 0, &[("b", Some("committed"))]));
    append(&mut log, &marker(1, 0));
    append(&mut log, &marker(2, 1));
    append(&mut log, &in_transaction(1, 1, &[("c", Some("committed"))]));
    append(&mut log, &marker(1, 1));
    settle(&mut log).unwrap();
    let before = visible(&log);
    pass(&mut log, NOW);
    assert_eq!(visible(&log), newest(&before, 8));
    let kept = |log: &Log| -> Vec<(i64, bool, i32)> {
        let of = |header: &ottla_protocol::records::BatchHeader| {
            (header.base_offset, header.is_control(), header.record_count)
        };
        headers(log).iter().map(of).collect()
    };
    // Of the aborted transaction nothing is left but its marker, which the next pass finds alone.
    assert_eq!(
        kept(&log),
        [
            (0, false, 1),
            (3, false, 1),
            (4, true, 1),
            (5, true, 1),
            (6, false, 1),
            (7, true, 1)
        ]
    );
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(8))
            .unwrap()
            .len(),
        1
    );
    put(&mut log, &[("b", Some("new")), ("c", Some("new"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    assert_eq!(log.aborted_transactions(Offset(0), Offset(8)).unwrap(), []);
    let marker = headers(&log)[2];
    assert_eq!(
        (marker.base_offset, marker.delete_horizon_ms()),
        (4, Some(NOW.0 + DAY))
    );
    put(&mut log, &[("b", Some("newer"))]);
    settle(&mut log).unwrap();
    pass(&mut log, Timestamp(NOW.0 + DAY));
    // The last batches of the producers stay without their records, and with them what marks their end.
    assert_eq!(
        kept(&log),
        [
            (0, false, 1),
            (3, false, 0),
            (5, true, 1),
            (6, false, 0),
            (7, true, 1),
            (8, false, 1),
            (10, false, 1)
        ]
    );
    assert_eq!(visible(&log).len(), 3);
}

#[test]
fn an_aborted_transaction_keeps_its_index_entry_while_a_batch_of_it_is_there() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    append(&mut log, &transactional(1, 0, 2));
    append(&mut log, &marker(1, 0));
    put(&mut log, &[("a", Some("1"))]);
    settle(&mut log).unwrap();
    pass(&mut log, NOW);
    let first = headers(&log)[0];
    assert_eq!((first.base_offset, first.record_count), (0, 0));
    assert_eq!(first.last_sequence(), 1);
    let entries = log.aborted_transactions(Offset(0), Offset(4)).unwrap();
    assert_eq!(entries.len(), 1);
    let left = Left {
        is_clean: true,
        ..Left::default()
    };
    let (log, _) = open_as(&files.process_killed(), compacted(), left);
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(4)).unwrap(),
        entries
    );
}

#[test]
fn an_aborted_transaction_keeps_its_index_entry_when_its_marker_cannot_be_read() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    put(&mut log, &[("a", Some("1"))]);
    append(&mut log, &in_transaction(1, 0, &[("b", Some("aborted"))]));
    append(&mut log, &marker(1, 0));
    put(&mut log, &[("a", Some("2"))]);
    settle(&mut log).unwrap();
    let entries = log.aborted_transactions(Offset(0), Offset(4)).unwrap();
    assert_eq!(entries.len(), 1);
    let bytes = segment_bytes(&files, 0);
    let sizes = split_batches(&bytes).map(|batch| batch.unwrap().size());
    let at: usize = sizes.take(2).sum();
    // A byte of its record.
    spoil(&files, 0, at as u64 + 65);
    let outcome = pass(&mut log, NOW);
    assert_eq!(outcome.quarantine.len(), 1);
    assert!(outcome.stats.segments_after == 1);
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(4)).unwrap(),
        entries
    );
}
