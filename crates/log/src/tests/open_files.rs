//! Logs with more files than may be open: the bound holds, and nothing is lost.

use super::fixture::*;
use super::syncs::assert_survives_power_cuts;
use crate::files::Files;
use crate::files::simulated::Simulated;
use crate::{Left, LogDirectory, OpenFiles, OpenLog, PartitionLog};
use ottla_protocol::ids::Offset;
use std::path::Path;
use std::sync::Arc;

pub(super) fn directory_with_open_files(
    files: &Simulated,
    limit: usize,
) -> Arc<LogDirectory<Simulated>> {
    LogDirectory::sharing(files.clone(), ROOT, Arc::new(OpenFiles::new(limit)))
}

pub(super) fn small_log_in(
    directory: &Arc<LogDirectory<Simulated>>,
    name: &str,
) -> PartitionLog<Simulated> {
    let open = OpenLog {
        directory: Arc::clone(directory),
        name: name.to_owned(),
        config: small_segments(),
        topic_id: None,
        left: Left::default(),
    };
    PartitionLog::open(open, NOW, &mut |_| {}).unwrap().0
}

#[test]
fn only_a_bounded_number_of_files_stays_open() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 5);
    let mut log = small_log_in(&directory, "t-0");
    for _ in 0..200 {
        append(&mut log, &plain(3, NOW.0));
    }
    assert!(log.segment_count() > 20);
    read_all(&log, Offset(0));
    assert!(files.open_handles() <= 5, "{}", files.open_handles());
    assert!(files.list(Path::new("/data/t-0")).unwrap().len() > 60);
}

#[test]
fn however_many_segments_are_dirty_few_files_are_open_to_sync_them() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 3);
    let mut log = small_log_in(&directory, "topic-0");
    let append_many = |log: &mut PartitionLog<Simulated>| {
        for _ in 0..200 {
            append(log, &plain(1, NOW.0));
        }
    };
    append_many(&mut log);
    assert!(log.segment_count() > 15);
    let flush = log.begin_flush().unwrap().unwrap();
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
    flush.run().unwrap();
    log.complete_flush(&flush);
    assert_survives_power_cuts(&files, Offset(200));
    let checkpoint = log.begin_checkpoint().unwrap().unwrap();
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
    checkpoint.run().unwrap();
    assert_eq!(log.complete_checkpoint(&checkpoint), Offset(200));
    append_many(&mut log);
    let close = log.begin_close().unwrap();
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
    close.run().unwrap();
    assert_eq!(close.end().offset, Offset(400));
    assert_survives_power_cuts(&files, Offset(400));
}

#[test]
fn many_partitions_share_few_open_files_and_lose_nothing() {
    let files = new_disk();
    let directory = directory_with_open_files(&files, 3);
    let mut logs: Vec<_> = (0..20)
        .map(|number| small_log_in(&directory, &format!("t-{number}")))
        .collect();
    for _ in 0..30 {
        for log in &mut logs {
            append(log, &plain(3, NOW.0));
            assert!(files.open_handles() <= 3, "{}", files.open_handles());
        }
    }
    for log in &mut logs {
        log.flush().unwrap();
        assert_eq!(log.flushed_offset(), Offset(90));
        assert_eq!(summary(&read_all(log, Offset(0))).len(), 30);
    }
    assert!(files.open_handles() <= 3, "{}", files.open_handles());
}
