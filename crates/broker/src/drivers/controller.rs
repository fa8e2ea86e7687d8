//! The two threads of the controller.
//!
//! `ottla_controller` makes all decisions, and decides when a reply may leave. The controller's thread passes requests to it
//! and proposes its records; it touches no log directory of the partitions. The follower's thread applies committed records,
//! whether this controller leads or not: it creates and removes partitions, which waits for disks. Then it publishes the
//! image, and sends the replies that depend on it, in order. So a slow directory delays replies, but neither decisions nor
//! commits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as channel};
use std::time::Duration;

use ottla_controller::UncleanElection;
use ottla_controller::active::Published;
use ottla_controller::{Member, Quorum, Settings};
use ottla_metadata::{Changes, Loader, MetadataImage};
use ottla_protocol::ids::Offset;
use tokio::sync::{mpsc, watch};

use super::stopping::stopped;
use crate::cluster::channel::{Caller, Controller, Request};
use crate::cluster::sessions::Sessions;

/// How soon a follower sees that partitions are about to be opened.
const LOOK: Duration = Duration::from_millis(10);

/// A quorum that the controller's thread drives.
pub trait DrivenQuorum: Quorum {
    /// Completes when there may be events. It may be dropped and called again at any time.
    fn wait(&mut self) -> impl Future<Output = ()>;
    /// The controller ends, after the last turn.
    fn close(self);
}

/// The state that the controller's thread owns.
pub struct ControllerLoop<Q> {
    requests: mpsc::Receiver<Request>,
    member: Member<Caller>,
    quorum: Q,
    committed: channel::Sender<Published<Caller>>,
    sessions: Arc<Sessions>,
}

/// The state that the follower's thread owns.
pub struct Follower {
    committed: channel::Receiver<Published<Caller>>,
    publish: watch::Sender<Arc<MetadataImage>>,
    applied: watch::Sender<Offset>,
}

/// The metadata that a [`Follower`] has applied.
#[derive(Debug, Clone)]
pub struct Applied {
    pub image: watch::Receiver<Arc<MetadataImage>>,
    /// All records before it are in the image.
    pub end: watch::Receiver<Offset>,
}

/// A follower that starts from committed metadata, which ends at `end`: what it publishes, the channel to it, and its state.
pub fn follower(
    image: MetadataImage,
    end: Offset,
) -> (Applied, channel::Sender<Published<Caller>>, Follower) {
    let (publish, image) = watch::channel(Arc::new(image));
    let (applied, end) = watch::channel(end);
    // At most as many wait as there are callers, each of whom waits for a reply.
    let (committed, to_follow) = channel::channel();
    let follower = Follower {
        committed: to_follow,
        publish,
        applied,
    };
    (Applied { image, end }, committed, follower)
}

/// A controller that starts from committed metadata: its handle, and the state of its two threads.
pub fn controller<Q: Quorum>(
    metadata: Loader,
    settings: Settings,
    quorum: Q,
    sessions: Arc<Sessions>,
) -> (Controller, ControllerLoop<Q>, Follower) {
    let image = metadata.image().clone();
    let (applied, committed, follower) = follower(image, quorum.next_offset());
    let (handle, requests) = Controller::new(applied, Arc::clone(&sessions));
    let owner = ControllerLoop {
        requests,
        member: Member::new(metadata, quorum.next_offset(), settings),
        quorum,
        committed,
        sessions,
    };
    (handle, owner, follower)
}

impl<Q: DrivenQuorum> ControllerLoop<Q> {
    /// The first turn of the only controller, which leads with it. What it commits waits for the follower. If the first
    /// records of a new cluster are refused, so is the start.
    pub fn begin_alone(&mut self) -> Result<(), Q::Error> {
        match self.turn(None)? {
            Some(refused) if !self.member.has_begun() => Err(refused),
            _ => Ok(()),
        }
    }

    /// Follows the quorum, decides and proposes, until it is stopped, every handle is gone or the log ends.
    ///
    /// While a proposal waits to be committed, requests are collected for the next one.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) -> Result<(), Q::Error> {
        let mut first = None;
        loop {
            self.turn(first.take())?;
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => break,
                () = self.quorum.wait() => {}
                request = self.requests.recv(), if !self.member.is_proposing() => match request {
                    Some(request) => first = Some(request),
                    None => break,
                },
            }
        }
        self.quorum.close();
        Ok(())
    }

    /// Returns why the proposal was refused.
    fn turn(&mut self, first: Option<Request>) -> Result<Option<Q::Error>, Q::Error> {
        let is_free = !self.member.is_proposing();
        let waiting =
            std::iter::from_fn(|| is_free.then(|| self.requests.try_recv().ok()).flatten());
        let requests = first.into_iter().chain(waiting);
        let turn = self.member.turn(requests, &mut self.quorum)?;
        match turn.leads {
            Some(true) => self.sessions.begin(self.member.image()),
            Some(false) => self.sessions.end(),
            None => {}
        }
        for published in turn.published {
            // A follower that has ended has published its last image; the callers are told by the closed channel.
            let _ = self.committed.send(published);
        }
        if let Some(error) = &turn.refused {
            // The callers are told that the controller is not available, and ask again.
            tracing::error!(%error, "metadata was not changed");
        }
        Ok(turn.refused)
    }
}

impl Follower {
    /// Begins at later metadata than it was made with.
    pub fn begin_at(&self, image: MetadataImage, end: Offset) {
        self.publish.send_replace(Arc::new(image));
        self.applied.send_replace(end);
    }

    /// Publishes what is committed already. No partition is open, so nothing has to be applied.
    pub fn catch_up(&self) {
        while let Ok(published) = self.committed.try_recv() {
            self.follow(published, &mut |_, _| {}, &|_| {});
        }
    }

    /// Applies what is committed until the controller has ended.
    ///
    /// `apply` is called with each new image before it is published and before any reply that depends on it: a topic whose
    /// creation was answered has its partitions. It may wait for disks.
    /// `elected` is called with each election that may lose records.
    pub fn run(
        self,
        mut apply: impl FnMut(&Arc<MetadataImage>, &Changes),
        elected: impl Fn(&UncleanElection),
    ) {
        while let Ok(published) = self.committed.recv() {
            self.follow(published, &mut apply, &elected);
        }
    }

    /// Publishes what is committed until partitions are about to be opened; nothing has to be applied before that.
    #[must_use]
    pub fn run_until(self, is_opening: &AtomicBool, elected: impl Fn(&UncleanElection)) -> Self {
        while !is_opening.load(Ordering::Acquire) {
            if let Ok(published) = self.committed.recv_timeout(LOOK) {
                self.follow(published, &mut |_, _| {}, &elected);
            }
        }
        self
    }

    fn follow(
        &self,
        published: Published<Caller>,
        apply: &mut impl FnMut(&Arc<MetadataImage>, &Changes),
        elected: &impl Fn(&UncleanElection),
    ) {
        published.unclean_elections.iter().for_each(elected);
        if let Some((image, changes)) = published.metadata {
            let image = Arc::new(image);
            apply(&image, &changes);
            self.publish.send_replace(image);
        }
        self.applied.send_replace(published.end);
        for (caller, reply) in published.replies {
            // A caller that went away wants no reply.
            let _ = caller.send(reply);
        }
    }
}

#[cfg(test)]
mod tests;
