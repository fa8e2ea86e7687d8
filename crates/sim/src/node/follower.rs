//! The driver that takes over what the controller commits: each directory applies its part, then the image is published,
//! and the replies leave. A stalled directory is not waited for.

use std::collections::{BTreeSet, VecDeque};

use ottla_controller::ControllerReply;
use ottla_controller::active::Published;
use ottla_metadata::{Changes, MetadataImage};
use ottla_replica::stalls::STALLED_AFTER;

use super::controller::Caller;
use super::{NodeEvent, Process, now};
use crate::outside::Outside;

#[derive(Debug, Default)]
pub struct Follower {
    pub committed: VecDeque<Published<Caller>>,
    current: Option<Current>,
}

/// What is being taken over.
#[derive(Debug)]
struct Current {
    image: MetadataImage,
    changes: Changes,
    replies: Vec<(Caller, ControllerReply)>,
    /// The directories that have not answered yet.
    open: BTreeSet<usize>,
}

impl Process {
    pub(super) fn follow(&mut self, outside: &mut Outside) {
        while self.follower.current.is_none()
            && let Some(published) = self.follower.committed.pop_front()
        {
            match published.metadata {
                Some((image, changes)) => {
                    self.take_over(image, changes, published.replies, outside);
                }
                None => self.release(published.replies, outside),
            }
        }
    }

    fn take_over(
        &mut self,
        image: MetadataImage,
        changes: Changes,
        replies: Vec<(Caller, ControllerReply)>,
        outside: &mut Outside,
    ) {
        let mut open = BTreeSet::new();
        for job in self.replicas.plan(&image, &changes, now(outside).monotonic) {
            let number = self.replicas.number_of(job.directory());
            match &mut self.directories[number].job {
                Some(earlier) => earlier.add(job),
                none => *none = Some(job),
            }
            open.insert(number);
            let delay = outside.between(20, 4_000);
            self.later(delay, NodeEvent::Apply(number), outside);
        }
        if !open.is_empty() {
            self.later(STALLED_AFTER, NodeEvent::LookAtStalls, outside);
        }
        self.follower.current = Some(Current {
            image,
            changes,
            replies,
            open,
        });
        self.publish_if_applied(outside);
    }

    /// A directory has done what it was to do.
    pub(super) fn on_applied(&mut self, number: usize, outside: &mut Outside) {
        let current = self.follower.current.as_mut();
        let was_awaited = current.is_some_and(|current| current.open.remove(&number));
        if !was_awaited {
            // It was late: its partitions are there now.
            self.reconcile(outside);
        }
        self.publish_if_applied(outside);
    }

    pub(super) fn look_at_stalls(&mut self, outside: &mut Outside) {
        let now = outside.now().monotonic;
        let Some(current) = &mut self.follower.current else {
            return;
        };
        let directories = &self.directories;
        let is_stalled = |number: usize| directories[number].directory.stalls.is_stalled(now);
        current.open.retain(|number| !is_stalled(*number));
        if !current.open.is_empty() {
            self.later(STALLED_AFTER / 20, NodeEvent::LookAtStalls, outside);
        }
        self.publish_if_applied(outside);
    }

    fn publish_if_applied(&mut self, outside: &mut Outside) {
        let current = &mut self.follower.current;
        let Some(current) = current.take_if(|current| current.open.is_empty()) else {
            return;
        };
        self.image = current.image;
        outside.note("published", [self.image.topics.len() as i64, 0, 0]);
        self.reconcile(outside);
        for (id, name) in current.changes.deleted_topics {
            self.on_topic_deleted(name, id, outside);
        }
        self.release(current.replies, outside);
        self.follow(outside);
    }

    fn release(&mut self, replies: Vec<(Caller, ControllerReply)>, outside: &mut Outside) {
        for (caller, reply) in replies {
            self.on_reply(caller, reply, outside);
        }
    }
}
