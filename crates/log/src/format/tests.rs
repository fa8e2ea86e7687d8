//! Layouts: names, round trips, and bytes as Kafka writes them.

use super::{AbortedTransaction, FileKind, IndexEntry, OffsetEntry, TimeEntry};
use ottla_protocol::ids::{Offset, ProducerId};
use std::path::Path;

fn encoded<E: IndexEntry>(entry: E) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    assert_eq!(bytes.len(), E::SIZE);
    bytes
}

#[test]
fn file_names_have_twenty_digits() {
    let path = FileKind::TimeIndex.path(Path::new("/data/t-0"), Offset(42));
    assert_eq!(path, Path::new("/data/t-0/00000000000000000042.timeindex"));
    for kind in FileKind::ALL {
        let path = kind.path(Path::new(""), Offset(i64::MAX));
        let name = path.to_str().unwrap();
        assert_eq!(FileKind::of_name(name), Some((kind, Offset(i64::MAX))));
    }
    for name in [
        "",
        "x.log",
        "0000000000000000000x.log",
        "00000000000000000042.log.deleted",
        "é",
    ] {
        assert_eq!(FileKind::of_name(name), None, "{name}");
    }
}

#[test]
fn index_entries_are_big_endian() {
    let entry = OffsetEntry {
        relative_offset: 1,
        position: 0x0203,
    };
    assert_eq!(encoded(entry), [0, 0, 0, 1, 0, 0, 2, 3]);
    assert_eq!(OffsetEntry::decode(&encoded(entry)), Some(entry));
    let entry = TimeEntry {
        timestamp: 1,
        relative_offset: 2,
    };
    assert_eq!(encoded(entry), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(TimeEntry::decode(&encoded(entry)), Some(entry));
    let entry = AbortedTransaction {
        producer_id: ProducerId(1),
        first_offset: Offset(2),
        last_offset: Offset(3),
        last_stable_offset: Offset(4),
    };
    assert_eq!(AbortedTransaction::decode(&encoded(entry)), Some(entry));
    assert_eq!(
        AbortedTransaction::decode(&[1; 34]),
        None,
        "another version"
    );
}

#[test]
fn entries_end_at_preallocated_zeros_and_at_a_torn_one() {
    let entry = |relative_offset, position| OffsetEntry {
        relative_offset,
        position,
    };
    let entries = vec![entry(0, 0), entry(4, 300)];
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| encoded(*entry)).collect();
    bytes.extend([0; 19]);
    let read = super::offset_entries(&bytes);
    assert_eq!((read.entries, read.rest), (entries, 19));
    let none = super::time_entries(&[]);
    assert_eq!((none.entries.len(), none.rest), (0, 0));
    let aborted = AbortedTransaction {
        producer_id: ProducerId(7),
        first_offset: Offset(0),
        last_offset: Offset(2),
        last_stable_offset: Offset(0),
    };
    let mut bytes = encoded(aborted);
    bytes.push(0);
    let read = super::aborted_transactions(&bytes);
    assert_eq!((read.entries, read.rest), (vec![aborted], 1));
}
