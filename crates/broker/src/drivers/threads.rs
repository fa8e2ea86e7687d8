//! Named threads that are joined in the end. A panic in one is logged.
//!
//! A thread runs each piece of its work through [`caught`], so that a panic ends that piece and not the thread.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// A thread that is joined in the end.
#[derive(Debug)]
pub struct Thread {
    thread: JoinHandle<()>,
}

impl Thread {
    /// Starts a thread of this name.
    pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let thread = Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { thread })
    }

    /// Waits for the end of the thread, and logs it if that was a panic.
    pub fn join(self) {
        let name = self.thread.thread().name().unwrap_or_default().to_owned();
        if self.thread.join().is_err() {
            tracing::error!(thread = name, "a thread panicked; see above, and report it");
        }
    }
}

/// Threads of one kind, by number.
#[derive(Debug, Default)]
pub struct Threads {
    threads: Mutex<BTreeMap<usize, Thread>>,
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread `KIND-NUMBER`. An earlier one of this number must be ending: it is joined.
    pub fn start(
        &self,
        kind: &str,
        number: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let worker = Thread::start(&format!("{kind}-{number}"), work)?;
        let earlier = self.lock().insert(number, worker);
        if let Some(earlier) = earlier {
            earlier.join();
        }
        Ok(())
    }

    /// Waits for the thread of this number, if there is one.
    pub fn join(&self, number: usize) {
        let worker = self.lock().remove(&number);
        if let Some(worker) = worker {
            worker.join();
        }
    }

    /// Waits for all of them.
    pub fn join_all(&self) {
        let workers = std::mem::take(&mut *self.lock());
        workers.into_values().for_each(Thread::join);
    }
}

/// A piece of work that ended in a panic, with its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

/// Runs a piece of work and returns its panic as an error.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Panicked(message.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::{Panicked, Threads, caught};
    use std::sync::mpsc;

    #[test]
    fn a_panic_in_one_thread_does_not_keep_the_others_from_being_joined() {
        let (say, said) = mpsc::channel();
        let workers = Threads::default();
        workers
            .start("panics", 0, || panic!("a broken invariant"))
            .unwrap();
        for number in [1, 2] {
            let say = say.clone();
            let work = move || {
                say.send(std::thread::current().name().map(str::to_owned))
                    .unwrap();
            };
            workers.start("works", number, work).unwrap();
        }
        drop(say);
        workers.join(1);
        workers.join_all();
        let mut names: Vec<_> = said.into_iter().flatten().collect();
        names.sort();
        assert_eq!(names, ["works-1", "works-2"]);
    }

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let offset = std::hint::black_box(7);
        let panicked = caught(|| -> u32 { panic!("no batch at {offset}") });
        assert_eq!(panicked, Err(Panicked("no batch at 7".to_owned())));
        assert_eq!(caught(|| 1), Ok(1));
    }
}
