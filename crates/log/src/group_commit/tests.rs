//! Group commit: its rules one by one, and over a disk whose power goes at any moment.

use super::{GroupCommit, LogId, Wait, flush_logs};
use crate::files::simulated::Simulated;
use crate::planted::{Bug, planting};
use crate::tests::fixture::{
    self, Log, NOW, ROOT, idempotent, new_disk, read_all, small_segments, summary, try_append,
    try_open,
};
use crate::{Left, PartitionLog};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const A: LogId = LogId(1);
const B: LogId = LogId(2);

fn at(ms: u64) -> MonotonicTime {
    MonotonicTime(Duration::from_millis(ms))
}

fn two_logs() -> GroupCommit<&'static str> {
    let mut commit = GroupCommit::new(Duration::from_millis(10));
    commit.add(A, Offset(0));
    commit.add(B, Offset(5));
    commit
}

#[test]
fn one_pass_answers_all_who_waited_when_it_began() {
    let mut commit = two_logs();
    assert_eq!(commit.on_wait(A, Offset(1), "first", at(0)), Wait::Waits);
    assert_eq!(commit.on_wait(A, Offset(2), "second", at(0)), Wait::Waits);
    assert_eq!(
        commit.on_wait(B, Offset(5), "clean", at(0)),
        Wait::Durable("clean")
    );
    assert_eq!(commit.begin_pass(at(0)), Some(BTreeSet::from([A])));
    assert_eq!(commit.on_wait(A, Offset(3), "late", at(1)), Wait::Waits);
    assert_eq!(
        (commit.begin_pass(at(1)), commit.next_due()),
        (None, None),
        "one pass at a time"
    );
    assert_eq!(
        commit.end_pass(&[(A, Offset(2))], at(2)),
        ["first", "second"]
    );
    assert_eq!(commit.next_due(), Some(at(1)));
    assert_eq!(commit.begin_pass(at(2)), Some(BTreeSet::from([A])));
    assert_eq!(commit.end_pass(&[(A, Offset(3))], at(3)), ["late"]);
    assert_eq!((commit.begin_pass(at(99)), commit.next_due()), (None, None));
}

#[test]
fn what_nobody_waits_for_joins_a_pass_or_starts_one_after_the_delay() {
    let mut commit = two_logs();
    commit.on_append(A, Offset(1), at(0));
    assert_eq!(
        (commit.next_due(), commit.begin_pass(at(9))),
        (Some(at(10)), None)
    );
    commit.on_append(A, Offset(2), at(8));
    assert_eq!(commit.next_due(), Some(at(10)), "the first append counts");
    commit.on_read_at_end(A, at(9));
    assert_eq!(commit.next_due(), Some(at(9)));
    assert_eq!(commit.begin_pass(at(9)), Some(BTreeSet::from([A])));
    assert_eq!(commit.end_pass(&[(A, Offset(2))], at(9)), [""; 0]);
    commit.on_read_at_end(A, at(9));
    assert_eq!(commit.next_due(), None, "it is clean");
}

#[test]
fn after_a_failure_nobody_is_answered_well() {
    let mut commit = two_logs();
    assert_eq!(commit.on_wait(A, Offset(1), "a", at(0)), Wait::Waits);
    assert_eq!(commit.on_wait(B, Offset(6), "b", at(0)), Wait::Waits);
    assert_eq!(commit.begin_pass(at(0)), Some(BTreeSet::from([A, B])));
    assert_eq!(commit.fail(), ["a", "b"]);
    assert_eq!(commit.on_wait(B, Offset(5), "c", at(1)), Wait::Refused("c"));
    assert_eq!(commit.begin_pass(at(1)), None);
}

#[test]
fn a_removed_log_leaves_nobody_waiting() {
    let mut commit = two_logs();
    assert_eq!(commit.on_wait(A, Offset(1), "a", at(0)), Wait::Waits);
    assert_eq!(commit.remove(A), ["a"]);
    assert_eq!(
        commit.on_wait(A, Offset(1), "again", at(0)),
        Wait::Refused("again")
    );
    assert_eq!(commit.begin_pass(at(0)), None);
}

/// Appends to two logs with waiters, a pass now and then, until the power goes; returns how far answers went.
fn workload(files: &Simulated) -> Vec<Offset> {
    let mut commit = GroupCommit::new(Duration::from_millis(3));
    let mut answered = vec![Offset(0), Offset(0)];
    let mut logs = Vec::new();
    for index in 0..2 {
        let root = format!("{ROOT}/{index}");
        let Ok((log, _)) = try_open(files, &root, small_segments(), Left::default()) else {
            return answered;
        };
        commit.add(LogId(index), log.log_end_offset());
        logs.push((LogId(index), Arc::new(Mutex::new(log))));
    }
    for step in 0..60 {
        let now = at(step);
        let which = usize::from(step % 3 == 0);
        let (id, log) = &logs[which];
        let bytes = idempotent(1, 0, next_sequence(log), 2);
        let appended = try_append(&mut log.lock().unwrap(), &bytes);
        let Ok(appended) = appended else {
            return answered;
        };
        let end = appended.last_offset.plus(1);
        let mut done = Vec::new();
        match commit.on_wait(*id, end, (which, end), now) {
            Wait::Durable(waiter) => done.push(waiter),
            Wait::Waits | Wait::Refused(_) => {}
        }
        if step % 4 == 3
            && let Some(due) = commit.begin_pass(now)
        {
            let due: Vec<_> = logs
                .iter()
                .filter(|(id, _)| due.contains(id))
                .cloned()
                .collect();
            match flush_logs(&due) {
                Ok(flushed) => done.extend(commit.end_pass(&flushed, now)),
                Err(_) => drop(commit.fail()),
            }
        }
        for (which, end) in done {
            answered[which] = answered[which].max(end);
        }
    }
    answered
}

fn next_sequence(log: &Mutex<Log>) -> i32 {
    i32::try_from(log.lock().unwrap().log_end_offset().0).unwrap()
}

fn directories(files: &Simulated) {
    use crate::files::Files;
    for path in ["/data/0", "/data/1"] {
        files.create_directory(path.as_ref()).unwrap();
    }
    files.sync_directory(ROOT.as_ref()).unwrap();
}

/// The answered records that a power cut after `changes` changes has lost.
fn lost(changes: u64, seed: u64) -> usize {
    let files = new_disk();
    directories(&files);
    files.cut_power_after(changes);
    let answered = workload(&files);
    let files = files.power_cut(seed);
    let mut lost = 0;
    for (index, answered) in answered.into_iter().enumerate() {
        let root = format!("{ROOT}/{index}");
        let (log, _): (PartitionLog<_>, _) =
            try_open(&files, &root, small_segments(), Left::default()).unwrap();
        let batches = summary(&read_all(&log, Offset(0)));
        let whole: Vec<_> = (0..batches.len() as i64)
            .map(|index| (2 * index, 2))
            .collect();
        assert_eq!(
            batches, whole,
            "no torn batch and no gap, after {changes} changes, seed {seed}"
        );
        lost += usize::from(log.log_end_offset() < answered);
    }
    lost
}

#[test]
fn every_answered_record_survives_a_power_cut_at_any_moment() {
    let total = {
        let files = new_disk();
        directories(&files);
        let before = files.changes();
        workload(&files);
        files.changes() - before
    };
    assert!(total > 150, "{total}");
    for changes in 0..=total {
        for seed in 0..3 {
            assert_eq!(
                lost(changes, changes * 31 + seed),
                0,
                "after {changes} changes, seed {seed}"
            );
        }
    }
}

#[test]
fn an_answer_before_the_sync_is_caught() {
    let losses = || {
        (50..150)
            .map(|changes| lost(changes, changes))
            .sum::<usize>()
    };
    let losses = planting(Some(Bug::AnswerBeforeSync), losses);
    assert!(losses > 0);
}

#[test]
fn many_dirty_logs_are_synced_in_one_pass_of_the_file_system() {
    use crate::files::Operation;
    let files = new_disk();
    let directory = crate::LogDirectory::new(files.clone(), ROOT);
    let mut logs = Vec::new();
    for index in 0..20 {
        let (directory, name) = (Arc::clone(&directory), format!("t-{index}"));
        let config = small_segments();
        let open = crate::OpenLog {
            directory,
            name,
            config,
            topic_id: None,
            left: Left::default(),
        };
        let (mut log, _) = PartitionLog::open(open, NOW, &mut |_| {}).unwrap();
        fixture::append(&mut log, &fixture::plain(1, NOW.0));
        logs.push((LogId(index), Arc::new(Mutex::new(log))));
    }
    let syncs = files.count(Operation::Sync);
    let flushed = flush_logs(&logs).unwrap();
    assert_eq!(flushed.len(), 20);
    assert!(flushed.iter().all(|(_, offset)| *offset == Offset(1)));
    assert_eq!(
        (
            files.count(Operation::Sync),
            files.count(Operation::SyncFileSystem)
        ),
        (syncs, 1)
    );
}
