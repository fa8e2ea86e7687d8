//! What is appended after damage can be read, whatever the damaged bytes are and however often the log is opened again.

use super::super::fixture::*;
use super::{PARTITION, idempotent_at, overwrite, request};
use crate::files::simulated::Simulated;
use crate::format::FileKind;
use crate::{Left, LogConfig, ReadError, StorageError};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::split_batches;
use std::path::Path;

/// Damage that spanned the recovery point once stayed in the file before the next append. Later reads took the new
/// batches for a part of the damage, or skipped them.
#[test]
fn what_is_appended_behind_damage_is_read_whatever_the_damage_says() {
    let recovery_point = Offset(63);
    let injuries: [(u64, &[u8]); 5] = [
        (40, b"rot"),
        (0, &[0xA5; 61]),
        // A last offset that is too large, a length that leads to the batch after the next, one that leads nowhere.
        (26, &[4]),
        (8, &[0, 0, 0, 0]),
        (11, &[0xFE]),
    ];
    for interval in [0, 4096] {
        let config = || LogConfig {
            index_interval_bytes: interval,
            ..LogConfig::default()
        };
        let files = new_disk();
        let mut log = new_log(&files, config());
        for number in 0..30 {
            append(&mut log, &idempotent_at(number));
        }
        let size = log.size() / 30;
        let twice = u32::try_from(2 * size - 12).unwrap().to_be_bytes();
        let mut injuries = injuries;
        injuries[3].1 = &twice;
        log.flush().unwrap();
        for (first, behind) in [(20, 22), (20, 30), (18, 22), (18, 30)] {
            // One for the batches before the last below the recovery point, for that, and for those behind.
            for kinds in 0..injuries.len().pow(3) {
                let kinds = [kinds % 5, kinds / 5 % 5, kinds / 25];
                let files = files.process_killed();
                let path = FileKind::Log.path(Path::new(PARTITION), Offset(0));
                for number in first..behind {
                    let (at, bytes) =
                        injuries[kinds[usize::from(number >= 20) + usize::from(number > 20)]];
                    overwrite(&files, &path, number * size + at, bytes);
                }
                let left = Left {
                    recovery_point,
                    ..Left::default()
                };
                for appends in [4, 12] {
                    let what =
                        format!("interval {interval}, {first}..{behind}, {kinds:?}, {appends}");
                    let files = files.process_killed();
                    let (mut log, recovery) = open_as(&files, config(), left);
                    assert_eq!(log.log_end_offset(), recovery_point, "{what}");
                    let first = Offset(i64::try_from(first).unwrap() * 3);
                    let damage = recovery.damage;
                    assert_eq!(damage[0].first_offset, first, "{what}");
                    let ends = damage.iter().map(|damage| damage.next_offset);
                    assert_eq!(ends.max(), Some(recovery_point), "{what}");
                    let is_kept = recovery.cut_off.is_some_and(|cut| cut.kept_in.is_some());
                    assert!(
                        is_kept || behind == 30,
                        "what is behind moves aside, {what}"
                    );
                    for number in 0..appends {
                        let appended = append(&mut log, &plain(2, NOW.0 + 5000 + number));
                        assert_eq!(appended.first_offset.0, 63 + 2 * number, "{what}");
                    }
                    reads_what_was_appended(&log, appends, &what);
                    log.flush().unwrap();
                    drop(log);
                    reads_it_after_the_next_starts(&files, &config, appends, &what);
                }
            }
        }
    }
}

fn reads_it_after_the_next_starts(
    files: &Simulated,
    config: &dyn Fn() -> LogConfig,
    appends: i64,
    what: &str,
) {
    let left = Left {
        recovery_point: Offset(63 + 2 * appends),
        ..Left::default()
    };
    let (log, recovery) = open_as(files, config(), left);
    assert_eq!(recovery.cut_off, None, "{what}");
    reads_what_was_appended(&log, appends, what);
    let end = log.close().unwrap();
    reads_what_was_appended(&reopen(files, config(), end), appends, what);
}

#[test]
fn what_is_appended_behind_damage_that_a_truncation_left_is_read() {
    for (at, bytes) in [(0, &[0xA5; 61][..]), (11, &[0xFE]), (40, b"rot")] {
        let files = new_disk();
        let mut log = new_log(&files, LogConfig::default());
        for number in 0..30 {
            append(&mut log, &idempotent_at(number));
        }
        let path = FileKind::Log.path(Path::new(PARTITION), Offset(0));
        overwrite(&files, &path, 20 * (log.size() / 30) + at, bytes);
        log.truncate_to(Offset(63), NOW).unwrap();
        for number in 0..4 {
            append(&mut log, &plain(2, NOW.0 + 5000 + number));
        }
        reads_what_was_appended(&log, 4, "truncated");
        let end = log.close().unwrap();
        let log = reopen(&files, LogConfig::default(), end);
        reads_what_was_appended(&log, 4, "truncated and opened again");
    }
}

/// Batches of 2 records from offset 63 on, asked for at every offset.
fn reads_what_was_appended(log: &Log, appends: i64, what: &str) {
    assert_eq!(log.log_end_offset().0, 63 + 2 * appends, "{what}");
    for offset in 63..log.log_end_offset().0 {
        let mut bytes = Vec::new();
        let plan = log.read(&request(Offset(offset)));
        plan.expect(what).read(&mut bytes).unwrap();
        let first = (offset - 63) / 2;
        let expected: Vec<_> = (first..appends)
            .map(|number| (63 + 2 * number, 2))
            .collect();
        assert_eq!(summary(&bytes), expected, "at {offset}, {what}");
    }
    // A reader that continues after each refusal reaches the end, and reads nothing twice.
    let (mut offset, mut met) = (Offset(0), Vec::new());
    while offset < log.log_end_offset() {
        let mut bytes = Vec::new();
        let next = match log.read(&request(offset)) {
            Err(ReadError::Storage(StorageError::Damaged { damage, .. })) => damage.next_offset,
            Err(error) => panic!("{error}"),
            Ok(plan) => {
                plan.read(&mut bytes).unwrap();
                let batches: Vec<_> = split_batches(&bytes).map_while(Result::ok).collect();
                met.extend(
                    batches
                        .iter()
                        .filter(|batch| batch.is_crc_valid())
                        .map(|batch| batch.header().base_offset),
                );
                batches.last().unwrap().header().next_offset()
            }
        };
        assert!(next > offset, "at {offset}: {next}, {what}");
        offset = next;
    }
    assert!(met.is_sorted_by(|one, next| one < next), "{met:?}, {what}");
}
