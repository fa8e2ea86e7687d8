//! Work on the runtime's threads that may wait for a disk: a write that blocks, a read that is not cached, a
//! partition's lock that somebody holds who waits.
//!
//! Such work runs where it is called, without a hop, as long as another thread of the runtime is free of it. The
//! last one is never taken: its other tasks move to a thread of their own first. So whatever a disk does, heartbeats,
//! metadata and what lies on other disks is served. Threads are made only for what is held up, one for each such
//! connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Threads of the runtime for so many cores: one more than can be busy with disks at a time, unless it has to move.
pub const fn runtime_threads(cores: usize) -> usize {
    cores.saturating_add(1)
}

/// The most threads that are made for work that is held up. Beyond it, tasks wait for a thread.
pub const MAX_HELD_UP: usize = 4096;

/// What may wait for a disk on this runtime.
#[derive(Debug)]
pub struct DiskWork {
    /// The threads that may still be taken.
    free: AtomicIsize,
    moves: bool,
}

/// A thread that is taken.
struct Taken<'a>(&'a AtomicIsize);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl DiskWork {
    /// For the runtime that this is called on.
    pub fn of_runtime() -> Self {
        let threads = Handle::try_current().ok().and_then(|runtime| {
            let moves = runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
            moves.then(|| runtime.metrics().num_workers())
        });
        Self {
            free: AtomicIsize::new(threads.map_or(0, |threads| threads.cast_signed() - 1)),
            moves: threads.is_some(),
        }
    }

    /// Does work that may wait for a disk.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.take() {
            Some(_taken) => work(),
            None if self.moves => block_in_place(work),
            None => work(),
        }
    }

    /// Runs a future that may wait for a disk whenever it is polled.
    pub async fn run_async<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let poll = |context: &mut Context<'_>| -> Poll<F::Output> {
            self.run(|| future.as_mut().poll(context))
        };
        poll_fn(poll).await
    }

    fn take(&self) -> Option<Taken<'_>> {
        // Nothing is published by it: it only counts.
        if self.free.fetch_sub(1, Ordering::Acquire) > 0 {
            return Some(Taken(&self.free));
        }
        self.free.fetch_add(1, Ordering::Release);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::DiskWork;
    use std::sync::mpsc;
    use std::sync::{Arc, Barrier};

    /// The disk holds up more works than the runtime has threads; none of them ends before another task has run.
    #[test]
    fn works_that_are_held_up_leave_a_thread_to_the_others() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let held_up = Arc::new(Barrier::new(6));
        let disk_work = runtime.block_on(async { Arc::new(DiskWork::of_runtime()) });
        let (answered, answers) = mpsc::channel();
        let mut works = Vec::new();
        for _ in 0..5 {
            let (held_up, disk_work) = (Arc::clone(&held_up), Arc::clone(&disk_work));
            let (begun, begins) = mpsc::channel();
            works.push(runtime.spawn(async move {
                disk_work.run(|| {
                    begun.send(()).unwrap();
                    held_up.wait();
                });
            }));
            begins.recv().unwrap();
        }
        runtime.spawn(async move {
            tokio::task::yield_now().await;
            answered.send("heartbeat").unwrap();
        });
        assert_eq!(answers.recv(), Ok("heartbeat"));
        held_up.wait();
        for work in works {
            runtime.block_on(work).unwrap();
        }
    }

    #[test]
    fn a_panic_gives_the_thread_back() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(3)
            .build()
            .unwrap();
        let disk_work = runtime.block_on(async { Arc::new(DiskWork::of_runtime()) });
        for _ in 0..4 {
            let disk_work = Arc::clone(&disk_work);
            let work = runtime.spawn(async move { disk_work.run(|| panic!("a broken invariant")) });
            assert!(runtime.block_on(work).unwrap_err().is_panic());
        }
        assert_eq!(disk_work.free.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
