//! The observer against the views of a real metadata log, and against bytes that no leader sends.

use super::{ObserveError, Observer, Wanted};
use crate::metadata_log::tests::{NOW, VERSION, formatted, open, small, topic, topics};
use crate::metadata_log::{Fetched, FollowerEnd, LogView, MetadataLog, Opened};
use ottla_log::files::simulated::Simulated;
use ottla_metadata::{Changes, Loader};
use ottla_protocol::ids::{LeaderEpoch, Offset};

/// A leader with `count` topics. `small` settings make it roll and write snapshots.
struct Leader {
    log: MetadataLog<Simulated>,
    loader: Loader,
    next: u64,
}

impl Leader {
    fn new() -> Self {
        Self::start(&formatted())
    }

    fn start(files: &Simulated) -> Self {
        let Opened { log, loader, .. } = open(files, small()).unwrap();
        let next = topics(loader.image()).len() as u64;
        Self { log, loader, next }
    }

    fn create(&mut self, count: u64) {
        for _ in 0..count {
            let records = [topic(self.next)];
            self.log.propose(&records, VERSION, NOW).unwrap();
            self.loader.load(&records);
            self.next += 1;
        }
    }

    fn snapshot(&mut self) {
        let job = self.log.begin_snapshot(&self.loader, NOW).unwrap().unwrap();
        self.log.adopt_snapshot(job.write().unwrap()).unwrap();
    }
}

/// Fetches until the observer has everything. Returns what changed, and the number of snapshots that it loaded.
fn follow(
    observer: &mut Observer,
    view: &LogView<Simulated>,
    max_bytes: usize,
) -> (Changes, usize) {
    let mut all = Changes::default();
    let mut snapshots = 0;
    while observer.applied() < view.high_watermark() {
        match observer.wanted() {
            Wanted::Batches(end) => match view.fetch(end, max_bytes).unwrap() {
                Fetched::Batches(bytes) => {
                    assert!(!bytes.is_empty(), "the leader has more");
                    let changes = observer.on_batches(&bytes, view.high_watermark());
                    all.extend(changes.unwrap());
                }
                Fetched::Diverging(end) => observer.on_diverging(end).unwrap(),
                Fetched::Snapshot(id) => observer.on_snapshot(id),
            },
            Wanted::Snapshot { id, position } => {
                let piece = view.snapshot_piece(id, position, max_bytes).unwrap();
                let changes = observer.on_piece(position, &piece.bytes, piece.size);
                if let Some(changes) = changes.unwrap() {
                    snapshots += 1;
                    all.extend(changes);
                }
            }
        }
    }
    (all, snapshots)
}

#[test]
fn an_observer_has_the_image_of_its_leader_at_each_commit() {
    let mut leader = Leader::new();
    let mut observer = Observer::default();
    let mut view = leader.log.view();
    for count in [1, 3, 40, 1] {
        leader.create(count);
        view = leader.log.view_after(&view);
        follow(&mut observer, &view, 200);
        assert_eq!(observer.image(), leader.loader.image());
        assert_eq!(observer.applied(), leader.log.end_offset());
        assert_eq!(observer.voters(), leader.log.status().voters);
        assert_eq!(observer.kraft_version(), 1);
    }
}

#[test]
fn an_empty_or_late_observer_loads_the_snapshot_and_goes_on_after_it() {
    let mut leader = Leader::new();
    leader.create(5);
    let mut late = Observer::default();
    follow(&mut late, &leader.log.view(), 1000);
    for _ in 0..3 {
        leader.create(20);
        leader.snapshot();
    }
    leader.create(2);
    let view = leader.log.view();
    assert!(view.log_start() > late.applied(), "its next offset is gone");
    let (changes, snapshots) = follow(&mut late, &view, 100);
    assert_eq!((late.image(), snapshots), (leader.loader.image(), 1));
    assert_eq!(changes.deleted_topics.len(), 0);
    let mut empty = Observer::default();
    assert_eq!(follow(&mut empty, &view, 1000).1, 1);
    assert_eq!(empty.image(), leader.loader.image());
    assert_eq!(empty.voters(), leader.log.status().voters);
}

#[test]
fn batches_come_in_the_order_of_the_log_whatever_fits() {
    let mut leader = Leader::new();
    leader.create(30);
    let view = leader.log.view();
    let whole = view.fetch(FollowerEnd::default(), usize::MAX).unwrap();
    let mut pieces = Vec::new();
    let mut observer = Observer::default();
    while observer.applied() < view.high_watermark() {
        let Wanted::Batches(end) = observer.wanted() else {
            panic!("there is no snapshot")
        };
        let Fetched::Batches(bytes) = view.fetch(end, 1).unwrap() else {
            panic!("nothing diverges")
        };
        observer.on_batches(&bytes, view.high_watermark()).unwrap();
        pieces.extend(bytes);
    }
    assert_eq!(whole, Fetched::Batches(pieces));
}

#[test]
fn what_is_above_the_high_watermark_waits_and_may_be_taken_back() {
    let mut leader = Leader::new();
    leader.create(2);
    let mut observer = Observer::default();
    follow(&mut observer, &leader.log.view(), 1000);
    let committed = observer.applied();
    leader.create(2);
    let view = leader.log.view();
    let Wanted::Batches(end) = observer.wanted() else {
        panic!("it has no snapshot to load")
    };
    let Fetched::Batches(bytes) = view.fetch(end, 1000).unwrap() else {
        panic!("nothing diverges")
    };
    let changes = observer.on_batches(&bytes, committed).unwrap();
    assert_eq!(
        (changes, observer.applied()),
        (Changes::default(), committed)
    );
    let shorter = FollowerEnd {
        offset: committed.plus(1),
        last_epoch: end.last_epoch,
    };
    observer.on_diverging(shorter).unwrap();
    assert_eq!(observer.wanted(), Wanted::Batches(shorter));
    let of_older_epoch = FollowerEnd {
        offset: committed.plus(1),
        last_epoch: LeaderEpoch(0),
    };
    observer.on_diverging(of_older_epoch).unwrap();
    assert_eq!(
        observer.wanted(),
        Wanted::Batches(end),
        "the batch is not of that epoch"
    );
    let below = FollowerEnd {
        offset: Offset(1),
        last_epoch: LeaderEpoch(0),
    };
    let refused = observer.on_diverging(below).unwrap_err();
    assert!(matches!(
        refused,
        ObserveError::DivergesBelowCommitted { .. }
    ));
}

#[test]
fn an_unknown_epoch_or_an_end_beyond_the_log_diverges() {
    let files = formatted();
    let mut leader = Leader::start(&files);
    leader.create(3);
    let first_epoch_end = leader.log.end_offset();
    let epoch = leader.log.epoch();
    drop(leader);
    let mut leader = Leader::start(&files);
    leader.create(3);
    let view = leader.log.view();
    let fetch = |offset: i64, epoch: LeaderEpoch| {
        let end = FollowerEnd {
            offset: Offset(offset),
            last_epoch: epoch,
        };
        view.fetch(end, 1000).unwrap()
    };
    let of_first = FollowerEnd {
        offset: first_epoch_end,
        last_epoch: epoch,
    };
    assert_eq!(
        fetch(first_epoch_end.0 + 1, epoch),
        Fetched::Diverging(of_first)
    );
    assert!(matches!(
        fetch(first_epoch_end.0, epoch),
        Fetched::Batches(_)
    ));
    let now = FollowerEnd {
        offset: leader.log.end_offset(),
        last_epoch: leader.log.epoch(),
    };
    let later = LeaderEpoch(now.last_epoch.0 + 3);
    assert_eq!(fetch(now.offset.0, later), Fetched::Diverging(now));
}

#[test]
fn damaged_bytes_are_refused_and_change_nothing() {
    let mut leader = Leader::new();
    leader.create(6);
    let view = leader.log.view();
    let Fetched::Batches(bytes) = view.fetch(FollowerEnd::default(), usize::MAX).unwrap() else {
        panic!("nothing diverges")
    };
    // The base offset, the length and the epoch of a batch are outside of its CRC; the first two are checked by themselves.
    for position in (0..bytes.len()).filter(|position| !(12..16).contains(position)) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x40;
        let mut observer = Observer::default();
        let outcome = observer.on_batches(&damaged, view.high_watermark());
        let is_epoch = outcome.is_ok() && observer.image() == leader.loader.image();
        assert!(outcome.is_err() || is_epoch, "at {position}");
    }
    let mut observer = Observer::default();
    let second = &bytes[bytes.len() / 2..];
    assert!(observer.on_batches(second, view.high_watermark()).is_err());
    assert!(observer.image().topics.is_empty());
}

#[test]
fn a_snapshot_that_is_damaged_cut_or_out_of_order_is_refused() {
    let mut leader = Leader::new();
    leader.create(10);
    leader.snapshot();
    let view = leader.log.view();
    let Fetched::Snapshot(id) = view.fetch(FollowerEnd::default(), 1000).unwrap() else {
        panic!("there is a snapshot")
    };
    let whole = view.snapshot_piece(id, 0, usize::MAX).unwrap().bytes;
    let size = whole.len() as u64;
    let load = |bytes: &[u8], position: u64, size: u64| {
        let mut observer = Observer::default();
        observer.on_snapshot(id);
        let loaded = observer.on_piece(position, bytes, size);
        loaded.map(|changes| (changes.is_some(), observer.image().clone()))
    };
    let image = leader.loader.image().clone();
    assert_eq!(load(&whole, 0, size).unwrap(), (true, image.clone()));
    assert!(
        load(&whole, 1, size + 1).is_err(),
        "the beginning is missing"
    );
    assert!(load(&whole, 0, size - 1).is_err(), "more than there is");
    assert!(load(&[], 0, size).is_err(), "no progress");
    let cut = whole.len() - 80;
    assert!(load(&whole[..cut], 0, cut as u64).is_err(), "no footer");
    for position in (16..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        // Offsets and epochs inside of a snapshot mean nothing, and lie outside of the CRC.
        if let Ok(loaded) = load(&damaged, 0, size) {
            assert_eq!(loaded, (true, image.clone()), "at {position}");
        }
    }
    let mut observer = Observer::default();
    observer.on_snapshot(id);
    observer.on_snapshot_gone();
    assert_eq!(observer.wanted(), Wanted::Batches(FollowerEnd::default()));
}
