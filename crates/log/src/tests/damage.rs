//! One damaged batch, at any place and in any field: the log opens, keeps its end and all bytes, and refuses reads of
//! the damaged batch's offsets and of no others.

mod appending;

use super::fixture::*;
use crate::checkpoint::LEADER_EPOCHS;
use crate::damage::{Damage, Met, Salvage};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, read_whole};
use crate::format::FileKind;
use crate::scan::Scan;
use crate::{Bound, FirstBatch, Left, LogConfig, ReadError, ReadRequest, StorageError, TimeQuery};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::split_batches;
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;
use std::path::Path;

pub(super) const PARTITION: &str = "/data/topic-0";

pub(super) const END: Offset = Offset(90);

/// 30 batches of 3 records, in segments of several batches; batch n is of the timestamps from NOW + 10 n.
pub(super) fn written() -> (Simulated, Vec<(Offset, u64, Vec<u8>)>) {
    let files = new_disk();
    let mut log = new_log(&files, config());
    for number in 0..30 {
        append(&mut log, &idempotent_at(number));
    }
    let mut batches = Vec::new();
    for base in log.segments().bases() {
        let path = FileKind::Log.path(Path::new(PARTITION), base);
        let file = files.open(&path, Open::Read).unwrap();
        let length = file.length().unwrap();
        let mut scan = Scan::new(&file, 0, length);
        while let Some((located, batch)) = scan.next_batch().unwrap() {
            batches.push((base, located.position, batch.bytes().to_vec()));
        }
    }
    assert_eq!(batches.len(), 30);
    assert_eq!(log.close().unwrap(), END);
    (files, batches)
}

pub(super) fn config() -> LogConfig {
    small_segments()
}

pub(super) fn idempotent_at(number: i32) -> Vec<u8> {
    let options = ottla_protocol::records::BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: number * 3,
        ..ottla_protocol::records::BatchOptions::default()
    };
    batch(options, 3, NOW.0 + 10 * i64::from(number))
}

pub(super) fn overwrite(files: &Simulated, path: &Path, position: u64, bytes: &[u8]) {
    let file = files.open(path, Open::Write).unwrap();
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

/// Ways to damage a batch: the position in it, and the bytes.
pub(super) fn injuries(size: usize) -> Vec<(&'static str, usize, Vec<u8>)> {
    vec![
        ("a huge length", 8, vec![0x7F, 0xFF, 0xFF, 0xFF]),
        ("a negative length", 8, vec![0xFF; 4]),
        ("no length", 8, vec![0; 4]),
        ("a length that is a little too large", 11, vec![0xFE]),
        ("an unknown format", 16, vec![9]),
        ("the format of Kafka 0.10", 16, vec![1]),
        ("a huge offset", 0, vec![0x40]),
        ("an offset that is too large", 7, vec![200]),
        ("an offset that is too small", 0, vec![0; 8]),
        ("a negative offset", 0, vec![0x80]),
        ("a negative last offset", 23, vec![0x80]),
        ("a larger last offset", 26, vec![9]),
        ("a wrong checksum", 17, vec![0x55, 0x66]),
        ("a flipped byte in its body", size - 3, vec![0xA5]),
        ("zeros for a head", 0, vec![0; 61]),
        ("zeros", 0, vec![0; size]),
    ]
}

fn request(offset: Offset) -> ReadRequest {
    ReadRequest {
        offset,
        max_bytes: 1 << 20,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LogEnd,
    }
}

/// Everything that a scrub would find.
fn scrub(log: &Log) -> Vec<Damage> {
    let mut found = Vec::new();
    for segment in log.segments().iter() {
        let file = segment.file(log.segments().place()).unwrap();
        let offsets = segment.base..log.bound_of(segment.base);
        let mut walk = Salvage::new(&*file, segment.base, 0..segment.size, offsets);
        while let Some(met) = walk.advance().unwrap() {
            if let Met::Damage(damage) = met {
                found.push(damage);
            }
        }
    }
    found
}

/// Reads at every offset, where batch `hurt` is damaged: its offsets may be refused, all others must be there.
fn read_around(log: &Log, batches: &[(Offset, u64, Vec<u8>)], hurt: usize, what: &str) {
    for offset in 0..END.0 {
        let number = usize::try_from(offset / 3).unwrap();
        match log.read(&request(Offset(offset))) {
            Err(ReadError::Storage(StorageError::Damaged { damage, .. })) => {
                assert_eq!(number, hurt, "{offset} is refused, {what}: {damage}");
                let first = i64::try_from(hurt).unwrap() * 3;
                let range = (damage.first_offset.0, damage.next_offset.0);
                assert_eq!(range, (first, first + 3), "{what}: {damage}");
            }
            Err(error) => panic!("{offset}, {what}: {error}"),
            Ok(plan) => {
                let mut bytes = Vec::new();
                plan.read(&mut bytes).unwrap();
                if number != hurt {
                    let expected = &batches[number].2;
                    assert!(bytes.starts_with(expected), "{offset}, {what}");
                }
                let wrong = split_batches(&bytes).map_while(Result::ok).enumerate();
                for (behind, batch) in wrong.filter(|(_, batch)| batch.is_crc_valid()) {
                    let expected = &batches[number + behind].2;
                    let has_offset = number + behind == hurt;
                    assert!(has_offset || batch.bytes() == expected, "{offset}, {what}");
                }
            }
        }
    }
}

#[test]
fn one_damaged_batch_takes_its_own_offsets_and_nothing_else() {
    let (whole, batches) = written();
    let last_segment = batches.last().unwrap().0;
    for hurt in 0..batches.len() {
        let (base, position, bytes) = &batches[hurt];
        let path = FileKind::Log.path(Path::new(PARTITION), *base);
        for (what, at, injury) in injuries(bytes.len()) {
            for is_clean in [true, false] {
                if bytes[at..].starts_with(&injury) {
                    continue;
                }
                let what = format!("batch {hurt} has {what}, clean stop: {is_clean}");
                let files = whole.process_killed();
                overwrite(&files, &path, position + at as u64, &injury);
                let before = read_whole(&files, &path, 1 << 20).unwrap();
                let left = Left {
                    is_clean,
                    recovery_point: END,
                    ..Left::default()
                };
                let (mut log, recovery) = open_as(&files, config(), left);
                assert_eq!(log.log_end_offset(), END, "{what}");
                assert_eq!(recovery.cut_off, None, "{what}");
                let after = read_whole(&files, &path, 1 << 20).unwrap();
                assert_eq!(before, after, "{what}");
                // Below the recovery point only the end is read; a wrong offset is all that a reader may not notice.
                let is_seen = !what.contains("offset that is too");
                if is_seen {
                    read_around(&log, &batches, hurt, &what);
                }
                if *base == last_segment && hurt + 1 == batches.len() && !is_clean {
                    assert_eq!(recovery.damage.len(), 1, "{what}");
                }
                for damage in scrub(&log) {
                    log.note_damage(damage);
                }
                let known: Vec<_> = log.known_damage().collect();
                assert_eq!(known.len(), 1, "{what}: {known:?}");
                read_around(&log, &batches, hurt, &what);
                let first = Offset(i64::try_from(hurt).unwrap() * 3);
                let refused = log.read(&request(first));
                assert!(refused.is_err(), "{what}");
                if let Some(before) = hurt.checked_sub(1) {
                    // A read that begins before it ends before it.
                    let plan = log.read(&request(first.plus(-1))).unwrap();
                    let (base, position, bytes) = &batches[before];
                    assert_eq!(plan.position, *position, "{what}");
                    let is_last = *base != batches[hurt].0;
                    assert!(is_last || plan.length == bytes.len(), "{what}");
                }
                // Appends work as without damage.
                let appended = append(&mut log, &idempotent_at(30));
                assert_eq!(appended.first_offset, END, "{what}");
                log.flush().unwrap();
                let bytes = read_all(&log, END);
                assert_eq!(summary(&bytes), [(90, 3)], "{what}");
            }
        }
    }
}

#[test]
fn a_wrong_offset_within_its_segment_is_told_by_the_batch_behind() {
    let (whole, batches) = written();
    for hurt in [1, 2, 3] {
        let (base, position, bytes) = &batches[hurt];
        let path = FileKind::Log.path(Path::new(PARTITION), *base);
        let files = whole.process_killed();
        overwrite(&files, &path, position + 7, &[bytes[7] + 4]);
        let mut log = reopen(&files, config(), END);
        let what = format!("the offset of batch {hurt} is wrong");
        read_around(&log, &batches, hurt, &what);
        for damage in scrub(&log) {
            log.note_damage(damage);
        }
        assert_eq!(log.known_damage().count(), 1);
        read_around(&log, &batches, hurt, &what);
    }
}

#[test]
fn damage_at_the_end_keeps_its_offsets_though_nothing_follows() {
    let (files, batches) = written();
    let (base, position, bytes) = batches.last().unwrap();
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    overwrite(&files, &path, *position, &vec![0; bytes.len()]);
    for recovery_point in [88, 90, 95] {
        let files = files.process_killed();
        let left = Left {
            recovery_point: Offset(recovery_point),
            ..Left::default()
        };
        let (mut log, _) = open_as(&files, config(), left);
        assert_eq!(log.log_end_offset(), Offset(recovery_point));
        append(&mut log, &plain(1, NOW.0));
        log.flush().unwrap();
        let end = log.close().unwrap();
        let log = reopen(&files, config(), end);
        assert_eq!(
            summary(&read_all(&log, Offset(recovery_point))),
            [(recovery_point, 1)]
        );
        assert!(log.read(&request(Offset(87))).is_err());
    }
}

#[test]
fn what_is_damaged_from_the_recovery_point_on_is_cut_off_as_before() {
    let (whole, batches) = written();
    let (base, position, _) = &batches[20];
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    for (recovery_point, end, kept) in [(0, 60, 0), (60, 60, 0), (61, 61, 1), (63, 90, 1)] {
        let files = whole.process_killed();
        overwrite(&files, &path, position + 8, &[0xFF; 4]);
        let left = Left {
            recovery_point: Offset(recovery_point),
            ..Left::default()
        };
        let (log, recovery) = open_as(&files, config(), left);
        let what = format!("recovery point {recovery_point}: {recovery:?}");
        assert_eq!(log.log_end_offset(), Offset(end), "{what}");
        assert_eq!(recovery.cut_off.is_some(), end < 90, "{what}");
        assert_eq!(recovery.damage.len(), kept, "{what}");
    }
}

/// By its header alone the log ended earlier, and offsets were used again.
#[test]
fn a_last_batch_that_says_less_than_it_has_keeps_its_offsets() {
    for is_clean in [true, false] {
        let (files, batches) = written();
        let (base, position, _) = &batches[29];
        let path = FileKind::Log.path(Path::new(PARTITION), *base);
        overwrite(&files, &path, position + 26, &[0]);
        let left = Left {
            is_clean,
            recovery_point: END,
            ..Left::default()
        };
        let (mut log, recovery) = open_as(&files, config(), left);
        assert_eq!(recovery.damage.len(), 1);
        assert_eq!(append(&mut log, &plain(1, NOW.0)).first_offset, END);
        read_around(&log, &batches, 29, "a smaller last offset");
    }
}

#[test]
fn an_index_that_lies_hides_nothing() {
    let (whole, batches) = written();
    let bases: Vec<Offset> = batches.iter().map(|(base, ..)| *base).collect();
    for base in [bases[0], bases[10], bases[29]] {
        let path = FileKind::OffsetIndex.path(Path::new(PARTITION), base);
        for (position, bytes) in [
            (0, vec![0; 16]),
            (0, vec![0, 0, 0, 2, 0, 0, 0x03, 0x00]),
            (0, vec![0, 0, 0, 1, 0, 0, 0, 7]),
            (4, vec![0x7F; 4]),
            (0, vec![0xFF; 24]),
        ] {
            for is_clean in [true, false] {
                let files = whole.process_killed();
                overwrite(&files, &path, position, &bytes);
                let left = Left {
                    is_clean,
                    recovery_point: END,
                    ..Left::default()
                };
                let (log, _) = open_as(&files, config(), left);
                let what = format!("segment {base}, {bytes:?} at {position}");
                assert_eq!(log.log_end_offset(), END, "{what}");
                read_around(&log, &batches, usize::MAX, &what);
            }
        }
    }
}

#[test]
fn both_indexes_are_made_anew_where_one_is_missing() {
    let (whole, batches) = written();
    let base = batches[10].0;
    let [offsets, times] = [FileKind::OffsetIndex, FileKind::TimeIndex]
        .map(|kind| kind.path(Path::new(PARTITION), base));
    let expected = [&offsets, &times].map(|path| read_whole(&whole, path, 1 << 20).unwrap());
    for missing in [&offsets, &times] {
        let files = whole.process_killed();
        files.remove(missing).unwrap();
        let log = reopen(&files, config(), END);
        read_around(&log, &batches, usize::MAX, "an index is missing");
        let found = [&offsets, &times].map(|path| read_whole(&files, path, 1 << 20).unwrap());
        assert_eq!(found, expected);
    }
}

#[test]
fn producers_are_followed_over_damage_without_a_snapshot() {
    let (files, batches) = written();
    for entry in files.list(Path::new(PARTITION)).unwrap() {
        if entry.name.ends_with(".snapshot") {
            files
                .remove(&Path::new(PARTITION).join(entry.name))
                .unwrap();
        }
    }
    let (base, position, _) = &batches[7];
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    overwrite(&files, &path, position + 8, &[0xFF; 4]);
    let mut log = reopen(&files, config(), END);
    assert_eq!(log.known_damage().count(), 1);
    let duplicate = append(&mut log, &idempotent_at(29));
    assert_eq!(duplicate.first_offset, Offset(87));
    assert_eq!(
        append(&mut log, &idempotent_at(30)).first_offset,
        Offset(90)
    );
}

#[test]
fn leader_epochs_that_are_missing_or_nonsense_are_learnt_from_the_batches() {
    let (whole, batches) = written();
    let epochs = Path::new(PARTITION).join(LEADER_EPOCHS);
    for content in [
        None,
        Some(&b"0\n2\n1 x\n"[..]),
        Some(b"\xFF\xFE"),
        Some(b""),
    ] {
        for is_clean in [true, false] {
            let files = whole.process_killed();
            files.remove(&epochs).unwrap();
            if let Some(content) = content {
                files.open(&epochs, Open::Create).unwrap();
                overwrite(&files, &epochs, 0, content);
            }
            let (base, position, _) = &batches[3];
            let path = FileKind::Log.path(Path::new(PARTITION), *base);
            overwrite(&files, &path, position + 8, &[0xFF; 4]);
            let left = Left {
                is_clean,
                recovery_point: END,
                ..Left::default()
            };
            let (log, recovery) = open_as(&files, config(), left);
            assert!(recovery.epochs_rebuilt);
            let learnt: Vec<_> = log.leader_epochs().entries().collect();
            assert_eq!(learnt.len(), 1, "{learnt:?}");
            assert_eq!((learnt[0].0.0, learnt[0].1.0), (1, 0));
            let end = log.close().unwrap();
            let (_, recovery) = open_as(
                &files,
                config(),
                Left {
                    recovery_point: end,
                    ..left
                },
            );
            assert!(!recovery.epochs_rebuilt, "it was written down");
        }
    }
}

#[test]
fn a_search_by_time_is_never_answered_later_than_right() {
    let (whole, batches) = written();
    let hurt = [0, 4, 13, 28, 29].into_iter();
    for (hurt, is_clean) in hurt.flat_map(|hurt| [(hurt, true), (hurt, false)]) {
        let (base, position, bytes) = &batches[hurt];
        let path = FileKind::Log.path(Path::new(PARTITION), *base);
        for (what, at, injury) in injuries(bytes.len()) {
            if what.contains("offset that is too") {
                continue;
            }
            let files = whole.process_killed();
            overwrite(&files, &path, position + at as u64, &injury);
            let left = Left {
                is_clean,
                recovery_point: END,
                ..Left::default()
            };
            if !is_clean {
                // A kill leaves no entry for the last batches.
                let times = FileKind::TimeIndex.path(Path::new(PARTITION), *base);
                files.remove(&times).unwrap();
            }
            let (mut log, _) = open_as(&files, config(), left);
            let hurt_at = i64::try_from(hurt).unwrap();
            for number in 0..30 {
                let query = TimeQuery::At(Timestamp(NOW.0 + 10 * number));
                let what =
                    format!("batch {hurt} has {what}, clean: {is_clean}, asked for batch {number}");
                let found = log.offset_at(query).unwrap();
                let found = found.expect(&what);
                assert!(found.offset.0 <= number * 3, "{what}: {found:?}");
                // What the damage cannot hide is found exactly.
                if number < hurt_at || number > hurt_at + 6 {
                    assert_eq!(found.offset.0, number * 3, "{what}");
                }
            }
            // What is known to be damaged may be later than all the rest.
            let after_all = log.offset_at(TimeQuery::At(Timestamp(i64::MAX))).unwrap();
            assert!(
                after_all.is_none_or(|found| found.offset.0 == 87),
                "{what}: {after_all:?}"
            );
            let largest = log.offset_at(TimeQuery::MaxTimestamp).unwrap().unwrap();
            let expected = if hurt_at == 29 { 84..=89 } else { 89..=89 };
            assert!(expected.contains(&largest.offset.0), "{what}: {largest:?}");
        }
    }
}

/// Consumers were sent back to records that they had read long ago.
#[test]
fn a_search_by_time_passes_over_damage_that_the_time_index_rules_out() {
    let (files, batches) = written();
    let mut log = reopen(&files, config(), END);
    let bases: Vec<Offset> = log.segments().bases().collect();
    let (base, position, _) = batches
        .iter()
        .rev()
        .find(|(base, ..)| *base == bases[1])
        .unwrap();
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    overwrite(&files, &path, position + 8, &[0; 4]);
    for damage in scrub(&log) {
        log.note_damage(damage);
    }
    assert_eq!(log.known_damage().count(), 1);
    let found = log
        .offset_at(TimeQuery::At(Timestamp(NOW.0 + 200)))
        .unwrap();
    assert_eq!(found.unwrap().offset, Offset(60));
    assert_eq!(
        log.offset_at(TimeQuery::At(Timestamp(i64::MAX))).unwrap(),
        None
    );
}

#[test]
fn a_segment_that_has_changed_since_it_was_scrubbed_gets_no_damage() {
    let (files, batches) = written();
    let (base, position, bytes) = &batches[9];
    let path = FileKind::Log.path(Path::new(PARTITION), *base);
    overwrite(&files, &path, position + bytes.len() as u64 - 3, &[0xA5]);
    let mut log = reopen(&files, config(), END);
    let scrub = log.segment_to_scrub(*base).unwrap();
    let mut read = 0;
    let found = scrub.run(&mut |bytes| {
        read += bytes;
        std::ops::ControlFlow::Continue(())
    });
    let found = found.unwrap().unwrap();
    assert_eq!(read, log.segments().get(*base).unwrap().size);
    assert_eq!(log.complete_scrub(&scrub, found.clone()), found);
    assert_eq!(log.complete_scrub(&scrub, found.clone()), [], "it is known");
    assert!(log.read(&request(Offset(28))).is_err());
    log.truncate_to(base.plus(3), NOW).unwrap();
    assert_eq!(log.complete_scrub(&scrub, found), []);
    let last = log.segments().active().base;
    assert!(log.segment_to_scrub(last).is_none(), "the active one");
}
