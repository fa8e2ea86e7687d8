//! What recovery cuts off the end of a log: all of it moves aside, within bounds, and the log opens on a full disk too.

use super::super::fixture::*;
use super::{PARTITION, log_path};
use crate::files::{File, Files, Open, read_whole};
use crate::format::CUT_OFF_SUFFIX;
use crate::{Left, LogConfig, LogDirectory, OpenLog, PartitionLog};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;
use std::path::Path;

#[test]
fn a_damaged_byte_ends_the_log_there_and_what_follows_is_kept_aside() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    let mut ends = Vec::new();
    for _ in 0..3 {
        append(&mut log, &plain(2, NOW.0));
        ends.push(log.size());
    }
    let whole = read_all(&log, Offset(0));
    // Base offset and leader epoch are not under the checksum; a wrong offset is seen by its order.
    for position in (16..61).chain([ends[0] + 30, ends[1] - 1]) {
        let files = files.process_killed();
        let file = files.open(&log_path(0), Open::Write).unwrap();
        let damaged = whole[usize::try_from(position).unwrap()] ^ 0x41;
        file.write_at(&[IoSlice::new(&[damaged])], position)
            .unwrap();
        let (log, recovery) = open_as(&files, LogConfig::default(), Left::default());
        let kept = ends
            .iter()
            .filter(|end| **end <= position)
            .max()
            .copied()
            .unwrap_or(0);
        assert_eq!(log.size(), kept, "damaged at {position}");
        let cut = recovery.cut_off.unwrap();
        assert_eq!((cut.position, cut.bytes), (kept, ends[2] - kept));
        assert_eq!(
            cut.sound_batches,
            ends.iter().filter(|end| **end > position).count() - 1
        );
        let aside = read_whole(&files, &cut.kept_in.unwrap(), 1 << 20)
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&aside);
        assert!(
            text.contains("reason: ") && text.contains(&format!("log-end-offset: {}", cut.end)),
            "{text}"
        );
        let mut expected = whole[usize::try_from(kept).unwrap()..].to_vec();
        expected[usize::try_from(position - kept).unwrap()] = damaged;
        assert!(aside.ends_with(&expected));
    }
}

#[test]
fn bytes_beyond_the_limit_are_dropped_and_the_file_says_how_many_it_has() {
    let files = new_disk();
    let config = LogConfig {
        cut_off_bytes: 100,
        ..LogConfig::default()
    };
    let mut log = new_log(&files, config.clone());
    for _ in 0..3 {
        append(&mut log, &plain(2, NOW.0));
    }
    let mut whole = read_all(&log, Offset(0));
    assert!(whole.len() > 200);
    let files = files.process_killed();
    let file = files.open(&log_path(0), Open::Write).unwrap();
    whole[30] ^= 0x41;
    file.write_at(&[IoSlice::new(&whole)], 0).unwrap();
    let (log, recovery) = open_as(&files, config, Left::default());
    assert_eq!(log.size(), 0);
    let cut = recovery.cut_off.unwrap();
    assert_eq!(cut.bytes, whole.len() as u64);
    let aside = read_whole(&files, &cut.kept_in.unwrap(), 1 << 20)
        .unwrap()
        .unwrap();
    let (head, kept) = aside.split_at(aside.len() - 100);
    assert_eq!(kept, &whole[..100], "the first bytes that were cut off");
    let head = String::from_utf8(head.to_vec()).unwrap();
    let says = format!("bytes: {}\nbytes-kept: 100\n", whole.len());
    assert!(head.contains(&says) && head.ends_with("\n\n"), "{head}");
}

#[test]
fn a_full_disk_does_not_keep_a_log_from_opening() {
    let files = new_disk();
    let mut log = new_log(&files, LogConfig::default());
    append(&mut log, &plain(2, NOW.0));
    append(&mut log, &plain(2, NOW.0));
    let files = files.process_killed();
    files
        .open(&log_path(0), Open::Write)
        .unwrap()
        .truncate(log.size() - 1)
        .unwrap();
    files.limit_space(Some(0));
    let (log, recovery) = open_as(&files, LogConfig::default(), Left::default());
    assert_eq!(log.log_end_offset(), Offset(2));
    assert_eq!(recovery.cut_off.unwrap().kept_in, None);
}

#[test]
fn all_that_one_start_cuts_off_is_kept_and_eight_files_of_those_before() {
    let files = new_disk();
    drop(new_log(&files, small_segments()));
    let repaired: Vec<String> = (0..20)
        .map(|place| format!("{place:020}-5-{place}{CUT_OFF_SUFFIX}"))
        .collect();
    for name in &repaired {
        let path = Path::new(PARTITION).join(name);
        files.open(&path, Open::Create).unwrap();
    }
    for start in 0..3 {
        let mut log = new_log(&files, small_segments());
        for _ in 0..100 {
            append(&mut log, &plain(3, NOW.0));
        }
        let later = log.segment_count() - 1;
        assert!(later > 8);
        let file = files.open(&log_path(0), Open::Write).unwrap();
        file.write_at(&[IoSlice::new(&[0x55; 4])], 8).unwrap();
        let directory = LogDirectory::new(files.clone(), ROOT);
        let open = OpenLog {
            directory,
            name: "topic-0".to_owned(),
            config: small_segments(),
            topic_id: None,
            left: Left::default(),
        };
        let now = Timestamp(NOW.0 + 1 + start);
        PartitionLog::open(open, now, &mut |_| {}).unwrap();
        let names = files.list(Path::new(PARTITION)).unwrap();
        let kept = names
            .iter()
            .filter(|entry| entry.name.ends_with(CUT_OFF_SUFFIX));
        let before = if start == 0 { 0 } else { 8 };
        assert_eq!(kept.count(), later + 1 + before + repaired.len());
    }
}
