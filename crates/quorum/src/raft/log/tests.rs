//! Crash tests of Raft's own log: the power is cut at every change and the file at every byte; synced promises must stay.

use super::{Applied, FILE, Head, Position, RaftLog, RaftLogError, SnapshotState};
use crate::checkpoint::SnapshotId;
use crate::raft::fixture::{addition, entries, entry, state, voters};
use crate::raft::message::SnapshotName;
use ottla_log::files::simulated::{Random, Simulated};
use ottla_log::files::{File, FileError, Files, Open, Operation, read_whole, replace_durably};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::planted::{Bug, planting};
use raft::eraftpb::{Entry, HardState};
use raft::{GetEntriesContext, Storage, StorageError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

fn directory() -> &'static Path {
    Path::new("/m")
}

fn path() -> PathBuf {
    directory().join(FILE)
}

fn head() -> Head {
    Head {
        applied: applied(0, 0),
        ..Head::default()
    }
}

fn applied(index: u64, term: u64) -> Applied {
    Applied {
        at: Position { index, term },
        log_end: Offset(index.cast_signed() * 2),
        voters: voters(&[1, 2, 3]),
    }
}

fn snapshot(index: u64, term: u64) -> SnapshotState {
    let id = SnapshotId {
        end_offset: Offset(index.cast_signed() * 2),
        epoch: LeaderEpoch(1),
    };
    SnapshotState {
        at: Position { index, term },
        name: SnapshotName { id, size: 100 },
        voters: voters(&[1, 2, 3]),
    }
}

fn create() -> (Simulated, RaftLog<Simulated>) {
    let files = Simulated::new();
    files.create_directory(directory()).unwrap();
    files.sync_directory(Path::new("/")).unwrap();
    let log = RaftLog::create(files.clone(), directory(), &head()).unwrap();
    (files, log)
}

fn open(files: &Simulated) -> Result<RaftLog<Simulated>, RaftLogError> {
    let read = RaftLog::read_file(files.clone(), directory())?.expect("the file is there");
    Ok(read.open()?)
}

/// What the library can read of a log.
#[derive(Debug, Clone, PartialEq)]
struct Content {
    head: Head,
    entries: Vec<Entry>,
}

fn content(log: &RaftLog<Simulated>) -> Content {
    let first = log.first_index().unwrap();
    let end = log.last_index().unwrap() + 1;
    let read = log.entries(first, end, None, GetEntriesContext::empty(false));
    Content {
        head: log.head().clone(),
        entries: read.unwrap(),
    }
}

#[test]
fn a_log_comes_back_as_it_was() {
    let (files, mut log) = create();
    log.persist(&state(1, 2, 0), &entries(1..=3, 1)).unwrap();
    log.persist(&state(2, 3, 1), &entries(2..=4, 2)).unwrap();
    log.checkpoint(applied(2, 2)).unwrap();
    let before = content(&log);
    assert_eq!(
        before
            .entries
            .iter()
            .map(|entry| entry.term)
            .collect::<Vec<_>>(),
        [1, 2, 2, 2]
    );
    assert_eq!(content(&open(&files).unwrap()), before);
    log.compact(snapshot(2, 2), 1024 * 1024).unwrap();
    assert_eq!(log.term(2).unwrap(), 2);
    assert_eq!(log.snapshot(0, 9).unwrap().get_metadata().index, 2);
    assert_eq!(content(&open(&files).unwrap()), content(&log));
    log.install(snapshot(9, 3), &state(3, 0, 9)).unwrap();
    assert_eq!(
        (log.first_index().unwrap(), log.last_index().unwrap()),
        (10, 9)
    );
    log.persist(&state(3, 0, 9), &[entry(10, 3)]).unwrap();
    assert_eq!(content(&open(&files).unwrap()), content(&log));
}

/// One step of the random walk. Returns whether there was anything to do.
fn step(log: &mut RaftLog<Simulated>, random: &mut Random) -> Result<(), FileError> {
    let (last, head) = (log.last(), log.head().clone());
    let HardState { term, vote, .. } = head.hard_state;
    let done = head.applied.at.index;
    match random.below(12) {
        0 => log.persist(&state(term + 1, random.below(4), done), &[]),
        1 if last.index > done => {
            let index = done + 1 + random.below(last.index - done);
            log.checkpoint(applied(index, log.term(index).unwrap()))
        }
        2 if done > head.before.index => {
            log.compact(snapshot(done, head.applied.at.term), 1024 * 1024)
        }
        3 if random.one_in(3) => {
            let at = last.index + 5;
            log.install(snapshot(at, term), &state(term, vote, at))
        }
        // A new leader replaces the end of the log.
        4 if last.index > done => {
            let from = done + 1 + random.below(last.index - done);
            log.persist(
                &state(term + 1, 0, done),
                &entries(from..=from + 1, term + 1),
            )
        }
        _ => {
            let until = last.index + 1 + random.below(3);
            log.persist(
                &state(term, vote, done),
                &entries(last.index + 1..=until, term),
            )
        }
    }
}

/// Walks until the power goes off in a step. The state of before or of after that step must come back.
fn walk(seed: u64) {
    let mut random = Random::new(seed);
    let (mut files, mut log) = create();
    log.persist(&state(1, 1, 0), &[]).unwrap();
    for _ in 0..40 {
        if random.one_in(3) {
            files.cut_power_after(random.below(6));
        }
        let before = content(&log);
        let mut after_random = Random::new(random.next());
        let finished = step(&mut log, &mut Random::new(after_random.next())).is_ok();
        let after = content(&log);
        if !files.is_power_off() && finished {
            files.heal();
            continue;
        }
        drop(log);
        files = files.power_cut(random.next());
        log = open(&files).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = content(&log);
        if finished {
            assert_eq!(found, after, "seed {seed}: a step that had ended was lost");
        } else if found != before {
            // The step was done in full, although its end was not seen.
            log = open(&files).unwrap();
            assert_eq!(content(&log), found, "seed {seed}");
            assert!(
                found.entries.len() != before.entries.len() || found.head != before.head,
                "seed {seed}: half of a step"
            );
            assert_whole_step(&before, &found, seed);
        }
    }
}

/// Whether `found` can be `before` after one whole step: nothing that was applied has gone, and terms never fall.
fn assert_whole_step(before: &Content, found: &Content, seed: u64) {
    assert!(
        found.head.hard_state.term >= before.head.hard_state.term,
        "seed {seed}: the term fell"
    );
    assert!(
        found.head.applied.at.index >= before.head.applied.at.index,
        "seed {seed}"
    );
    let last = found
        .entries
        .last()
        .map_or(found.head.before.index, |entry| entry.index);
    assert!(
        last >= found.head.applied.at.index,
        "seed {seed}: applied entries are missing"
    );
    for pair in found.entries.windows(2) {
        assert!(
            pair[0].index + 1 == pair[1].index && pair[0].term <= pair[1].term,
            "seed {seed}"
        );
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_no_step_that_had_ended() {
    (0..400).for_each(walk);
}

#[test]
fn entries_that_are_not_synced_are_found_out() {
    let found = std::panic::catch_unwind(|| {
        planting(Some(Bug::RaftEntryNotSynced), || (0..400).for_each(walk));
    });
    assert!(found.is_err(), "a log that does not sync must be found out");
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_frame() {
    let (files, mut log) = create();
    let start = files.status(&path()).unwrap().unwrap().length;
    let mut ends = vec![(start, content(&log))];
    for term in 1..4 {
        let last = log.last().index;
        log.persist(&state(term, term, 0), &entries(last + 1..=last + 2, term))
            .unwrap();
        let length = files.status(&path()).unwrap().unwrap().length;
        ends.push((length, content(&log)));
    }
    let bytes = read_whole(&files, &path(), u64::MAX).unwrap().unwrap();
    for length in 0..=bytes.len() {
        replace_durably(&files, &path(), &bytes[..length]).unwrap();
        let whole = ends.iter().rev().find(|(end, _)| *end <= length as u64);
        match (open(&files), whole) {
            (Ok(log), Some((_, expected))) => assert_eq!(content(&log), *expected),
            (Err(RaftLogError::Damaged { position: 0, .. }), None) => {}
            (found, _) => panic!("cut to {length} bytes: {found:?}"),
        }
    }
}

#[test]
fn damage_before_the_last_frame_is_refused_and_changes_nothing() {
    let (files, mut log) = create();
    log.persist(&state(1, 1, 0), &entries(1..=2, 1)).unwrap();
    let last = files.status(&path()).unwrap().unwrap().length;
    let before = content(&log);
    log.persist(&state(2, 1, 0), &entries(3..=4, 2)).unwrap();
    let bytes = read_whole(&files, &path(), u64::MAX).unwrap().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        replace_durably(&files, &path(), &damaged).unwrap();
        match open(&files) {
            Err(RaftLogError::Damaged { .. }) => {
                assert!((at as u64) < last, "byte {at}");
                assert_eq!(
                    read_whole(&files, &path(), u64::MAX).unwrap().unwrap(),
                    damaged
                );
            }
            Ok(log) => {
                assert!(
                    at as u64 >= last,
                    "damage of byte {at} was taken for a torn write"
                );
                assert_eq!(content(&log), before);
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn a_full_disk_changes_nothing_and_is_tried_again() {
    let (files, mut log) = create();
    log.persist(&state(1, 1, 0), &entries(1..=2, 1)).unwrap();
    let before = content(&log);
    files.limit_space(Some(files.status(&path()).unwrap().unwrap().length + 20));
    let full = log
        .persist(&state(2, 2, 0), &entries(3..=4, 2))
        .unwrap_err();
    assert!(full.is_full(), "{full}");
    assert_eq!(content(&log), before);
    log.checkpoint(applied(1, 1)).unwrap_err();
    assert!(
        log.compact(snapshot(0, 0), 1024 * 1024)
            .unwrap_err()
            .is_full()
    );
    files.limit_space(None);
    log.persist(&state(2, 2, 0), &entries(3..=4, 2)).unwrap();
    assert_eq!(content(&open(&files.power_cut(1)).unwrap()), content(&log));
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let (files, mut log) = create();
    files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    log.persist(&state(1, 1, 0), &entries(1..=2, 1))
        .unwrap_err();
    let syncs = files.count(Operation::Sync);
    log.persist(&state(1, 1, 0), &entries(1..=2, 1))
        .unwrap_err();
    log.checkpoint(applied(0, 0)).unwrap_err();
    assert_eq!(files.count(Operation::Sync), syncs, "it was tried again");
}

/// After a failed sync the system counts the frame as written. The next start finds it, and must not build on it before it
/// is on the disk.
#[test]
fn a_frame_whose_sync_failed_is_written_again_by_the_next_start() {
    let (files, mut log) = create();
    files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    log.persist(&state(7, 1, 0), &entries(1..=2, 7))
        .unwrap_err();
    let files = files.process_killed();
    let found = content(&open(&files).unwrap());
    assert_eq!(found.head.hard_state.term, 7);
    for seed in 0..10 {
        assert_eq!(content(&open(&files.power_cut(seed)).unwrap()), found);
    }
}

#[test]
fn old_entries_are_read_from_the_disk_and_new_ones_are_not() {
    let (files, mut log) = create();
    for index in 1..=20 {
        let mut large = entry(index, 1);
        let name = "x".repeat(100_000);
        large.data = crate::raft::fixture::payload(1, &[&name]).into();
        log.persist(&state(1, 1, 0), &[large]).unwrap();
    }
    let all = content(&log);
    log.checkpoint(applied(15, 1)).unwrap();
    let reads = files.count(Operation::Read);
    let read =
        |log: &RaftLog<_>, from| log.entries(from, 21, None, GetEntriesContext::empty(false));
    assert_eq!(read(&log, 16).unwrap(), all.entries[15..]);
    assert_eq!(
        files.count(Operation::Read),
        reads,
        "entries after the applied one are in memory"
    );
    assert_eq!(read(&log, 1).unwrap(), all.entries);
    assert!(files.count(Operation::Read) > reads, "old entries are not");
    assert_eq!(
        log.entries(1, 21, 250_000, GetEntriesContext::empty(false))
            .unwrap()
            .len(),
        2
    );

    files.fail_nth(Operation::Read, 1, ErrorKind::Other);
    let failed = read(&log, 1).unwrap_err();
    assert_eq!(
        failed,
        raft::Error::Store(StorageError::LogTemporarilyUnavailable)
    );
    assert!(log.take_failed_read().is_some());
    assert!(log.take_failed_read().is_none());

    log.checkpoint(applied(20, 1)).unwrap();
    log.compact(snapshot(20, 1), 1024 * 1024).unwrap();
    assert!(
        log.first_index().unwrap() > 10,
        "most of the applied entries have gone"
    );
    assert!(
        log.first_index().unwrap() < 20,
        "the last ones stay for followers that are a little behind"
    );
    assert_eq!(content(&open(&files).unwrap()), content(&log));
    let compacted = raft::Error::Store(StorageError::Compacted);
    assert_eq!(read(&log, 1).unwrap_err(), compacted);
}

#[test]
fn a_node_alone_has_committed_all_up_to_the_addition_of_another_voter() {
    let (files, mut log) = create();
    let mut added = entries(1..=4, 2);
    added[1] = addition(2, 2);
    log.persist(&state(2, 1, 0), &added).unwrap();
    let mut alone = log.head().applied.clone();
    alone.voters = voters(&[1]);
    log.checkpoint(alone).unwrap();
    let read = RaftLog::read_file(files, directory()).unwrap().unwrap();
    let pending = |ids: &[u64]| read.pending(ids).map(|one| one.index).collect::<Vec<_>>();
    assert_eq!(pending(&[1]), [1, 2]);
    assert_eq!(pending(&[2]), [0; 0], "it is another node");
}

#[test]
fn a_damaged_entry_is_no_entry() {
    let (files, mut log) = create();
    let large = crate::raft::fixture::payload(1, &["x".repeat(2_000_000).as_str()]);
    let first = Entry {
        data: large.into(),
        ..entry(1, 1)
    };
    log.persist(&state(1, 1, 0), &[first, entry(2, 1)]).unwrap();
    log.checkpoint(applied(2, 1)).unwrap();
    let file = files.open(&path(), Open::Write).unwrap();
    file.write_at(&[std::io::IoSlice::new(&[9; 64])], 1_000)
        .unwrap();
    let read = log.entries(1, 3, None, GetEntriesContext::empty(false));
    assert_eq!(
        read.unwrap_err(),
        raft::Error::Store(StorageError::LogTemporarilyUnavailable)
    );
    assert!(log.take_failed_read().unwrap().is_malformed());
}
