//! What is left after a crash: every synced record, no torn one, and indexes and producers' state that agree with it.

mod cut_off;
mod power_cuts;
mod transactions;

use super::fixture::*;
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open, read_whole};
use crate::format::FileKind;
use crate::{Left, LogConfig, OpenError, PartitionLog, TimeQuery};
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::{BatchBuilder, BatchOptions};
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
            reads < 140,
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
