//! Cold reads over a simulated disk.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use ottla_log::files::simulated::{Simulated, SimulatedFile};
use ottla_log::files::{File, Files, Open, Operation};
use ottla_log::{LogDirectory, Missing, StorageError};

use super::{AHEAD, ColdReads, KEPT_BYTES, Loading, PIECE};
use crate::drivers::syncs::Syncs;

type Log = Arc<LogDirectory<Simulated>>;

const FILE_BYTES: usize = 8 << 20;

/// A disk with a log directory, and a file in it of which nothing is in the page cache.
fn cold(path: &str) -> (Simulated, Log, Arc<SimulatedFile>) {
    let disk = Simulated::new();
    disk.create_directory(Path::new(path)).unwrap();
    let file = Path::new(path).join("0.log");
    let file = Arc::new(disk.open(&file, Open::Create).unwrap());
    file.write_at(&[IoSlice::new(&vec![1; FILE_BYTES])], 0)
        .unwrap();
    disk.forget_all_cached();
    let log = LogDirectory::new(disk.clone(), path);
    (disk, log, file)
}

fn reads_of<const N: usize>(logs: [&Log; N]) -> ColdReads<Simulated> {
    ColdReads::new(logs.map(|log| (log.path().to_path_buf(), Arc::default())))
}

fn piece_at(position: u64, file: &Arc<SimulatedFile>) -> Missing<SimulatedFile> {
    Missing {
        file: Arc::clone(file),
        position,
        length: PIECE,
    }
}

fn piece(file: &Arc<SimulatedFile>) -> Missing<SimulatedFile> {
    piece_at(1000, file)
}

async fn waits(loading: &mut Loading) -> bool {
    let poll = |context: &mut std::task::Context<'_>| {
        Poll::Ready(loading.0.as_mut().poll(context).is_pending())
    };
    poll_fn(poll).await
}

/// Waits until no turn is taken: what is read ahead has been read.
async fn settled(reads: &ColdReads<Simulated>, log: &Log) {
    drop(reads.take_all_turns(log.path()).await);
}

#[tokio::test]
async fn a_piece_is_brought_in_and_a_sequential_reader_is_read_ahead_of() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    let mut first = reads.queue(Arc::clone(&log), piece(&file));
    first.wait().await.unwrap();
    settled(&reads, &log).await;
    let end = 1000 + PIECE as u64;
    assert!(file.is_cached(1000, PIECE as u64));
    assert!(!file.is_cached(end + 4096, 1), "nobody asked for more");

    // A batch was cut short: the reader takes it from its beginning.
    let next = piece_at(end - 500, &file);
    reads.queue(Arc::clone(&log), next).wait().await.unwrap();
    settled(&reads, &log).await;
    assert!(file.is_cached(end, PIECE as u64 - 500 + AHEAD));
    assert!(!file.is_cached(0, FILE_BYTES as u64));
    assert_eq!(reads.loaded(), 2);
}

#[tokio::test]
async fn what_a_search_lacks_is_brought_in_with_what_lies_around_it() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    let missing = Missing {
        length: 8,
        ..piece_at(3 * PIECE as u64 + 100, &file)
    };
    reads.load_missing(&log, missing).wait().await.unwrap();
    assert!(file.is_cached(3 * PIECE as u64, PIECE as u64));
    assert!(!file.is_cached(2 * PIECE as u64, 1) && !file.is_cached(4 * PIECE as u64, 1));
}

#[tokio::test]
async fn a_reader_waits_for_its_turn_and_others_pass_it_when_it_goes_away() {
    let (_disk, log, file) = cold("/a");
    let (_other_disk, other_log, other_file) = cold("/b");
    let reads = reads_of([&log, &other_log]);
    let taken = reads.take_all_turns(log.path()).await;

    let mut first = reads.queue(Arc::clone(&log), piece(&file));
    let mut second = reads.queue(Arc::clone(&log), piece(&file));
    assert!(waits(&mut first).await && waits(&mut second).await);
    let mut elsewhere = reads.queue(other_log, piece(&other_file));
    elsewhere.wait().await.unwrap();
    assert!(!file.is_cached(1000, 1), "no turn was free");

    drop(first);
    drop(taken);
    second.wait().await.unwrap();
    drop(second);
    settled(&reads, &log).await;
    assert!(file.is_cached(1000, PIECE as u64));
    assert_eq!(Arc::strong_count(&file), 1, "nobody holds the file");
}

#[tokio::test]
async fn a_read_that_fails_takes_the_directory_offline_for_those_who_wait() {
    let (disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    disk.fail_nth(Operation::Read, 1, ErrorKind::Other);
    for _ in 0..2 {
        let failed = reads.queue(Arc::clone(&log), piece(&file)).wait().await;
        assert!(matches!(failed, Err(StorageError::Offline { .. })));
    }
    assert!(log.failure().is_some());
    assert_eq!(disk.count(Operation::Read), 1, "nothing is read again");
}

#[tokio::test]
async fn a_sync_goes_first() {
    let (_disk, log, file) = cold("/a");
    let syncs = Arc::new(Syncs::waited_for(Duration::from_hours(1)));
    let reads = ColdReads::new([(log.path().to_path_buf(), Arc::clone(&syncs))]);
    let (begun, end) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (has_begun, may_end) = (Arc::clone(&begun), Arc::clone(&end));
    let sync = std::thread::Builder::new().spawn(move || {
        syncs.run(|| {
            has_begun.wait();
            may_end.wait();
        });
    });
    begun.wait();
    let mut loading = reads.queue(Arc::clone(&log), piece(&file));
    let early = tokio::time::timeout(Duration::from_millis(100), loading.wait()).await;
    assert!(early.is_err() && !file.is_cached(1000, 1));
    end.wait();
    sync.unwrap().join().unwrap();
    loading.wait().await.unwrap();
    assert!(file.is_cached(1000, PIECE as u64));
}

#[test]
fn what_was_brought_in_is_dropped_when_enough_came_after_it() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]).of(log.path());
    file.prefetch(0, FILE_BYTES as u64);
    reads.keep(&file, 0, 4096);
    reads.keep(&file, 4096, KEPT_BYTES - 4096);
    assert!(file.is_cached(0, FILE_BYTES as u64));
    reads.keep(&file, 1 << 20, 1);
    assert!(!file.is_cached(0, 4096));
    assert!(file.is_cached(4096, 4096));
}
