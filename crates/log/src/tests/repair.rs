//! `ottla log repair` makes sound what was damaged, keeps the damaged bytes, and can be cut short at any instant.

use super::damage::{END, PARTITION, config, idempotent_at, injuries, overwrite, written};
use super::fixture::*;
use crate::checkpoint::LEADER_EPOCHS;
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, read_whole};
use crate::format::{CUT_OFF_SUFFIX, FileKind};
use crate::repair::{Step, carry_out, plan};
use crate::verify::{Checkpointed, Severity, Verified, verify_partition};
use crate::{Left, LogConfig};
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::control::{ControlRecord, ControlType};
use ottla_protocol::records::split_batches;
use std::path::Path;

/// The log is on stable storage up to `offset`, and nothing of it was deleted.
fn durable_to(offset: Offset) -> Checkpointed {
    Checkpointed {
        recovery_point: Some(offset),
        log_start: Some(Offset(0)),
        compacted_to: None,
    }
}

fn verified(files: &Simulated) -> Verified {
    verify_partition(files, Path::new(PARTITION), durable_to(END)).unwrap()
}

fn damaged(verified: &Verified) -> Vec<String> {
    let damage = verified.findings.iter();
    let damage = damage.filter(|finding| finding.severity == Severity::Damage);
    damage.map(|finding| finding.what.clone()).collect()
}

/// The steps of a repair, after which verify finds nothing more, and the log.
fn repaired(files: &Simulated, end: Offset) -> (Vec<Step>, Log) {
    let verified = || verify_partition(files, Path::new(PARTITION), durable_to(end)).unwrap();
    let steps = plan(&verified());
    carry_out(files, Path::new(PARTITION), &steps, NOW).unwrap();
    assert_eq!(damaged(&verified()), Vec::<String>::new());
    (steps, reopen(files, LogConfig::default(), end))
}

/// Repairs, and checks that verify then finds nothing more.
fn repair(files: &Simulated, what: &str) -> Vec<Step> {
    let steps = plan(&verified(files));
    assert!(!steps.is_empty(), "{what}");
    carry_out(files, Path::new(PARTITION), &steps, NOW).unwrap();
    let after = verified(files);
    assert_eq!(damaged(&after), Vec::<String>::new(), "{what}");
    assert_eq!(after.log_end, Some(END), "{what}");
    steps
}

/// What consumers get: the base offset of each batch with records.
fn consumed(log: &Log) -> Vec<i64> {
    let all = summary(&read_all(log, Offset(0))).into_iter();
    let with_records = all.filter(|(_, records)| *records > 0);
    with_records.map(|(offset, _)| offset).collect()
}

fn open(files: &Simulated, is_clean: bool) -> Log {
    let left = Left {
        is_clean,
        recovery_point: END,
        ..Left::default()
    };
    let (log, recovery) = open_as(files, config(), left);
    assert_eq!((recovery.cut_off, recovery.damage.len()), (None, 0));
    log
}

#[test]
fn a_repaired_log_is_sound_whatever_of_which_batch_was_damaged() {
    let (whole, batches) = written();
    for hurt in [0, 1, 8, 9, 15, 28, 29] {
        let (base, position, bytes) = &batches[hurt];
        let path = FileKind::Log.path(Path::new(PARTITION), *base);
        for (what, at, injury) in injuries(bytes.len()) {
            if bytes[at..].starts_with(&injury) {
                continue;
            }
            let what = format!("batch {hurt} has {what}");
            let files = whole.process_killed();
            overwrite(&files, &path, position + at as u64, &injury);
            let mut expected = bytes.clone();
            expected[at..at + injury.len()].copy_from_slice(&injury);
            let steps = repair(&files, &what);
            assert!(
                matches!(steps.as_slice(), [Step::Rewrite { .. }]),
                "{steps:?}"
            );
            let names = files.list(Path::new(PARTITION)).unwrap();
            let aside: Vec<_> = names
                .iter()
                .filter(|entry| entry.name.ends_with(CUT_OFF_SUFFIX))
                .collect();
            let listed = steps[0].to_string();
            let mut kept: Vec<_> = aside
                .iter()
                .map(|entry| read_whole(&files, &Path::new(PARTITION).join(&entry.name), 1 << 20))
                .map(|content| content.unwrap().unwrap())
                .collect();
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
                let path = kind.path(Path::new(PARTITION), *base);
                let name = path.file_name().unwrap().to_string_lossy();
                assert!(listed.contains(&*name), "{listed}");
                let old = read_whole(&whole, &path, 1 << 20).unwrap().unwrap();
                let place = kept.iter().position(|content| *content == old);
                kept.remove(place.expect(&what));
            }
            assert_eq!(kept.len(), 1, "{what}");
            assert!(kept[0].ends_with(&expected), "{what}");
            for is_clean in [true, false] {
                let files = files.process_killed();
                let mut log = open(&files, is_clean);
                let numbers = (0..30).filter(|number| *number != hurt);
                let offsets: Vec<i64> = numbers
                    .map(|number| i64::try_from(number).unwrap() * 3)
                    .collect();
                assert_eq!(consumed(&log), offsets, "{what}");
                let appended = append(&mut log, &idempotent_at(30));
                assert_eq!(appended.first_offset, END, "{what}");
            }
        }
    }
}

#[test]
fn a_repair_that_is_cut_short_anywhere_leaves_the_old_or_the_new() {
    let (whole, batches) = written();
    for hurt in [0, 9, 29] {
        let (base, position, _) = &batches[hurt];
        let path = FileKind::Log.path(Path::new(PARTITION), *base);
        let files = whole.process_killed();
        overwrite(&files, &path, position + 8, &[0xFF; 4]);
        files.open(&path, Open::Write).unwrap().sync_data().unwrap();
        let steps = plan(&verified(&files));
        let total = {
            let files = files.process_killed();
            let before = files.changes();
            carry_out(&files, Path::new(PARTITION), &steps, NOW).unwrap();
            files.changes() - before
        };
        assert!(total > 15, "{total}");
        for changes in 0..=total {
            for seed in 0..3 {
                let what = format!("batch {hurt}, after {changes} changes, seed {seed}");
                let files = files.process_killed();
                files.cut_power_after(changes);
                let _ = carry_out(&files, Path::new(PARTITION), &steps, NOW);
                let files = files.power_cut(seed);
                // A start comes first: it ends what was begun.
                let (log, recovery) = open_as(
                    &files,
                    config(),
                    Left {
                        is_clean: true,
                        recovery_point: END,
                        ..Left::default()
                    },
                );
                assert_eq!(
                    (log.log_end_offset(), recovery.cut_off),
                    (END, None),
                    "{what}"
                );
                log.close().unwrap();
                if !damaged(&verified(&files)).is_empty() {
                    repair(&files, &what);
                }
                let found = consumed(&open(&files, true));
                assert_eq!(found.len(), 29, "{what}");
            }
        }
    }
}

#[test]
fn what_lies_beside_the_log_is_made_anew() {
    let (whole, batches) = written();
    let base = batches[9].0;
    let of = |kind: FileKind| kind.path(Path::new(PARTITION), base);
    for (path, position, content) in [
        (of(FileKind::OffsetIndex), 4, &[0x7F; 4][..]),
        (of(FileKind::TimeIndex), 0, &[0x7F; 4]),
        (of(FileKind::ProducerSnapshot), 3, &[0x7F; 4]),
        (Path::new(PARTITION).join(LEADER_EPOCHS), 0, b"0\n1\nx y"),
    ] {
        let files = whole.process_killed();
        overwrite(&files, &path, position, content);
        let broken = read_whole(&files, &path, 1 << 20).unwrap().unwrap();
        let what = path.display().to_string();
        assert_eq!(repair(&files, &what).len(), 1, "{what}");
        let names = files.list(Path::new(PARTITION)).unwrap();
        let is_kept = |name: &str| {
            let aside = Path::new(PARTITION).join(name);
            let content = read_whole(&files, &aside, 1 << 20).unwrap();
            name.ends_with(CUT_OFF_SUFFIX) && content.as_ref() == Some(&broken)
        };
        let kept: Vec<_> = names.iter().filter(|entry| is_kept(&entry.name)).collect();
        assert_eq!(kept.len(), 1, "{what}");
        let kept = Path::new(PARTITION).join(&kept[0].name);
        let after = verified(&files).findings;
        let note = after.iter().find(|finding| finding.path == kept).unwrap();
        assert!(note.what.contains("moved this file aside"), "{}", note.what);
        assert_eq!(consumed(&open(&files, true)).len(), 30, "{what}");
    }
}

/// A log whose offset and time index of one segment name what is not there.
fn with_broken_indexes() -> (Simulated, [std::path::PathBuf; 2]) {
    let (files, batches) = written();
    let base = batches[9].0;
    let kinds = [FileKind::OffsetIndex, FileKind::TimeIndex];
    let paths = kinds.map(|kind| kind.path(Path::new(PARTITION), base));
    for path in &paths {
        overwrite(&files, path, 0, &[0x7F; 8]);
        files.open(path, Open::Write).unwrap().sync_data().unwrap();
    }
    (files, paths)
}

#[test]
fn making_indexes_anew_leaves_the_old_or_the_new_wherever_it_is_cut_short() {
    let (files, paths) = with_broken_indexes();
    let steps = plan(&verified(&files));
    assert!(matches!(steps.as_slice(), [Step::Reindex(_)]), "{steps:?}");
    let contents = |files: &Simulated| {
        let read = |path| read_whole(files, path, 1 << 20).unwrap();
        [read(&paths[0]), read(&paths[1])]
    };
    let old = contents(&files);
    let done = files.process_killed();
    let before = done.changes();
    carry_out(&done, Path::new(PARTITION), &steps, NOW).unwrap();
    let total = done.changes() - before;
    let new = contents(&done);
    for changes in 0..=total {
        for seed in 0..5 {
            let files = files.process_killed();
            files.cut_power_after(changes);
            let _ = carry_out(&files, Path::new(PARTITION), &steps, NOW);
            let left = contents(&files.power_cut(seed));
            for (left, (old, new)) in left.iter().zip(old.iter().zip(&new)) {
                assert!(left == old || left == new, "after {changes}, seed {seed}");
            }
        }
    }
}

#[test]
fn making_indexes_anew_on_a_full_disk_fails_and_leaves_the_old() {
    let (files, paths) = with_broken_indexes();
    let steps = plan(&verified(&files));
    let old = paths
        .each_ref()
        .map(|path| read_whole(&files, path, 1 << 20).unwrap());
    files.limit_space(Some(0));
    let failed = carry_out(&files, Path::new(PARTITION), &steps, NOW).unwrap_err();
    assert!(failed.to_string().contains("is full"), "{failed}");
    let left = paths
        .each_ref()
        .map(|path| read_whole(&files, path, 1 << 20).unwrap());
    assert_eq!(left, old);
    files.limit_space(None);
    repair(&files, "with space");
}

#[test]
fn aborted_transactions_are_found_again() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    for producer in [1, 2] {
        append(&mut log, &transactional(producer, 0, 2));
        append(&mut log, &marker(producer, 0));
    }
    let expected = log.aborted_transactions(Offset(0), Offset(9)).unwrap();
    assert_eq!(expected.len(), 2);
    let end = log.close().unwrap();
    let path = FileKind::TransactionIndex.path(Path::new(PARTITION), Offset(0));
    overwrite(&files, &path, 20, &[0x7F; 30]);
    let (steps, log) = repaired(&files, end);
    assert_eq!(steps, [Step::ReindexTransactions(Offset(0))]);
    let again = log.aborted_transactions(Offset(0), Offset(9)).unwrap();
    assert_eq!(again, expected);
}

#[test]
fn no_aborted_transaction_is_forgotten_when_its_index_and_its_segment_are_damaged() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    let mut markers = Vec::new();
    for producer in 1..=4 {
        append(&mut log, &transactional(producer, 0, 2));
        markers.push(log.size());
        append(&mut log, &marker(producer, 0));
    }
    let expected = log.aborted_transactions(Offset(0), Offset(12)).unwrap();
    assert_eq!(expected.len(), 4);
    let end = log.close().unwrap();
    let of = |kind: FileKind| kind.path(Path::new(PARTITION), Offset(0));
    // The second entry, and the markers of the third and the last transaction.
    let index = of(FileKind::TransactionIndex);
    overwrite(&files, &index, 34, &[0x7F; 30]);
    let broken = read_whole(&files, &index, 1 << 20).unwrap();
    overwrite(&files, &of(FileKind::Log), markers[2] + 17, &[0xFF; 4]);
    overwrite(&files, &of(FileKind::Log), markers[3] + 17, &[0xFF; 4]);
    let (steps, log) = repaired(&files, end);
    assert!(
        matches!(
            steps.as_slice(),
            [Step::ReindexTransactions(_), Step::Rewrite { .. }]
        ),
        "{steps:?}"
    );
    let names = files.list(Path::new(PARTITION)).unwrap();
    let is_kept = |name: &str| {
        let aside = Path::new(PARTITION).join(name);
        name.ends_with(CUT_OFF_SUFFIX) && read_whole(&files, &aside, 1 << 20).unwrap() == broken
    };
    assert!(names.iter().any(|entry| is_kept(&entry.name)));
    let again = log.aborted_transactions(Offset(0), Offset(12)).unwrap();
    assert_eq!(again, expected);
}

/// A commit's marker is damaged, so by the batches alone the next abort seems to have begun before it.
#[test]
fn what_is_sound_of_the_index_of_aborted_transactions_is_kept_as_it_is() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &transactional(1, 0, 2));
    let commit = log.size();
    append(&mut log, &marker(1, 1));
    append(&mut log, &transactional(1, 2, 2));
    append(&mut log, &marker(1, 0));
    append(&mut log, &transactional(2, 0, 2));
    append(&mut log, &marker(2, 0));
    let expected = log.aborted_transactions(Offset(0), Offset(9)).unwrap();
    let end = log.close().unwrap();
    let of = |kind: FileKind| kind.path(Path::new(PARTITION), Offset(0));
    overwrite(&files, &of(FileKind::TransactionIndex), 34, &[0x7F; 30]);
    overwrite(&files, &of(FileKind::Log), commit + 17, &[0xFF; 4]);
    let (_, log) = repaired(&files, end);
    let again = log.aborted_transactions(Offset(0), Offset(9)).unwrap();
    assert_eq!(again, expected);
}

/// Consumers pass over what a producer wrote from an aborted transaction up to its marker.
#[test]
fn the_marker_of_an_aborted_transaction_is_put_back() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &transactional(7, 0, 2));
    append(&mut log, &plain(3, NOW.0));
    let damaged = log.size();
    append(&mut log, &marker(7, 0));
    append(&mut log, &plain(2, NOW.0));
    let sound = log.size();
    append(&mut log, &transactional(7, 2, 2));
    append(&mut log, &marker(7, 1));
    let end = log.close().unwrap();
    let path = FileKind::Log.path(Path::new(PARTITION), Offset(0));
    let before = read_whole(&files, &path, 1 << 20).unwrap().unwrap();
    // From the middle of the first records to the middle of the last before the sound ones.
    overwrite(&files, &path, damaged - 100, &[0xA5; 90]);
    overwrite(&files, &path, damaged + 20, &[0xA5; 90]);
    let (_, log) = repaired(&files, end);
    let after = read_all(&log, Offset(0));
    let heads: Vec<_> = split_batches(&after)
        .map(|batch| *batch.unwrap().header())
        .map(|head| {
            (
                head.base_offset,
                head.last_offset().0,
                head.record_count,
                head.is_control(),
            )
        })
        .collect();
    assert_eq!(
        heads,
        [
            (0, 1, 2, false),
            (2, 4, 0, false),
            (5, 5, 1, true),
            (6, 7, 0, false),
            (8, 9, 2, false),
            (10, 10, 1, true)
        ]
    );
    assert!(after.ends_with(&before[usize::try_from(sound).unwrap()..]));
    let marker = split_batches(&after).nth(2).unwrap().unwrap();
    let header = marker.header();
    assert_eq!((header.producer_id, header.producer_epoch), (7, 0));
    let record = marker.plain_records().unwrap().next().unwrap().unwrap();
    let record = ControlRecord::decode(record.key, record.value).unwrap();
    assert_eq!(record.control_type(), ControlType::Abort);
    assert_eq!(
        log.aborted_transactions(Offset(0), Offset(11))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(log.open_transaction(ProducerId(7)), None);
}

#[test]
fn offsets_that_are_lost_are_not_given_out_again() {
    let (files, batches) = written();
    let (base, position, _) = &batches[28];
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    files
        .open(&path, Open::Write)
        .unwrap()
        .truncate(*position)
        .unwrap();
    let steps = plan(&verified(&files));
    let lost = Step::KeepEnd {
        from: Offset(84),
        to: END,
    };
    assert!(steps.contains(&lost), "{steps:?}");
    repair(&files, "a shorter log");
    let mut log = open(&files, true);
    assert_eq!(append(&mut log, &plain(1, NOW.0)).first_offset, END);
}

#[test]
fn a_torn_tail_goes_and_leaves_nothing() {
    let (files, batches) = written();
    let (base, position, bytes) = batches.last().unwrap();
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    let length = position + bytes.len() as u64;
    overwrite(&files, &path, length, &bytes[..bytes.len() - 1]);
    repair(&files, "a torn tail");
    let log = read_whole(&files, &path, 1 << 20).unwrap().unwrap();
    assert_eq!(log.len() as u64, length);
    assert!(split_batches(&log).all(|batch| batch.unwrap().is_crc_valid()));
}

#[test]
fn nothing_is_repaired_while_a_compaction_waits_to_be_ended() {
    let (files, batches) = written();
    let path = FileKind::Log.path(Path::new(PARTITION), Offset(0));
    overwrite(&files, &path, batches[0].1 + 8, &[0xFF; 4]);
    let steps = plan(&verified(&files));
    let swap = Path::new(PARTITION).join("00000000000000000099.log.swap");
    files.open(&swap, Open::Create).unwrap();
    let refused = carry_out(&files, Path::new(PARTITION), &steps, NOW).unwrap_err();
    assert!(refused.to_string().contains("start the broker once"));
}
