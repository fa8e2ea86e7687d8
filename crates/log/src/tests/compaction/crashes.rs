//! Compaction of random logs with the power cut after every change: no newest record is lost, none comes back.

use super::super::fixture::*;
use super::{Seen, Written, compacted, keyed, newest, put, settle, try_pass, visible};
use crate::compaction::BYTES_PER_KEY;
use crate::files::simulated::Random;
use crate::files::simulated::Simulated;
use crate::files::{Files, Open};
use crate::format::{CLEANED_SUFFIX, SWAP_SUFFIX};
use crate::{Left, LogConfig};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchOptions, Compression};
use std::collections::BTreeMap;
use std::path::Path;

/// What is appended, and what consumers of committed records will see of it.
struct Workload {
    random: Random,
    log: Log,
    committed: Vec<Seen>,
    sequences: BTreeMap<i64, i32>,
    open: BTreeMap<i64, Vec<Seen>>,
}

impl Workload {
    fn new(files: &Simulated, seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            log: new_log(files, config()),
            committed: Vec::new(),
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    fn append(&mut self, batches: usize) {
        for number in 0..batches {
            match self.random.below(10) {
                0..5 => self.batch(-1, number),
                5..7 => {
                    let producer = 1 + self.random.signed(2);
                    self.batch(producer, number);
                }
                7..9 => {
                    let producer = 10 + self.random.signed(3);
                    self.batch(producer, number);
                }
                _ => self.end_one(),
            }
            if self.random.below(12) == 0 {
                self.log.roll(NOW).unwrap();
            }
        }
        while !self.open.is_empty() {
            self.end_one();
        }
        settle(&mut self.log).unwrap();
    }

    /// A batch of this producer; from 10 on they are transactional.
    fn batch(&mut self, producer_id: i64, number: usize) {
        let count = 1 + self.random.below(4);
        let records: Vec<(String, Option<String>)> = (0..count)
            .map(|_| {
                let key = format!("key {}", self.random.below(15));
                let value = (self.random.below(6) > 0).then(|| format!("value {number}"));
                (key, value)
            })
            .collect();
        let compression = Compression::ALL[usize::try_from(self.random.below(5)).unwrap()];
        let sequence = self.sequences.entry(producer_id).or_default();
        let options = BatchOptions {
            compression,
            level: compression.default_level(),
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            base_sequence: if producer_id < 0 { -1 } else { *sequence },
            is_transactional: producer_id >= 10,
            ..BatchOptions::default()
        };
        *sequence += i32::try_from(count).unwrap();
        let written: Vec<Written<'_>> = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
            .collect();
        let first = append(&mut self.log, &keyed(options, &written))
            .first_offset
            .0;
        let seen = (first..)
            .zip(records)
            .map(|(offset, (key, value))| (offset, key, value));
        if producer_id >= 10 {
            self.open.entry(producer_id).or_default().extend(seen);
        } else {
            self.committed.extend(seen);
        }
    }

    fn end_one(&mut self) {
        let Some((producer, records)) = self.open.pop_first() else {
            return;
        };
        let commits = self.random.below(2);
        append(
            &mut self.log,
            &marker(producer, u8::try_from(commits).unwrap()),
        );
        if commits == 1 {
            self.committed.extend(records);
            self.committed.sort();
        }
    }
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        ..compacted()
    }
}

fn left(recovery_point: Offset, compacted_to: Option<Offset>) -> Left {
    Left {
        recovery_point,
        compacted_to,
        ..Left::default()
    }
}

/// Passes until nothing is dirty; an error when the disk is gone.
fn compact_all(log: &mut Log, memory: usize) -> Result<(), Option<Offset>> {
    loop {
        match try_pass(log, memory, NOW) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(_) => return Err(log.compacted_to()),
        }
    }
}

fn check_after_crash(files: &Simulated, left: Left, written: &[Seen], what: &str) {
    let end = left.recovery_point;
    let (mut log, recovery) = open_as(files, config(), left);
    assert_eq!(recovery.cut_off, None, "{what}");
    assert_eq!(log.log_end_offset(), end, "{what}");
    let seen = visible(&log);
    let must = newest(written, end.0);
    assert!(
        must.iter().all(|record| seen.contains(record)),
        "{what}: lost"
    );
    assert!(
        seen.iter().all(|record| written.contains(record)),
        "{what}: came back"
    );
    assert!(seen.is_sorted(), "{what}: out of order");
    compact_all(&mut log, 1 << 16).unwrap();
    assert_eq!(visible(&log), must, "{what}");
    let names = files.list(Path::new("/data/topic-0")).unwrap();
    let is_left = |name: &str| name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX);
    assert!(
        names.iter().all(|entry| !is_left(&entry.name)),
        "{what}: {names:?}"
    );
    // A clean stop finds the same by its indexes.
    let point = log.close().unwrap();
    let log = reopen(files, config(), point);
    assert_eq!(visible(&log), must, "{what}");
}

fn crash_everywhere(seed: u64) {
    let files = new_disk();
    let mut workload = Workload::new(&files, seed);
    workload.append(24);
    // Segments that are compacted once are compacted again with what came later.
    if seed.is_multiple_of(2) {
        compact_all(&mut workload.log, 1 << 16).unwrap();
        workload.append(12);
    }
    let memory = if seed.is_multiple_of(3) {
        12 * BYTES_PER_KEY
    } else {
        1 << 16
    };
    let end = workload.log.log_end_offset();
    let compacted_to = workload.log.compacted_to();
    let written = workload.committed;
    assert_eq!(workload.log.close().unwrap(), end);
    for cut in 0.. {
        let files = files.process_killed();
        let clean = Left {
            is_clean: true,
            ..left(end, compacted_to)
        };
        let (mut log, _) = open_as(&files, config(), clean);
        // A pass that panicked long ago left this.
        let leftover = Path::new("/data/topic-0/00000000000000000001.timeindex.cleaned");
        files.open(leftover, Open::Create).unwrap();
        files.sync_directory(Path::new("/data/topic-0")).unwrap();
        files.cut_power_after(cut);
        let outcome = compact_all(&mut log, memory);
        let what = format!("seed {seed}, power cut after {cut} changes");
        let known = outcome.err().flatten().or(compacted_to);
        let is_over = outcome.is_ok();
        let files = files.power_cut(seed * 1000 + cut);
        check_after_crash(&files, left(end, known), &written, &what);
        if is_over {
            assert!(cut > 20, "{what}");
            return;
        }
    }
}

#[test]
fn a_power_cut_at_any_change_of_a_compaction_leaves_the_newest_record_of_each_key() {
    (0..6).for_each(crash_everywhere);
}

/// Four small segments that become one, of which only the first keeps a record, and a larger one that makes theirs go.
#[test]
fn a_power_cut_leaves_the_old_segments_or_the_new_one() {
    let files = new_disk();
    let mut log = new_log(&files, config());
    for number in 0..4 {
        let first = if number == 0 { "kept" } else { "a" };
        put(&mut log, &[(first, Some("old")), ("b", Some("old"))]);
        settle(&mut log).unwrap();
    }
    let large = "x".repeat(700);
    put(&mut log, &[("a", Some(&large)), ("b", Some("new"))]);
    settle(&mut log).unwrap();
    let end = log.log_end_offset();
    log.close().unwrap();
    let clean = Left {
        is_clean: true,
        ..left(end, None)
    };
    let open = |files: &Simulated| open_as(files, config(), clean).0;
    let old = visible(&open(&files.process_killed()));
    let new = newest(&old, end.0);
    assert_eq!((old.len(), new.len()), (10, 3));
    for cut in 0.. {
        let files = files.process_killed();
        let mut log = open(&files);
        files.cut_power_after(cut);
        let is_over = compact_all(&mut log, 1 << 16).is_ok();
        let after = files.power_cut(cut);
        let (log, _) = open_as(&after, config(), left(end, None));
        let seen = visible(&log);
        assert!(
            seen == old || seen == new,
            "power cut after {cut} changes: {seen:?}"
        );
        let is_new = seen == new;
        assert_eq!(log.segment_count(), if is_new { 3 } else { 6 });
        if is_over {
            assert!(is_new && cut > 20);
            return;
        }
    }
}

#[test]
fn random_logs_are_compacted_to_the_newest_record_of_each_key() {
    for seed in 100..160 {
        let files = new_disk();
        let mut workload = Workload::new(&files, seed);
        for _ in 0..4 {
            workload.append(30);
            let memory = BYTES_PER_KEY * usize::try_from(3 + workload.random.below(40)).unwrap();
            compact_all(&mut workload.log, memory).unwrap();
            let end = workload.log.log_end_offset().0;
            let seen = visible(&workload.log);
            assert_eq!(seen, newest(&workload.committed, end), "seed {seed}");
        }
        // Producers go on, whatever is left of their batches.
        let end = workload.log.log_end_offset();
        for entry in files.list(Path::new("/data/topic-0")).unwrap() {
            if entry.name.ends_with(".snapshot") {
                files
                    .remove(&Path::new("/data/topic-0").join(entry.name))
                    .unwrap();
            }
        }
        workload.log = open_as(&files.process_killed(), config(), left(end, None)).0;
        workload.append(20);
    }
}
