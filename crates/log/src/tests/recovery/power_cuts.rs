//! Power cuts at any change of a workload: what was flushed is there, and indexes and producers agree with the batches.

use super::super::fixture::*;
use super::{PARTITION, last_batches, unclean};
use crate::checkpoint::{
    LEADER_EPOCHS, PartitionOffsets, RECOVERY_POINTS, read_offsets, write_offsets,
};
use crate::files::Files;
use crate::files::simulated::Simulated;
use crate::format::FileKind;
use crate::{Bound, Left, PartitionLog, TimeQuery};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchView, split_batches};
use std::path::Path;

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
