//! `verify_partition` finds nothing in what the log wrote, and every kind of damage done to it.

use super::fixture::*;
use crate::LogConfig;
use crate::checkpoint;
use crate::files::simulated::Simulated;
use crate::files::{File, Files, Open};
use crate::format::FileKind;
use crate::verify::{Checkpointed, Severity, verify_partition};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/data/topic-0";

/// Segments of two leader epochs, closed.
fn written() -> Simulated {
    let files = new_disk();
    let mut log = new_log(&files, small_segments());
    for epoch in [3, 4] {
        log.begin_epoch(LeaderEpoch(epoch));
        for _ in 0..60 {
            try_append_in(LeaderEpoch(epoch), &mut log, &plain(3, NOW.0)).unwrap();
        }
    }
    assert!(log.segment_count() > 5);
    log.close().unwrap();
    files
}

/// Nothing was deleted from the log.
const UNTRIMMED: Checkpointed = Checkpointed {
    recovery_point: None,
    log_start: Some(Offset(0)),
    compacted_to: None,
};

fn damage(files: &Simulated) -> Vec<(PathBuf, String)> {
    damage_from(files, UNTRIMMED.log_start)
}

fn damage_from(files: &Simulated, log_start: Option<Offset>) -> Vec<(PathBuf, String)> {
    let checkpointed = Checkpointed {
        log_start,
        ..UNTRIMMED
    };
    let verified = verify_partition(files, Path::new(DIRECTORY), checkpointed).unwrap();
    let findings = verified.findings.into_iter();
    let damage = findings.filter(|finding| finding.severity == Severity::Damage);
    damage.map(|finding| (finding.path, finding.what)).collect()
}

/// The path of the second segment's file of this kind.
fn second(files: &Simulated, kind: FileKind) -> PathBuf {
    let entries = files.list(Path::new(DIRECTORY)).unwrap().into_iter();
    let named = entries.filter_map(|entry| FileKind::of_name(&entry.name));
    let mut bases: Vec<Offset> = named
        .filter(|(found, _)| *found == FileKind::Log)
        .map(|(_, base)| base)
        .collect();
    bases.sort_unstable();
    kind.path(Path::new(DIRECTORY), bases[1])
}

fn overwrite(files: &Simulated, path: &Path, position: u64, bytes: &[u8]) {
    let file = files.open(path, Open::Write).unwrap();
    file.write_at(&[IoSlice::new(bytes)], position).unwrap();
}

#[test]
fn what_the_log_wrote_is_sound() {
    let files = written();
    let verified = verify_partition(&files, Path::new(DIRECTORY), UNTRIMMED).unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!(verified.batches, 120);
    assert_eq!(verified.log_end, Some(Offset(360)));
}

#[test]
fn a_flipped_bit_is_found_and_the_batches_behind_it_are_still_read() {
    let files = written();
    let path = second(&files, FileKind::Log);
    let mut byte = [0];
    let file = files.open(&path, Open::Read).unwrap();
    file.read_at(&mut byte, 70).unwrap();
    overwrite(&files, &path, 70, &[byte[0] ^ 1]);
    let found = damage(&files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].1.contains("cannot be read, the next that can"),
        "{found:?}"
    );
    let verified = verify_partition(&files, Path::new(DIRECTORY), UNTRIMMED).unwrap();
    assert_eq!(verified.batches, 119);
}

#[test]
fn a_torn_end_is_found_with_what_is_behind_it() {
    let files = written();
    let path = second(&files, FileKind::Log);
    let file = files.open(&path, Open::Write).unwrap();
    file.truncate(file.length().unwrap() - 1).unwrap();
    let found = damage(&files);
    assert!(found[0].1.contains("cannot be read"), "{found:?}");
}

#[test]
fn index_entries_that_name_no_batch_are_found() {
    for (kind, position, bytes, says) in [
        (
            FileKind::OffsetIndex,
            4,
            7_i32.to_be_bytes(),
            "where no batch begins",
        ),
        (
            FileKind::OffsetIndex,
            4,
            i32::MAX.to_be_bytes(),
            "behind the last batch",
        ),
        (FileKind::TimeIndex, 0, [0x7f; 4], "the largest there is"),
        (
            FileKind::TimeIndex,
            8,
            i32::MAX.to_be_bytes(),
            "behind the last batch",
        ),
    ] {
        let files = written();
        let path = second(&files, kind);
        overwrite(&files, &path, position, &bytes);
        let found = damage(&files);
        assert!(
            found
                .iter()
                .any(|(at, what)| *at == path && what.contains(says)),
            "{found:?}"
        );
    }
}

#[test]
fn an_epoch_or_a_topic_id_that_is_missing_is_found() {
    let files = written();
    let epochs = crate::LeaderEpochs::from_entries([(LeaderEpoch(4), Offset(180))]);
    checkpoint::write_leader_epochs(&files, Path::new(DIRECTORY), &epochs).unwrap();
    let found = damage(&files);
    assert!(
        found.len() == 1 && found[0].1.contains("leader epoch 3"),
        "{found:?}"
    );
    let path = Path::new(DIRECTORY).join(checkpoint::PARTITION_METADATA);
    files.remove(&path).unwrap();
    assert!(damage(&files).iter().any(|(at, _)| *at == path));
}

/// One segment with 180 records of epoch 3 and 180 of epoch 4, deleted up to `log_start` and closed.
fn trimmed(log_start: Offset) -> Simulated {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    for epoch in [3, 4] {
        log.begin_epoch(LeaderEpoch(epoch));
        for _ in 0..60 {
            try_append_in(LeaderEpoch(epoch), &mut log, &plain(3, NOW.0)).unwrap();
        }
    }
    log.set_high_watermark(Offset(360)).unwrap();
    log.delete_records(Some(log_start), NOW).unwrap();
    assert_eq!(
        log.segment_count(),
        1,
        "the deleted batches are still there"
    );
    log.close().unwrap();
    files
}

#[test]
fn a_log_that_was_trimmed_inside_a_segment_is_sound() {
    for log_start in [1, 2, 3, 179, 180, 181, 359, 360].map(Offset) {
        let files = trimmed(log_start);
        for known in [Some(log_start), None] {
            assert_eq!(damage_from(&files, known), [], "{log_start} {known:?}");
        }
    }
}

#[test]
fn an_epoch_that_begins_too_late_is_found_behind_the_log_start() {
    let files = trimmed(Offset(200));
    let found = damage_from(&files, Some(Offset(199)));
    assert_eq!(
        found.len(),
        2,
        "both epochs have records too early: {found:?}"
    );
    // Epoch 3 has batches behind the first epoch that is written down.
    let epochs = crate::LeaderEpochs::from_entries([(LeaderEpoch(4), Offset(100))]);
    checkpoint::write_leader_epochs(&files, Path::new(DIRECTORY), &epochs).unwrap();
    for known in [Some(Offset(200)), None] {
        let found = damage_from(&files, known);
        assert!(
            found.len() == 1 && found[0].1.contains("leader epoch 3"),
            "{found:?}"
        );
    }
}

#[test]
fn offsets_that_go_back_are_found() {
    let files = written();
    let path = second(&files, FileKind::Log);
    // The checksum does not cover the base offset.
    overwrite(&files, &path, 0, &0_i64.to_be_bytes());
    let found = damage(&files);
    assert!(found[0].1.contains("or later must"), "{found:?}");
}

#[test]
fn what_waits_or_was_set_aside_is_noted() {
    let files = written();
    for name in [
        "00000000000000000009-1.cutoff",
        "00000000000000000000.log.deleted",
    ] {
        files
            .open(&Path::new(DIRECTORY).join(name), Open::Create)
            .unwrap();
    }
    let verified = verify_partition(&files, Path::new(DIRECTORY), UNTRIMMED).unwrap();
    let notes: Vec<_> = verified
        .findings
        .iter()
        .map(|finding| finding.severity)
        .collect();
    assert_eq!(notes, [Severity::Note, Severity::Note]);
}
