//! What is left after a crash: every synced record, no torn one, and indexes and producers' state that agree with it.

use super::fixture::*;
use crate::checkpoint::{
    LEADER_EPOCHS, PartitionOffsets, RECOVERY_POINTS, read_offsets, write_offsets,
};
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, read_whole};
use crate::format::{CUT_OFF_SUFFIX, FileKind};
use crate::{
    Bound, FirstBatch, Left, LogConfig, LogDirectory, OpenError, OpenLog, PartitionLog,
    ReadRequest, TimeQuery,
};
use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, split_batches};
use ottla_protocol::time::Timestamp;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

const PARTITION: &str = "/data/topic-0";

fn log_path(base: i64) -> PathBuf {
    FileKind::Log.path(Path::new(PARTITION), Offset(base))
}

fn unclean(recovery_point: Offset) -> Left {
    Left {
        recovery_point,
        ..Left::default()
    }
}

#[test]
fn a_log_torn_at_any_byte_keeps_the_whole_batches_before() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    let mut ends = vec![0];
    for index in 0..4 {
        append(&mut log, &idempotent(1, 0, index * 2, 2));
        ends.push(log.size());
    }
    let whole = read_all(&log, Offset(0));
    let length = log.size();
    for cut in 0..=length {
        let files = files.process_killed();
        files
            .open(&log_path(0), Open::Write)
            .unwrap()
            .truncate(cut)
            .unwrap();
        let (log, recovery) = open_as(&files, LogConfig::default(), Left::default());
        let kept = ends.iter().filter(|end| **end <= cut).max().unwrap();
        assert_eq!(log.size(), *kept);
        assert_eq!(
            read_all(&log, Offset(0)),
            whole[..usize::try_from(*kept).unwrap()]
        );
        assert_eq!(recovery.cut_off.is_some(), *kept != cut);
        assert_eq!(log.flushed_offset(), log.log_end_offset());
    }
}

#[test]
fn a_damaged_byte_ends_the_log_there_and_what_follows_is_kept_aside() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    let mut ends = Vec::new();
    for _ in 0..3 {
        append(&mut log, &plain(2, NOW.0));
        ends.push(log.size());
    }
    let whole = read_all(&log, Offset(0));
    // Base offset and leader epoch are not under the checksum; a wrong offset is seen by its order.
    for position in (16..61).chain([ends[0] + 30, ends[1] - 1]) {
        let files = files.process_killed();
        let file = files.open(&log_path(0), Open::Write).unwrap();
        let damaged = whole[usize::try_from(position).unwrap()] ^ 0x41;
        file.write_at(&[IoSlice::new(&[damaged])], position)
            .unwrap();
        let (log, recovery) = open_as(&files, LogConfig::default(), Left::default());
        let kept = ends
            .iter()
            .filter(|end| **end <= position)
            .max()
            .copied()
            .unwrap_or(0);
        assert_eq!(log.size(), kept, "damaged at {position}");
        let cut = recovery.cut_off.unwrap();
        assert_eq!((cut.position, cut.bytes), (kept, ends[2] - kept));
        assert_eq!(
            cut.sound_batches,
            ends.iter().filter(|end| **end > position).count() - 1
        );
        let aside = read_whole(&files, &cut.kept_in.unwrap(), 1 << 20)
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&aside);
        assert!(
            text.contains("reason: ") && text.contains(&format!("log-end-offset: {}", cut.end)),
            "{text}"
        );
        let mut expected = whole[usize::try_from(kept).unwrap()..].to_vec();
        expected[usize::try_from(position - kept).unwrap()] = damaged;
        assert!(aside.ends_with(&expected));
    }
}

#[test]
fn recovery_reads_from_the_recovery_point_only() {
    let files = new_disk();
    let config = LogConfig {
        index_interval_bytes: 200,
        ..LogConfig::default()
    };
    let mut log = new_log(&files, config.clone());
    for index in 0..100 {
        append(&mut log, &idempotent(1, 0, index, 1));
    }
    log.flush().unwrap();
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    checkpoint.run().unwrap();
    assert_eq!(log.complete_checkpoint(&checkpoint), Offset(100));
    append(&mut log, &idempotent(1, 0, 100, 1));
    let files = files.process_killed();
    let (log, recovery) = open_as(&files, config.clone(), unclean(Offset(100)));
    assert!(recovery.bytes_read < 600, "{}", recovery.bytes_read);
    assert_eq!(
        (log.log_end_offset(), recovery.cut_off),
        (Offset(101), None)
    );
    assert_eq!(read_all(&log, Offset(0)).len() as u64, log.size());
    let (_, recovery) = open_as(&files.process_killed(), config, unclean(Offset(0)));
    assert_eq!(recovery.bytes_read, log.size());
}

#[test]
fn indexes_that_lie_are_made_anew() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for index in 0..6 {
        append(&mut log, &plain(2, NOW.0 + index));
    }
    let checkpoint_at = log.log_end_offset();
    log.flush().unwrap();
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    checkpoint.run().unwrap();
    log.complete_checkpoint(&checkpoint);
    let expected = read_all(&log, Offset(0));
    let index = FileKind::OffsetIndex.path(Path::new(PARTITION), Offset(0));
    for (position, bytes) in [
        (0, vec![0xFF; 8]),
        (0, vec![0; 64]),
        (4, vec![0, 0, 0, 9]),
        (16, vec![0; 4096]),
    ] {
        let files = files.process_killed();
        let file = files.open(&index, Open::Write).unwrap();
        file.write_at(&[IoSlice::new(&bytes)], position).unwrap();
        let (mut log, _) = open_as(&files, small_segments(), unclean(checkpoint_at));
        assert_eq!(read_all(&log, Offset(0)), expected);
        assert_eq!(read_all(&log, Offset(7)), read_all(&log, Offset(6)));
        assert_eq!(
            log.offset_at(TimeQuery::At(Timestamp(NOW.0 + 5)))
                .unwrap()
                .unwrap()
                .offset,
            Offset(9)
        );
    }
    let files = files.process_killed();
    files.remove(&index).unwrap();
    let (log, recovery) = open_as(
        &files,
        small_segments(),
        Left {
            is_clean: true,
            ..Left::default()
        },
    );
    assert_eq!(
        (recovery.indexes_rebuilt, read_all(&log, Offset(3)).len()),
        (1, expected.len() - expected.len() / 6)
    );
}

/// Those behind a damaged entry were left out without a word, and records that were aborted looked committed.
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
            // The damage stays where the log is cut behind it, and goes with what it is about.
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

/// What a power cut leaves behind the recovery point in the index of aborted transactions, torn and stale entries, must
/// neither be believed nor be taken for damage.
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

#[test]
fn producers_are_followed_from_a_snapshot_within_the_segment() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    let mut recovery_point = Offset(0);
    for sequence in 0..60 {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id: 1,
            producer_epoch: 0,
            base_sequence: sequence,
            ..BatchOptions::default()
        });
        builder.append(NOW.0, None, Some(&vec![1; 1 << 20]), &[]);
        append(&mut log, &builder.build().unwrap());
        if sequence % 10 == 9 {
            recovery_point = checkpoint(&mut log);
        }
    }
    assert_eq!(
        log.segments()
            .snapshots()
            .iter()
            .map(|offset| offset.0)
            .collect::<Vec<_>>(),
        [40, 60]
    );
    let expected = last_batches(&log);
    for recovery_point in [recovery_point, Offset(55), Offset(40), Offset(39)] {
        let files = files.process_killed();
        let (log, _) = open_as(&files, LogConfig::default(), unclean(recovery_point));
        assert_eq!(last_batches(&log), expected);
        let reads = files.count(crate::files::Operation::Read);
        assert_eq!(
            reads < 130,
            recovery_point >= Offset(40),
            "{reads} from {recovery_point}"
        );
    }
}

#[test]
fn the_producer_of_the_batch_in_which_the_log_starts_is_still_known_after_a_crash() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &idempotent(7, 0, 0, 30));
    append(&mut log, &transactional(8, 0, 30));
    log.flush().unwrap();
    log.set_high_watermark(Offset(60)).unwrap();
    for log_start in [17, 45] {
        log.delete_records(Some(Offset(log_start)), NOW).unwrap();
        let left = Left {
            log_start: Offset(log_start),
            ..unclean(Offset(0))
        };
        let (recovered, _) = open_as(&files.process_killed(), LogConfig::default(), left);
        let known: Vec<i64> = recovered
            .producers()
            .producers()
            .iter()
            .map(|(id, entry)| {
                assert_eq!(entry.last_sequence(), 29);
                id.0
            })
            .collect();
        let expected: &[i64] = if log_start < 30 { &[7, 8] } else { &[8] };
        assert_eq!(known, expected, "a log that starts at {log_start}");
        assert!(recovered.open_transaction(ProducerId(8)).is_some());
    }
}

#[test]
fn a_compaction_that_was_cut_short_is_ended() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..30 {
        append(&mut log, &plain(3, NOW.0));
    }
    let expected = read_all(&log, Offset(0));
    let bases: Vec<i64> = log.segments().bases().map(|base| base.0).collect();
    assert!(bases.len() >= 3);
    log.close().unwrap();
    let directory = Path::new(PARTITION);
    // The first two segments were merged into one, which was about to take their place.
    let mut merged = read_whole(&files, &log_path(bases[0]), 1 << 20)
        .unwrap()
        .unwrap();
    merged.extend(
        read_whole(&files, &log_path(bases[1]), 1 << 20)
            .unwrap()
            .unwrap(),
    );
    let swap = directory.join("00000000000000000000.log.swap");
    files
        .open(&swap, Open::Create)
        .unwrap()
        .write_at(&[IoSlice::new(&merged)], 0)
        .unwrap();
    for name in [
        "00000000000000000000.index.deleted",
        "00000000000000000099.log.cleaned",
        "x.checkpoint.deleted",
    ] {
        files.open(&directory.join(name), Open::Create).unwrap();
    }
    let changes = files.changes();
    for cut in 0..15 {
        let files = files.process_killed();
        files.cut_power_after(cut);
        let left = Left {
            is_clean: true,
            ..Left::default()
        };
        drop(try_open(&files, ROOT, small_segments(), left));
        let files = files.process_killed();
        let log = reopen(&files, small_segments(), Offset(90));
        assert_eq!(
            read_all(&log, Offset(0)),
            expected,
            "cut after {cut} of {changes}"
        );
        assert_eq!(log.segment_count(), bases.len() - 1);
        let names = files.list(directory).unwrap();
        let odd: Vec<_> = names
            .iter()
            .filter(|entry| entry.name.matches('.').count() > 1)
            .collect();
        assert_eq!(odd.len(), 1, "{odd:?}");
    }
}

#[test]
fn a_full_disk_does_not_keep_a_log_from_opening() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(2, NOW.0));
    append(&mut log, &plain(2, NOW.0));
    let files = files.process_killed();
    files
        .open(&log_path(0), Open::Write)
        .unwrap()
        .truncate(log.size() - 1)
        .unwrap();
    files.limit_space(Some(0));
    let (log, recovery) = open_as(&files, LogConfig::default(), Left::default());
    assert_eq!(log.log_end_offset(), Offset(2));
    assert_eq!(recovery.cut_off.unwrap().kept_in, None);
}

#[test]
fn records_of_kafka_0_10_are_refused_and_left_alone() {
    let files = new_disk();
    let log = new_log(&files, LogConfig::default());
    drop(log);
    let content = [
        1u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1, b'x',
    ];
    let mut message = vec![0; 8];
    message.extend(i32::try_from(content.len() + 4).unwrap().to_be_bytes());
    message.extend(crc_fast::crc32_iso_hdlc(&content).to_be_bytes());
    message.extend(content);
    files
        .open(&log_path(0), Open::Write)
        .unwrap()
        .write_at(&[IoSlice::new(&message)], 0)
        .unwrap();
    for is_clean in [false, true] {
        let left = Left {
            is_clean,
            ..Left::default()
        };
        let error = try_open(&files, ROOT, LogConfig::default(), left).unwrap_err();
        assert!(
            matches!(error, OpenError::Legacy { position: 0, .. }),
            "{error}"
        );
    }
    assert_eq!(
        read_whole(&files, &log_path(0), 99).unwrap().unwrap(),
        message
    );
}

#[test]
fn a_directory_of_another_topic_is_refused() {
    let files = new_disk();
    drop(new_log(&files, LogConfig::default()));
    let path = Path::new(PARTITION);
    crate::checkpoint::write_topic_id(&files, path, ottla_protocol::ids::Uuid::from_parts(9, 9))
        .unwrap();
    let error = try_open(&files, ROOT, LogConfig::default(), Left::default()).unwrap_err();
    assert!(matches!(error, OpenError::TopicId { .. }), "{error}");
}

/// A workload of everything that changes files; ends early when the power goes. Returns the end of what was flushed,
/// and the log start that was asked for.
fn workload(files: &Simulated) -> Result<(Offset, Offset), (Offset, Offset)> {
    let mut flushed = Offset(0);
    let mut deleted = Offset(0);
    let outcome = (|| -> Result<(), String> {
        let (mut log, _) = try_open(files, ROOT, small_segments(), Left::default())
            .map_err(|error| error.to_string())?;
        let mut sequences = [0; 3];
        for step in 0..40i32 {
            let producer = i64::from(step % 3);
            let sequence = &mut sequences[usize::try_from(producer).unwrap()];
            let bytes = match step {
                _ if producer == 2 && step % 4 == 3 => marker(2, u8::from(step % 8 == 3)),
                _ if producer == 2 => {
                    transactional(2, std::mem::replace(sequence, *sequence + 2), 2)
                }
                _ => idempotent(producer, 0, std::mem::replace(sequence, *sequence + 3), 3),
            };
            let epoch = LeaderEpoch(1 + step / 5);
            log.begin_epoch(epoch);
            try_append_in(epoch, &mut log, &bytes).map_err(|error| error.to_string())?;
            if step % 4 == 1 {
                log.flush().map_err(|error| error.to_string())?;
                flushed = log.flushed_offset();
                log.set_high_watermark(flushed)
                    .map_err(|error| error.to_string())?;
            }
            if step % 9 == 8
                && let Some(checkpoint) =
                    log.begin_checkpoint().map_err(|error| error.to_string())?
            {
                checkpoint.run().map_err(|error| error.to_string())?;
                write_recovery_point(files, log.complete_checkpoint(&checkpoint))?;
            }
            if step == 25 {
                deleted = Offset(10);
                log.delete_records(Some(deleted), NOW)
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    })();
    if outcome.is_ok() {
        Ok((flushed, deleted))
    } else {
        Err((flushed, deleted))
    }
}

fn write_recovery_point(files: &Simulated, offset: Offset) -> Result<(), String> {
    let offsets = PartitionOffsets::from([(("topic".to_owned(), 0), offset)]);
    write_offsets(files, Path::new(ROOT), RECOVERY_POINTS, &offsets)
        .map_err(|error| error.to_string())
}

fn read_recovery_point(files: &Simulated) -> Offset {
    let offsets = read_offsets(files, Path::new(ROOT), RECOVERY_POINTS).unwrap();
    offsets
        .get(&("topic".to_owned(), 0))
        .copied()
        .unwrap_or_default()
}

/// The leader epochs and where each but the first begins: deleted records move the first one's start, durably or not.
fn epoch_starts(log: &PartitionLog<Simulated>) -> Vec<(LeaderEpoch, Option<Offset>)> {
    let entries = log.leader_epochs().entries().enumerate();
    entries
        .map(|(index, (epoch, start))| (epoch, Some(start).filter(|_| index > 0)))
        .collect()
}

/// Opens after a crash, and compares with a log of the same batches whose indexes and snapshots were all lost.
fn open_and_compare(files: &Simulated, what: &str) -> PartitionLog<Simulated> {
    let (mut log, _) = open_as(files, small_segments(), unclean(read_recovery_point(files)));
    let bytes = read_all(&log, log.log_start_offset());
    let mut expected = None;
    for batch in split_batches(&bytes) {
        let batch: BatchView<'_> = batch.unwrap();
        assert!(batch.is_crc_valid(), "{what}");
        assert!(
            expected.is_none_or(|expected| batch.header().base_offset() == expected),
            "{what}"
        );
        expected = Some(batch.header().next_offset());
    }
    let bare = files.process_killed();
    for entry in bare.list(Path::new(PARTITION)).unwrap() {
        let kind = FileKind::of_name(&entry.name).map(|(kind, _)| kind);
        if kind.is_some_and(|kind| kind != FileKind::Log) {
            bare.remove(&Path::new(PARTITION).join(entry.name)).unwrap();
        }
    }
    let epochs = Path::new(PARTITION).join(LEADER_EPOCHS);
    if bare.status(&epochs).unwrap().is_some() {
        bare.remove(&epochs).unwrap();
    }
    let left = Left {
        log_start: log.log_start_offset(),
        ..Left::default()
    };
    let (mut anew, _) = open_as(&bare, small_segments(), left);
    assert_eq!(read_all(&anew, anew.log_start_offset()), bytes, "{what}");
    if log.log_start_offset() == Offset(0) {
        // Older batches of a producer may be gone with deleted records, and be remembered by a snapshot.
        assert_eq!(last_batches(&log), last_batches(&anew), "{what}");
    }
    let all = |log: &PartitionLog<Simulated>| {
        log.aborted_transactions(log.log_start_offset(), log.log_end_offset())
    };
    assert_eq!(all(&log).unwrap(), all(&anew).unwrap(), "{what}");
    assert_eq!(
        log.last_stable_offset(),
        anew.last_stable_offset(),
        "{what}"
    );
    assert_eq!(epoch_starts(&log), epoch_starts(&anew), "{what}");
    for query in [
        TimeQuery::MaxTimestamp,
        TimeQuery::At(NOW),
        TimeQuery::Latest(Bound::LastStableOffset),
    ] {
        assert_eq!(
            log.offset_at(query).unwrap(),
            anew.offset_at(query).unwrap(),
            "{what}"
        );
    }
    let offsets = log.log_start_offset().0..log.log_end_offset().0;
    for offset in offsets.step_by(7) {
        assert_eq!(
            read_all(&log, Offset(offset)),
            read_all(&anew, Offset(offset)),
            "{what}"
        );
    }
    log
}

fn last_batches(log: &PartitionLog<Simulated>) -> Vec<String> {
    let entries = log.producers().producers().iter();
    entries
        .map(|(id, entry)| {
            format!(
                "{id} {} {:?} {:?}",
                entry.epoch,
                entry.last_batch(),
                entry.transaction_first_offset
            )
        })
        .collect()
}

#[test]
fn a_power_cut_after_any_change_loses_nothing_that_was_flushed() {
    let total = {
        let files = new_disk();
        let before = files.changes();
        workload(&files).unwrap();
        files.changes() - before
    };
    assert!(total > 100, "{total}");
    for changes in 0..=total {
        let files = new_disk();
        files.cut_power_after(changes);
        let (flushed, deleted) = workload(&files).unwrap_or_else(|so_far| so_far);
        for seed in 0..2 {
            let what = format!("after {changes} changes, seed {seed}");
            let files = files.power_cut(changes * 7 + seed);
            let log = open_and_compare(&files, &what);
            assert!(log.log_end_offset() >= flushed, "{what}");
            assert!(log.log_start_offset() <= deleted, "{what}");
            assert!(log.close().is_ok(), "{what}");
        }
        if changes % 5 == 0 {
            open_and_compare(&files.process_killed(), "killed");
        }
    }
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    let files = new_disk();
    files.cut_power_after(120);
    let (flushed, _) = workload(&files).unwrap_err();
    for seed in 0..5 {
        let files = files.power_cut(seed);
        for changes in 0..40 {
            let files = files.process_killed();
            files.cut_power_after(changes);
            let left = unclean(read_recovery_point_of(&files));
            drop(try_open(&files, ROOT, small_segments(), left));
            let files = files.power_cut(seed + changes);
            let log = open_and_compare(&files, &format!("seed {seed}, after {changes} changes"));
            assert!(log.log_end_offset() >= flushed);
        }
    }
}

fn read_recovery_point_of(files: &Simulated) -> Offset {
    // Reading must not be what the cut hits.
    read_recovery_point(&files.process_killed())
}

#[test]
fn an_error_of_the_disk_while_opening_is_an_error_and_not_a_shorter_log() {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for _ in 0..10 {
        append(&mut log, &plain(3, NOW.0));
    }
    log.flush().unwrap();
    let end = log.log_end_offset();
    for nth in 1..200 {
        let files = files.process_killed();
        files.fail_nth(crate::files::Operation::Read, nth, ErrorKind::Other);
        match try_open(&files, ROOT, small_segments(), Left::default()) {
            Ok((log, recovery)) => {
                assert_eq!((log.log_end_offset(), recovery.cut_off), (end, None));
            }
            Err(OpenError::Storage(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_complete_replacement_takes_its_place_whatever_else_was_left() {
    for litter in [
        "00000000000000000000.timeindex.cleaned",
        "SAME.timeindex.cleaned",
    ] {
        let files = new_disk();
        let mut log = new_log(&files, small_segments());
        for _ in 0..30 {
            append(&mut log, &plain(3, NOW.0));
        }
        let expected = summary(&read_all(&log, Offset(0)));
        let bases: Vec<i64> = log.segments().bases().map(|base| base.0).collect();
        let point = log.close().unwrap();
        // The second segment was replaced, and its sources are gone.
        let directory = Path::new(PARTITION);
        let swap = log_path(bases[1]).with_extension("log.swap");
        files.rename(&log_path(bases[1]), &swap).unwrap();
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            files
                .remove(&kind.path(directory, Offset(bases[1])))
                .unwrap();
        }
        let replacement = format!("0\n{} {}\n", bases[1], bases[2]);
        let file = directory.join("compaction-replacement");
        let file = files.open(&file, Open::Create).unwrap();
        file.write_at(&[IoSlice::new(replacement.as_bytes())], 0)
            .unwrap();
        let litter = litter.replace("SAME", &format!("{:020}", bases[1]));
        files.open(&directory.join(&litter), Open::Create).unwrap();
        let log = reopen(&files, small_segments(), point);
        let found = summary(&read_all(&log, Offset(0)));
        assert_eq!(found, expected, "{litter}");
        assert_eq!(files.status(&directory.join(&litter)).unwrap(), None);
    }
}

#[test]
fn all_that_one_start_cuts_off_is_kept_and_eight_files_of_those_before() {
    let files = new_disk();
    drop(new_log(&files, small_segments()));
    let repaired: Vec<String> = (0..20)
        .map(|place| format!("{place:020}-5-{place}{CUT_OFF_SUFFIX}"))
        .collect();
    for name in &repaired {
        let path = Path::new(PARTITION).join(name);
        files.open(&path, Open::Create).unwrap();
    }
    for start in 0..3 {
        let mut log = new_log(&files, small_segments());
        for _ in 0..100 {
            append(&mut log, &plain(3, NOW.0));
        }
        let later = log.segment_count() - 1;
        assert!(later > 8);
        let file = files.open(&log_path(0), Open::Write).unwrap();
        file.write_at(&[IoSlice::new(&[0x55; 4])], 8).unwrap();
        let directory = LogDirectory::new(files.clone(), ROOT);
        let open = OpenLog {
            directory,
            name: "topic-0".to_owned(),
            config: small_segments(),
            topic_id: None,
            left: Left::default(),
        };
        let now = Timestamp(NOW.0 + 1 + start);
        PartitionLog::open(open, now, &mut |_| {}).unwrap();
        let names = files.list(Path::new(PARTITION)).unwrap();
        let kept = names
            .iter()
            .filter(|entry| entry.name.ends_with(CUT_OFF_SUFFIX));
        let before = if start == 0 { 0 } else { 8 };
        assert_eq!(kept.count(), later + 1 + before + repaired.len());
    }
}
