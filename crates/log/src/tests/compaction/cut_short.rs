//! Passes of compaction that end early: stopped, overtaken, or failed by the disk. The log stays as it was, or whole.

use super::super::fixture::*;
use super::{AMPLE, PARTITION, compacted, newest, pass, put, settle, tools, try_pass, visible};
use crate::compaction::{CompactionError, REPLACEMENT};
use crate::files::{Files, Operation};
use crate::{Left, StorageError};
use ottla_protocol::ids::Offset;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;

#[test]
fn a_pass_overtaken_by_retention_or_truncation_changes_nothing() {
    for truncates in [true, false] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..40 {
            let value = format!("value {round}");
            put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let mut tools = tools(AMPLE);
        let mut pace = |_| ControlFlow::Continue(());
        let mut pass = log.begin_compaction(NOW).unwrap();
        pass.index(&mut tools, &mut pace).unwrap();
        let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
        if truncates {
            log.truncate_to(Offset(70), NOW).unwrap();
        } else {
            log.delete_records(Some(Offset(70)), NOW).unwrap();
        }
        let before = read_all(&log, log.log_start_offset());
        let replaced = log.replace_segments(rewritten);
        assert!(matches!(replaced, Err(CompactionError::Changed)));
        assert_eq!(read_all(&log, log.log_start_offset()), before);
        let names = files.list(Path::new(PARTITION)).unwrap();
        assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
        log.directory().ensure_online().unwrap();
    }
}

#[test]
fn a_pass_can_be_stopped_at_any_byte_and_the_next_does_it_all() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..20 {
        let value = format!("value {round}");
        put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
    }
    settle(&mut log).unwrap();
    let before = visible(&log);
    for limit in 0..25 {
        let mut tools = tools(AMPLE);
        let mut left = limit;
        let mut pace = |_| {
            left -= 1;
            if left < 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let mut pass = log.begin_compaction(NOW).unwrap();
        let outcome = pass
            .index(&mut tools, &mut pace)
            .and_then(|()| pass.rewrite_next(&mut tools, &mut pace));
        assert!(matches!(outcome, Err(CompactionError::Stopped)), "{limit}");
        assert_eq!(visible(&log), before);
    }
    pass(&mut log, NOW);
    assert_eq!(visible(&log), newest(&before, 40));
}

#[test]
fn a_full_disk_ends_a_pass_and_nothing_else() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    for round in 0..20 {
        let value = format!("value {round}");
        put(
            &mut log,
            &[("a", Some(&value)), (&format!("key {round}"), Some("x"))],
        );
    }
    settle(&mut log).unwrap();
    let before = visible(&log);
    let used: u64 = {
        let entries = files.list(Path::new(PARTITION)).unwrap();
        let paths = entries
            .iter()
            .map(|entry| Path::new(PARTITION).join(&entry.name));
        let length = |path: std::path::PathBuf| files.status(&path).unwrap().unwrap().length;
        paths.map(length).sum()
    };
    let mut refused = 0;
    for free in (0..1500).step_by(50) {
        files.limit_space(Some(used + free));
        match try_pass(&mut log, AMPLE, NOW) {
            Err(CompactionError::Storage(StorageError::Full { .. })) => refused += 1,
            outcome => assert!(outcome.is_ok(), "{outcome:?}"),
        }
        log.directory().ensure_online().unwrap();
        let seen = visible(&log);
        assert!(
            newest(&before, 40)
                .iter()
                .all(|record| seen.contains(record))
        );
        let names = files.list(Path::new(PARTITION)).unwrap();
        assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
    }
    assert!(refused > 2, "{refused}");
    files.limit_space(None);
    try_pass(&mut log, AMPLE, NOW).unwrap();
    assert_eq!(visible(&log), newest(&before, 40));
}

#[test]
fn a_replacement_that_a_full_disk_cuts_short_takes_the_directory_offline() {
    for (operation, nth) in [
        (Operation::Rename, 2),
        (Operation::Remove, 1),
        (Operation::Remove, 3),
        (Operation::Rename, 5),
    ] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..20 {
            let value = format!("value {round}");
            put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let before = visible(&log);
        let recovery_point = log.recovery_point();
        let mut tools = tools(AMPLE);
        let mut pace = |_| ControlFlow::Continue(());
        let mut pass = log.begin_compaction(NOW).unwrap();
        pass.index(&mut tools, &mut pace).unwrap();
        let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
        files.fail_nth(operation, nth, ErrorKind::StorageFull);
        let replaced = log.replace_segments(rewritten);
        assert!(
            matches!(
                replaced,
                Err(CompactionError::Storage(StorageError::Offline { .. }))
            ),
            "{operation:?} {nth}: {replaced:?}"
        );
        // What is half done is left to the start.
        drop((pass, log));
        let left = Left {
            recovery_point,
            ..Left::default()
        };
        let (mut log, recovery) = open_as(&files.process_killed(), compacted(), left);
        assert_eq!(recovery.cut_off, None);
        try_pass(&mut log, AMPLE, NOW).unwrap();
        assert_eq!(visible(&log), newest(&before, 40), "{operation:?} {nth}");
    }
}

#[test]
fn a_pass_ends_when_it_cannot_remove_what_it_wrote_in_vain() {
    let files = new_disk();
    let mut log = new_log(&files, compacted());
    let large = "x".repeat(1000);
    for key in ["a", "b"] {
        put(&mut log, &[(key, Some(&large))]);
        settle(&mut log).unwrap();
    }
    files.fail_nth(Operation::Remove, 1, ErrorKind::StorageFull);
    let outcome = try_pass(&mut log, AMPLE, NOW);
    assert!(
        matches!(
            outcome,
            Err(CompactionError::Storage(StorageError::Full { .. }))
        ),
        "{outcome:?}"
    );
    assert!(try_pass(&mut log, AMPLE, NOW).unwrap().is_some());
    let names = files.list(Path::new(PARTITION)).unwrap();
    assert!(names.iter().all(|entry| !entry.name.ends_with(".cleaned")));
}

#[test]
fn a_pass_that_is_given_up_leaves_no_word_of_a_replacement() {
    for replaces in [true, false] {
        let files = new_disk();
        let mut log = new_log(&files, compacted());
        for round in 0..40 {
            let value = format!("value {round}");
            put(&mut log, &[("a", Some(&value)), ("b", Some(&value))]);
        }
        settle(&mut log).unwrap();
        let mut tools = tools(AMPLE);
        let mut pace = |_| ControlFlow::Continue(());
        let mut pass = log.begin_compaction(NOW).unwrap();
        pass.index(&mut tools, &mut pace).unwrap();
        let rewritten = pass.rewrite_next(&mut tools, &mut pace).unwrap().unwrap();
        let word = Path::new(PARTITION).join(REPLACEMENT);
        assert!(files.status(&word).unwrap().is_some());
        if replaces {
            log.replace_segments(rewritten).unwrap();
            pass.sync_names().unwrap();
        } else {
            log.truncate_to(Offset(70), NOW).unwrap();
            assert!(log.replace_segments(rewritten).is_err());
        }
        drop(pass);
        assert_eq!(files.status(&word).unwrap(), None);
    }
}
