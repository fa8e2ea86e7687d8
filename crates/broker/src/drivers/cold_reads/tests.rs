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

use super::pieces::{Asked, SIZE};
use super::{ColdReads, KEPT_BYTES, Loading, Records, SEARCHED};
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

fn asked(position: u64) -> Asked {
    Asked {
        position,
        end: position + 1000,
        committed_end: FILE_BYTES as u64,
    }
}

/// A thousand bytes from 1000 on.
fn records(reads: &ColdReads<Simulated>, log: &Log, file: &Arc<SimulatedFile>) -> Records {
    reads.read(log, file, (&asked(1000), 1000))
}

fn loading(records: Records) -> Loading {
    match records {
        Records::Loading(loading) => loading,
        Records::Read(bytes) => panic!("{} bytes are in memory", bytes.len()),
    }
}

async fn waits(loading: &mut Loading) -> bool {
    let poll = |context: &mut std::task::Context<'_>| {
        Poll::Ready(loading.0.as_mut().poll(context).is_pending())
    };
    poll_fn(poll).await
}

/// Waits until no thread is taken.
async fn settled(reads: &ColdReads<Simulated>, log: &Log) {
    // What was started waits for a thread from now on.
    tokio::task::yield_now().await;
    drop(reads.take_all_threads(log.path()).await);
}

#[tokio::test]
async fn records_are_read_past_the_page_cache_and_ahead_of_a_sequential_reader() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    let read = loading(records(&reads, &log, &file)).wait().await;
    assert_eq!(read.unwrap().unwrap(), vec![1; 1000]);
    settled(&reads, &log).await;
    assert_eq!(reads.loaded(), 1);
    let Records::Read(bytes) = reads.read(&log, &file, (&asked(SIZE as u64 - 10), 1000)) else {
        panic!("it is in memory");
    };
    assert_eq!(bytes, vec![1; 10], "as many as are in one piece");
    settled(&reads, &log).await;
    assert_eq!(reads.loaded(), 5, "four are read ahead");
    assert!(!file.is_cached(0, 1) && !file.is_cached(SIZE as u64, 1));
}

#[tokio::test]
async fn what_a_search_misses_is_cached_with_what_lies_around_it() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    let missing = Missing {
        file: Arc::clone(&file),
        position: 4 * SEARCHED - 4,
        length: 8,
    };
    let loaded = reads.load_missing(&log, missing).wait().await.unwrap();
    assert_eq!(loaded, None);
    assert!(file.is_cached(3 * SEARCHED, 2 * SEARCHED));
    assert!(!file.is_cached(3 * SEARCHED - 1, 1) && !file.is_cached(5 * SEARCHED, 1));
}

#[tokio::test]
async fn uncommitted_records_are_read_into_the_page_cache() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    let asked = Asked {
        committed_end: 1000,
        ..asked(1000)
    };
    let mut loading = loading(reads.read(&log, &file, (&asked, 1000)));
    assert_eq!(loading.wait().await.unwrap(), None);
    assert!(file.is_cached(1000, 1000));
}

#[tokio::test]
async fn records_are_cached_when_the_memory_for_pieces_is_used_up() {
    let (_disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    let buffers = Arc::clone(&reads.of(log.path()).buffers);
    let taken: Vec<_> = std::iter::from_fn(|| buffers.lend()).collect();
    let mut loading = loading(records(&reads, &log, &file));
    assert_eq!(loading.wait().await.unwrap(), None);
    assert!(file.is_cached(1000, 1000));
    drop(taken);
}

#[tokio::test]
async fn a_reader_waits_for_a_thread_and_others_pass_it_when_it_leaves() {
    let (_disk, log, file) = cold("/a");
    let (_other_disk, other_log, other_file) = cold("/b");
    let reads = reads_of([&log, &other_log]);
    let taken = reads.take_all_threads(log.path()).await;

    let mut first = loading(records(&reads, &log, &file));
    let far = asked(8 * SIZE as u64);
    let mut second = loading(reads.read(&log, &file, (&far, 1000)));
    assert!(waits(&mut first).await && waits(&mut second).await);
    let mut elsewhere = loading(records(&reads, &other_log, &other_file));
    elsewhere.wait().await.unwrap();
    assert_eq!(reads.loaded(), 1, "no thread was free");

    drop(first);
    drop(taken);
    second.wait().await.unwrap();
    drop(second);
    settled(&reads, &log).await;
    assert_eq!(reads.loaded(), 2, "nothing is read for a reader that left");
    assert_eq!(Arc::strong_count(&file), 1, "nobody holds the file");
}

#[tokio::test]
async fn a_read_that_fails_takes_the_directory_offline_for_all_who_wait() {
    let (disk, log, file) = cold("/a");
    let reads = reads_of([&log]);
    // Of the two threads only one is free: so the other has not begun to read when the disk fails.
    let mut taken = reads.take_all_threads(log.path()).await;
    disk.fail_nth(Operation::Read, 1, ErrorKind::Other);
    let mut both = [0; 2].map(|_| loading(records(&reads, &log, &file)));
    drop(taken.split(1));
    for loading in &mut both {
        let failed = loading.wait().await;
        assert!(matches!(failed, Err(StorageError::Offline { .. })));
    }
    assert!(log.failure().is_some());
    assert_eq!(disk.count(Operation::Read), 1, "nothing is read again");
}

#[tokio::test]
async fn a_sync_goes_first() {
    let (disk, log, file) = cold("/a");
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
    let missing = Missing {
        file: Arc::clone(&file),
        position: 0,
        length: 8,
    };
    let mut both = [
        loading(records(&reads, &log, &file)),
        reads.load_missing(&log, missing),
    ];
    // Nothing is asserted before the sync ends: a test that fails must not leave threads behind that wait for it.
    let mut is_early = false;
    for loading in &mut both {
        let early = tokio::time::timeout(Duration::from_millis(100), loading.wait()).await;
        is_early |= early.is_ok();
    }
    let early = disk.count(Operation::Read);
    end.wait();
    sync.unwrap().join().unwrap();
    for loading in &mut both {
        loading.wait().await.unwrap();
    }
    assert!(!is_early);
    assert_eq!((early, disk.count(Operation::Read)), (0, 2));
}

#[test]
fn what_was_cached_is_dropped_when_enough_came_after_it() {
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
