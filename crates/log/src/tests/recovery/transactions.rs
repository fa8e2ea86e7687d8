//! The index of aborted transactions after a crash, and where it is damaged: no aborted record looks committed.

use super::super::fixture::*;
use super::{PARTITION, unclean};
use crate::files::{File, Files, Open};
use crate::format::FileKind;
use crate::{Bound, FirstBatch, Left, LogConfig, ReadRequest};
use ottla_protocol::ids::Offset;
use std::io::IoSlice;
use std::path::Path;

/// Entries after a damaged one were once left out without an error, and aborted records looked committed.
#[test]
fn readers_of_committed_records_are_refused_where_a_transaction_may_be_aborted() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    for producer in [1, 2, 3] {
        append(&mut log, &transactional(producer, 0, 2));
        append(&mut log, &marker(producer, 0));
    }
    let end = log.close().unwrap();
    let index = FileKind::TransactionIndex.path(Path::new(PARTITION), Offset(0));
    let whole = files;
    // The version of the second entry, its offsets, and the last entry in part.
    for (position, bytes) in [(34, &[0x7F; 2][..]), (44, &[0xFF; 24]), (78, &[0x40])] {
        for is_clean in [true, false] {
            let files = whole.process_killed();
            let file = files.open(&index, Open::Write).unwrap();
            file.write_at(&[IoSlice::new(bytes)], position).unwrap();
            let left = Left {
                is_clean,
                recovery_point: end,
                ..Left::default()
            };
            let (mut log, _) = open_as(&files, LogConfig::default(), left);
            let read = |log: &Log, bound| {
                log.read(&ReadRequest {
                    offset: Offset(3),
                    max_bytes: 1000,
                    first_batch: FirstBatch::MayExceed,
                    bound,
                })
            };
            assert!(read(&log, Bound::LogEnd).is_ok());
            let refused = read(&log, Bound::LastStableOffset).unwrap_err();
            assert!(
                refused.to_string().contains("ottla log repair /data"),
                "{refused}"
            );
            // The damage stays if the log is truncated after it, and goes with its transaction.
            log.truncate_to(Offset(6), NOW).unwrap();
            let of_second = log.aborted_transactions(Offset(3), Offset(6));
            assert_eq!(of_second.is_err(), position < 68);
            log.truncate_to(Offset(3), NOW).unwrap();
            let aborted = log.aborted_transactions(Offset(0), Offset(3)).unwrap();
            assert_eq!(aborted.len(), 1);
            log.directory().ensure_online().unwrap();
        }
    }
}

/// After the recovery point, a power cut may leave torn and stale entries in the index of aborted transactions. They
/// must neither be trusted nor be reported as damage.
#[test]
fn a_power_cut_neither_invents_nor_forgets_an_aborted_transaction() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &transactional(0, 0, 2));
    append(&mut log, &marker(0, 0));
    let recovery_point = checkpoint(&mut log);
    for producer in [1, 2, 3] {
        append(&mut log, &transactional(producer, 0, 2));
        append(&mut log, &marker(producer, 0));
        if producer == 2 {
            log.flush().unwrap();
        }
    }
    let expected = log.aborted_transactions(Offset(0), Offset(99)).unwrap();
    drop(log);
    for seed in 0..1000 {
        let (log, _) = open_as(
            &files.power_cut(seed),
            LogConfig::default(),
            unclean(recovery_point),
        );
        let found = log.aborted_transactions(Offset(0), Offset(99));
        let end = log.log_end_offset();
        let mut expected = expected.clone();
        expected.retain(|entry| entry.last_offset < end);
        assert_eq!(found.unwrap(), expected, "seed {seed}");
    }
}

#[test]
fn aborted_transactions_before_the_recovery_point_survive_without_an_offset_index() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &transactional(1, 0, 2));
    append(&mut log, &marker(1, 0));
    let recovery_point = checkpoint(&mut log);
    append(&mut log, &transactional(2, 0, 1));
    append(&mut log, &marker(2, 0));
    let expected = log.aborted_transactions(Offset(0), Offset(9)).unwrap();
    assert_eq!(expected.len(), 2);
    let (log, _) = open_as(
        &files.process_killed(),
        LogConfig::default(),
        unclean(recovery_point),
    );
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(9)).unwrap(),
        expected
    );
}
