//! Reads that are planned without waiting for the disk.

use super::fixture::{
    NOW, append, marker, new_disk, new_log, plain, reopen, small_segments, transactional,
};
use crate::files::{File, Operation};
use crate::{Bound, FirstBatch, PartitionLog, ReadPlan, ReadRequest};
use ottla_protocol::ids::Offset;

type Disk = crate::files::simulated::Simulated;

/// A page of the index, one of heads, and one of the index of aborted transactions; and twice as many for luck.
const MOST_TRIES: usize = 6;

fn request(offset: Offset) -> ReadRequest {
    ReadRequest {
        offset,
        max_bytes: 300,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::LastStableOffset,
    }
}

/// Plans as a caller does that has loaded what is missing; also how often that was.
fn plan_by_loading(log: &PartitionLog<Disk>, offset: Offset) -> (ReadPlan<Disk>, usize) {
    for tries in 0..MOST_TRIES {
        let plan = log.read_cached(&request(offset)).unwrap();
        let Some(missing) = &plan.missing else {
            return (plan, tries);
        };
        assert_eq!((plan.length, plan.first_batch_size), (0, 0));
        missing
            .file
            .prefetch(missing.position, missing.length as u64);
    }
    panic!("the look at offset {offset} goes on missing something");
}

/// Several closed segments, with an aborted transaction in the second.
fn filled(files: &Disk) -> PartitionLog<Disk> {
    let mut log = new_log(files, small_segments());
    for round in 0..30 {
        append(&mut log, &plain(3, NOW.0));
        if round == 5 {
            append(&mut log, &transactional(7, 0, 2));
            append(&mut log, &marker(7, 0));
        }
    }
    let end = log.log_end_offset();
    log.flush().unwrap();
    log.close().unwrap();
    let mut log = reopen(files, small_segments(), end);
    log.set_high_watermark(end).unwrap();
    log
}

#[test]
fn a_cold_plan_waits_for_no_disk_and_names_what_it_needs() {
    let files = new_disk();
    let log = filled(&files);
    let (mut loaded, mut aborted) = (0, 0);
    for offset in 0..log.log_end_offset().0 {
        let offset = Offset(offset);
        files.forget_all_cached();
        let before = files.count(Operation::Read);
        let plan = log.read_cached(&request(offset)).unwrap();
        assert!(plan.missing.is_some());
        assert_eq!(
            files.count(Operation::Read),
            before,
            "it read from the disk"
        );

        let (cold, tries) = plan_by_loading(&log, offset);
        let warm = log.read(&request(offset)).unwrap();
        let what = |plan: &ReadPlan<Disk>| (plan.position, plan.length, plan.first_batch_size);
        assert_eq!(what(&cold), what(&warm), "offset {offset}");
        assert_eq!(cold.aborted, warm.aborted, "offset {offset}");
        loaded += tries;
        aborted += warm.aborted.map_or(0, |aborted| aborted.len());
    }
    assert!(loaded > 0 && aborted > 0);
    assert!(log.directory().failure().is_none());
}

#[test]
fn a_reader_at_the_tail_needs_nothing_loaded() {
    let files = new_disk();
    let mut log = filled(&files);
    let offset = log.log_end_offset();
    append(&mut log, &plain(1, NOW.0));
    log.set_high_watermark(log.log_end_offset()).unwrap();
    let plan = log.read_cached(&request(offset)).unwrap();
    assert!(plan.missing.is_none() && plan.length > 0);
}

#[test]
fn a_plan_names_where_the_records_end_that_never_change() {
    let files = new_disk();
    let mut log = filled(&files);
    let committed = log.log_end_offset();
    for _ in 0..30 {
        append(&mut log, &plain(3, NOW.0));
    }
    let plan = |log: &PartitionLog<Disk>, offset| {
        let everything = ReadRequest {
            bound: Bound::LogEnd,
            ..request(offset)
        };
        log.read(&everything).unwrap()
    };
    let closed = plan(&log, Offset(0));
    let length = closed.file().unwrap().length().unwrap();
    assert_eq!(closed.committed_end, length, "a whole segment");
    let first_uncommitted = plan(&log, committed);
    assert_eq!(first_uncommitted.committed_end, first_uncommitted.position);
    let last = plan(&log, log.log_end_offset().plus(-1));
    assert_eq!(last.committed_end, 0, "a segment above the high watermark");
    log.set_high_watermark(log.log_end_offset()).unwrap();
    let length = last.file().unwrap().length().unwrap();
    let last = plan(&log, log.log_end_offset().plus(-1));
    assert_eq!(last.committed_end, length);
}

#[test]
fn a_truncated_file_is_opened_again() {
    let files = new_disk();
    let mut log = filled(&files);
    let end = log.log_end_offset();
    let last = request(end.plus(-1));
    let before = log.read(&last).unwrap();
    log.truncate_to(end.plus(-3), NOW).unwrap();
    append(&mut log, &plain(3, NOW.0));
    log.set_high_watermark(log.log_end_offset()).unwrap();
    let after = log.read(&last).unwrap();
    assert_eq!(before.position, after.position);
    let (before, after) = (before.file().unwrap(), after.file().unwrap());
    assert!(!std::sync::Arc::ptr_eq(before, after));
}
