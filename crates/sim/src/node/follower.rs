//! The driver that takes over what the controller commits: each directory applies its part, then the image is published,
//! and the replies leave. A stalled directory is not waited for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_controller::active::Published;
use ottla_metadata::{Changes, MetadataImage};
use ottla_replica::stalls::STALLED_AFTER;

use super::directories::Directories;
use super::event::{NodeEvent, ProcessId};
use super::host::{Caller, Replicas};
use crate::outside::Outside;

#[derive(Debug)]
pub struct Follower {
    process: ProcessId,
    replicas: Arc<Replicas>,
    committed: VecDeque<Published<Caller>>,
    current: Option<Current>,
}

/// What is being taken over.
#[derive(Debug)]
struct Current {
    published: Published<Caller>,
    /// The directories that have not answered yet.
    open: BTreeSet<usize>,
}

impl Follower {
    pub fn new(process: ProcessId, replicas: Arc<Replicas>) -> Self {
        Self {
            process,
            replicas,
            committed: VecDeque::new(),
            current: None,
        }
    }

    /// Something is committed, and will be taken over soon.
    pub fn on_committed(&mut self, committed: Vec<Published<Caller>>, outside: &mut Outside) {
        self.committed.extend(committed);
        let delay = outside.between(50, 5_000);
        outside.later(self.process, delay, NodeEvent::Follow);
    }

    /// Begins with the next commit unless one is being taken over; returns it if no directory has to be waited for.
    pub fn next(
        &mut self,
        directories: &mut Directories,
        outside: &mut Outside,
    ) -> Option<Published<Caller>> {
        if self.current.is_some() {
            return None;
        }
        let published = self.committed.pop_front()?;
        let open = match &published.metadata {
            Some((image, changes)) => self.hand_out(image, changes, directories, outside),
            None => BTreeSet::new(),
        };
        self.current = Some(Current { published, open });
        self.take_applied()
    }

    /// Gives each directory its part of a change; returns their numbers.
    fn hand_out(
        &self,
        image: &MetadataImage,
        changes: &Changes,
        directories: &mut Directories,
        outside: &mut Outside,
    ) -> BTreeSet<usize> {
        let mut open = BTreeSet::new();
        for job in self.replicas.plan(image, changes, outside.now().monotonic) {
            let number = self.replicas.number_of(job.directory());
            directories.give(number, job, outside);
            open.insert(number);
        }
        if !open.is_empty() {
            outside.later(self.process, STALLED_AFTER, NodeEvent::LookAtStalls);
        }
        open
    }

    /// A directory has done what it was to do; returns whether that was awaited.
    pub fn on_applied(&mut self, number: usize) -> bool {
        let current = self.current.as_mut();
        current.is_some_and(|current| current.open.remove(&number))
    }

    /// Waits no longer for directories that are stalled.
    pub fn look_at_stalls(&mut self, directories: &Directories, outside: &mut Outside) {
        let now = outside.now().monotonic;
        let Some(current) = &mut self.current else {
            return;
        };
        let is_stalled = |number: usize| directories.get(number).stalls.is_stalled(now);
        current.open.retain(|number| !is_stalled(*number));
        if !current.open.is_empty() {
            outside.later(self.process, STALLED_AFTER / 20, NodeEvent::LookAtStalls);
        }
    }

    /// What every directory has applied, once: its image is published now, and its replies leave.
    pub fn take_applied(&mut self) -> Option<Published<Caller>> {
        let applied = self.current.take_if(|current| current.open.is_empty())?;
        Some(applied.published)
    }
}
