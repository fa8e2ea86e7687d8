//! The ledger on a disk that loses, tears and fails.

use super::{HEADER, LOSS_LEDGER, LedgerError, LossEntry, LossKind, LossLedger, LossTotals};
use ottla_log::files::simulated::Simulated;
use ottla_log::files::{File as _, Files as _, Open, Operation, read_whole};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::time::Timestamp;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

fn entry(number: i64) -> LossEntry {
    let kinds = LossKind::ALL.len() as i64;
    LossEntry {
        at: Timestamp(1_700_000_000_000 + number),
        node: NodeId(3),
        topic: "orders.eu_1".to_owned(),
        topic_id: Uuid::from_parts(7, 8),
        partition: PartitionIndex(4),
        from: (number % 2 == 0).then_some(Offset(number)),
        to: (number % 3 == 0).then_some(Offset(number + 9)),
        end: (number % 5 == 0).then_some(Offset(number + 10)),
        old_leader: (number % 2 == 1).then_some(NodeId(1)),
        new_leader: NodeId(2),
        old_epoch: (number % 2 == 1).then_some(LeaderEpoch(5)),
        new_epoch: LeaderEpoch(i32::try_from(number).unwrap()),
        what: LossKind::ALL[usize::try_from(number % kinds).unwrap()],
    }
}

fn disk() -> (Simulated, &'static Path) {
    let disk = Simulated::new();
    let directory = Path::new("/metadata");
    disk.create_directory(directory).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    (disk, directory)
}

fn opened(disk: &Simulated) -> LossLedger<Simulated> {
    LossLedger::open(disk.clone(), Path::new("/metadata")).unwrap()
}

/// The entries after a restart.
fn read(disk: &Simulated) -> Vec<LossEntry> {
    let ledger = opened(disk);
    let entries = ledger.entries().unwrap();
    let sums = LossTotals {
        entries: entries.len() as i64,
        lost: entries.iter().map(LossEntry::lost).sum(),
    };
    assert_eq!(ledger.totals(), sums);
    entries
}

#[test]
fn an_entry_survives_a_power_cut_as_soon_as_it_is_added() {
    let (disk, directory) = disk();
    assert_eq!(read(&disk), []);
    assert_eq!(disk.list(directory).unwrap(), [], "no entry, no file");
    let mut expected = Vec::new();
    for number in 0..30 {
        let mut ledger = opened(&disk);
        ledger.append(entry(number)).unwrap();
        assert_eq!(ledger.totals(), opened(&disk).totals());
        expected.push(entry(number));
        for seed in 0..5 {
            assert_eq!(read(&disk.power_cut(seed)), expected);
        }
    }
}

#[test]
fn a_torn_entry_is_replaced_by_the_next() {
    for kept in 0..400 {
        let (disk, directory) = disk();
        opened(&disk).append(entry(0)).unwrap();
        let whole = read_whole(&disk, &directory.join(LOSS_LEDGER), 9999)
            .unwrap()
            .unwrap();
        let before = whole.len();
        opened(&disk).append(entry(1)).unwrap();
        let file = disk
            .open(&directory.join(LOSS_LEDGER), Open::Write)
            .unwrap();
        let length = (before as u64 + kept).min(file.length().unwrap() - 1);
        file.truncate(length).unwrap();
        assert_eq!(read(&disk), [entry(0)]);
        opened(&disk).append(entry(2)).unwrap();
        assert_eq!(read(&disk), [entry(0), entry(2)]);
    }
}

#[test]
fn a_damaged_entry_is_left_out_and_the_others_stay() {
    let (disk, directory) = disk();
    for number in 0..3 {
        opened(&disk).append(entry(number)).unwrap();
    }
    let file = disk
        .open(&directory.join(LOSS_LEDGER), Open::Write)
        .unwrap();
    let whole = read_whole(&disk, &directory.join(LOSS_LEDGER), 9999)
        .unwrap()
        .unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let second = HEADER.len() + lines[1].len() + 40;
    file.write_at(&[IoSlice::new(b"#")], second as u64).unwrap();
    assert_eq!(read(&disk), [entry(0), entry(2)]);
    opened(&disk).append(entry(3)).unwrap();
    assert_eq!(read(&disk), [entry(0), entry(2), entry(3)]);
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let (disk, _) = disk();
    let mut ledger = opened(&disk);
    ledger.append(entry(0)).unwrap();
    disk.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    assert!(matches!(ledger.append(entry(1)), Err(LedgerError::File(_))));
    assert!(matches!(ledger.append(entry(2)), Err(LedgerError::Failed)));
    assert_eq!(ledger.entries().unwrap()[0], entry(0));
}

#[test]
fn a_removal_that_is_told_again_is_not_added_again() {
    let (disk, _) = disk();
    let mut ledger = opened(&disk);
    let removal = LossEntry {
        from: Some(Offset(10)),
        to: Some(Offset(20)),
        end: Some(Offset(25)),
        what: LossKind::RemovedDiverged,
        ..entry(0)
    };
    // After a restart the node knows an older high watermark, and a part of the records may be gone.
    let again = LossEntry {
        at: Timestamp(9),
        to: Some(Offset(15)),
        end: Some(Offset(22)),
        ..removal.clone()
    };
    let others = [
        LossEntry {
            from: Some(Offset(9)),
            ..again.clone()
        },
        LossEntry {
            end: Some(Offset(26)),
            ..again.clone()
        },
        LossEntry {
            new_epoch: LeaderEpoch(7),
            ..again.clone()
        },
        LossEntry {
            partition: PartitionIndex(5),
            ..again.clone()
        },
    ];
    ledger.append(removal.clone()).unwrap();
    ledger.append(again).unwrap();
    assert_eq!(read(&disk), std::slice::from_ref(&removal));
    for other in &others {
        ledger.append(other.clone()).unwrap();
    }
    let all: Vec<_> = std::iter::once(removal).chain(others).collect();
    assert_eq!(read(&disk), all);
}
