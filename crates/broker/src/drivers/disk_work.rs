//! Work on the runtime's threads that may block on a disk: a write, a read that is not cached, a partition's lock whose
//! holder waits for the disk.
//!
//! Such work runs where it is called, as long as another thread of the runtime is free. The last free thread is never
//! used: the work then moves to a thread of its own (`block_in_place`). So heartbeats, reads of metadata and requests
//! for other disks are served whatever one disk does. A thread that takes an event off the sockets and then blocks
//! wakes no other thread to wait for the next event; a [`Watch`] does, once the work has not ended for a while. One
//! task may still wait for a blocked thread: the one that the thread woke last (tokio's LIFO slot), which no other
//! thread may take.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Upper bound of the threads for blocked work. Beyond it, tasks wait for a thread.
pub const MAX_HELD_UP: usize = 4096;

/// The interval of a [`Watch`].
pub const LOOK: Duration = Duration::from_millis(100);

/// Threads of the runtime: one for each core, and the one that never blocks.
pub const fn runtime_threads(cores: usize) -> usize {
    cores.saturating_add(1)
}

/// Runs work that takes long on a thread of its own, and waits for it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Looking something up panicked. The caller must report that, and not an empty result.
#[derive(Debug, thiserror::Error)]
#[error("looking at the broker panicked; see its log, and report it")]
pub struct NotLooked;

/// Runs work as [`blocking`] does; a panic is returned as an error.
pub async fn look<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotLooked> {
    let looked = tokio::task::spawn_blocking(work).await;
    looked.map_err(|_| NotLooked)
}

/// Counts the threads of a runtime that run work which may block on a disk.
#[derive(Debug)]
pub struct DiskWork {
    /// One for each thread but the last. It counts beginnings and ends of work, so it is odd while work runs there.
    places: Vec<AtomicU64>,
    moves: bool,
}

/// A place where work runs, until this is dropped.
struct Taken<'a>(&'a AtomicU64);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl DiskWork {
    /// For the runtime that this is called on.
    pub fn of_runtime() -> Arc<Self> {
        let threads = Handle::try_current().ok().and_then(|runtime| {
            let moves = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
            moves.then(|| runtime.metrics().num_workers())
        });
        let places = (1..threads.unwrap_or(1)).map(|_| AtomicU64::new(0));
        Arc::new(Self {
            places: places.collect(),
            moves: threads.is_some(),
        })
    }

    /// Runs work that may block on a disk.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.take() {
            Some(_taken) => work(),
            None if self.moves => block_in_place(work),
            None => work(),
        }
    }

    /// Runs a future that may block on a disk in any poll.
    pub async fn run_async<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let poll = |context: &mut Context<'_>| -> Poll<F::Output> {
            self.run(|| future.as_mut().poll(context))
        };
        poll_fn(poll).await
    }

    fn take(&self) -> Option<Taken<'_>> {
        let takes = |place: &&AtomicU64| {
            let count = place.load(Ordering::Relaxed);
            let take =
                || place.compare_exchange(count, count + 1, Ordering::Acquire, Ordering::Relaxed);
            count.is_multiple_of(2) && take().is_ok()
        };
        self.places.iter().find(takes).map(Taken)
    }

    fn counts(&self) -> Vec<u64> {
        let counts = self.places.iter();
        counts.map(|place| place.load(Ordering::Acquire)).collect()
    }
}

/// Notices work that has blocked a thread of the runtime for a while.
#[derive(Debug)]
pub struct Watch {
    disk_work: Arc<DiskWork>,
    runtime: Handle,
    before: Vec<u64>,
}

impl Watch {
    /// Over `disk_work`, on the runtime that this is called on.
    pub fn new(disk_work: &Arc<DiskWork>) -> Self {
        Self {
            disk_work: Arc::clone(disk_work),
            runtime: Handle::current(),
            before: disk_work.counts(),
        }
    }

    /// Wakes a thread of the runtime if work that ran at the last look still runs. The thread then waits for sockets
    /// and timers in the place of the blocked one.
    pub fn look(&mut self) {
        let counts = self.disk_work.counts();
        let mut works = counts.iter().zip(&self.before);
        if works.any(|(now, then)| now == then && !now.is_multiple_of(2)) {
            drop(self.runtime.spawn(async {}));
        }
        self.before = counts;
    }
}

#[cfg(test)]
mod tests {
    use super::{DiskWork, LOOK, Watch};
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Barrier, mpsc};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::{Builder, Runtime};

    fn runtime(threads: usize) -> (Runtime, Arc<DiskWork>) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .unwrap();
        let disk_work = runtime.block_on(async { DiskWork::of_runtime() });
        (runtime, disk_work)
    }

    /// Each request blocks on the disk as soon as its socket gives it to a thread; another is answered.
    #[test]
    fn requests_without_disk_are_answered_while_more_wait_than_there_are_threads() {
        let (runtime, disk_work) = runtime(3);
        let held_up = Arc::new(Barrier::new(9));
        let (stop, stopped) = mpsc::channel::<()>();
        let mut watch = runtime.block_on(async { Watch::new(&disk_work) });
        let watcher = std::thread::Builder::new()
            .spawn(move || {
                while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    watch.look();
                }
            })
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let disk = Arc::clone(&held_up);
        runtime.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (disk, disk_work) = (Arc::clone(&disk), Arc::clone(&disk_work));
                tokio::spawn(async move {
                    if stream.read_u8().await.unwrap() == b'w' {
                        disk_work.run(|| disk.wait());
                    }
                    stream.write_u8(b'a').await.unwrap();
                });
            }
        });
        let client = Builder::new_current_thread().enable_all().build().unwrap();
        client.block_on(async {
            let mut writers = Vec::new();
            for _ in 0..8 {
                let mut writer = TcpStream::connect(address).await.unwrap();
                writer.write_u8(b'w').await.unwrap();
                writers.push(writer);
                let mut other = TcpStream::connect(address).await.unwrap();
                other.write_u8(b'h').await.unwrap();
                assert_eq!(other.read_u8().await.unwrap(), b'a');
            }
            tokio::task::spawn_blocking(move || held_up.wait())
                .await
                .unwrap();
            for mut writer in writers {
                assert_eq!(writer.read_u8().await.unwrap(), b'a');
            }
        });
        drop(stop);
        watcher.join().unwrap();
    }

    #[test]
    fn a_panic_gives_the_thread_back() {
        let (runtime, disk_work) = runtime(3);
        for _ in 0..4 {
            let disk_work = Arc::clone(&disk_work);
            let work = runtime.spawn(async move { disk_work.run(|| panic!("a broken invariant")) });
            assert!(runtime.block_on(work).unwrap_err().is_panic());
        }
        let counts = disk_work
            .places
            .iter()
            .map(|place| place.load(Ordering::Relaxed));
        assert_eq!(counts.sum::<u64>(), 8, "four works began and ended");
    }
}
