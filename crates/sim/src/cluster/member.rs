//! The process of a broker in a cluster: it follows the metadata, lives its life at the controller, serves clients and
//! followers, and fetches from leaders.
//!
//! Its logs are opened once it has applied its own registration. Each message and event goes to the driver that it is for.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_controller::active::Published;
use ottla_log::files::simulated::Simulated;
use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset, Uuid};
use ottla_replication::Answer;

use super::calls::{Calls, For};
use super::followers::{self, Asking, Followers, Wish};
use super::lifecycle::{Lifecycle, Stage};
use super::observing::Observing;
use super::replicating::Replicating;
use crate::between::{Between, Content};
use crate::messages::{Place, ReplyTo, Request};
use crate::node::Broker;
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::node::host::{Found, Mailbox, Replicas};
use crate::node::start::{directories, new_replicas, open_replicas};
use crate::outside::Outside;

const HEARTBEAT: (u64, u64) = (200_000, 350_000);
/// The pace of heartbeats until the broker serves, and while it stops.
const HURRIED_HEARTBEAT: (u64, u64) = (20_000, 60_000);
/// Half of `replica.lag.time.max.ms`, at most.
const LOOK_AT_ISRS: Duration = Duration::from_millis(700);

#[derive(Debug)]
pub struct Member {
    pub id: ProcessId,
    pub lifecycle: Lifecycle,
    observing: Observing,
    calls: Calls,
    /// The partitions, until they are open.
    unopened: Option<Replicas>,
    mailbox: Mailbox,
    broker: Option<Broker>,
    /// The ends of the images that the broker was given and has not published.
    given: VecDeque<Offset>,
    /// How many of them it has published, and the last metadata offset among them.
    published: u64,
    applied: Offset,
    followers: Followers,
    replicating: Replicating,
    is_serving: bool,
}

impl Member {
    /// Starts a process: it fetches metadata, and asks to be registered.
    pub fn start(
        id: ProcessId,
        controllers: &[NodeId],
        disk: &Simulated,
        outside: &mut Outside,
    ) -> Result<Self, Failed> {
        let mailbox = Mailbox::default();
        let replicas = new_replicas(id.node, directories(id.node, disk, &mailbox));
        let previous_epoch = replicas.previous_epoch()?;
        for event in [
            NodeEvent::FetchMetadata,
            NodeEvent::Beat,
            NodeEvent::LookAtIsrs,
        ] {
            let delay = outside.between(100, 20_000);
            outside.later(id, delay, event);
        }
        Ok(Self {
            id,
            lifecycle: Lifecycle::new(id, previous_epoch),
            observing: Observing::new(id, controllers),
            calls: Calls::new(id),
            unopened: Some(replicas),
            followers: Followers::new(id, mailbox.clone()),
            mailbox,
            broker: None,
            given: VecDeque::new(),
            published: 0,
            applied: Offset(-1),
            replicating: Replicating::new(id),
            is_serving: false,
        })
    }

    /// The broker, once its logs are open.
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// The metadata that it follows, and where it ends.
    pub fn followed(&self) -> (&MetadataImage, Offset) {
        (self.observing.image(), self.observing.applied())
    }

    pub fn broker_mut(&mut self) -> Option<&mut Broker> {
        self.broker.as_mut()
    }

    /// Whether it cannot go on.
    pub fn is_crippled(&self) -> bool {
        self.lifecycle.is_replaced()
    }

    /// Whether a log directory is offline.
    pub fn has_failed_directory(&self) -> bool {
        self.broker().is_some_and(Broker::is_crippled)
    }

    fn offline_directories(&self) -> Vec<Uuid> {
        let broker = self.broker.iter();
        let directories = broker.flat_map(|broker| broker.replicas.directories());
        let failed = directories.filter(|directory| directory.log.failure().is_some());
        failed
            .filter_map(|directory| directory.id.get().copied())
            .collect()
    }

    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside) -> Result<(), Failed> {
        let outcome = match event {
            NodeEvent::Beat => {
                self.beat(outside);
                Ok(())
            }
            NodeEvent::FetchMetadata => {
                let number = self.calls.number();
                self.observing.fetch(number, outside);
                Ok(())
            }
            NodeEvent::Fetch(place) => self.fetch(place, outside),
            NodeEvent::FollowerWaited(waiting) => {
                self.end_wait(waiting, outside);
                Ok(())
            }
            NodeEvent::LookAtIsrs => {
                self.look_at_isrs(outside);
                Ok(())
            }
            event => match &mut self.broker {
                Some(broker) => broker.on_event(event, outside),
                None => Ok(()),
            },
        };
        if let (NodeEvent::EndPass(_), Some(broker)) = (event, &self.broker) {
            self.replicating.tell_flushes(&broker.replicas, outside);
        }
        self.pass_on(outside);
        outcome
    }

    /// A client asks something.
    pub fn on_request(&mut self, to: ReplyTo, request: Request, outside: &mut Outside) {
        if let Some(broker) = &mut self.broker {
            broker.on_request(to, request, outside);
        }
        self.pass_on(outside);
    }

    /// Another node sends something.
    pub fn on_message(&mut self, message: Between, outside: &mut Outside) -> Result<(), Failed> {
        let Between {
            from,
            number,
            content,
            ..
        } = message;
        let outcome = match content {
            Content::Told(reply) => {
                if let Some((what, reply)) = self.calls.on_told(number, reply) {
                    self.on_told(what, reply.map(|reply| *reply), outside);
                }
                Ok(())
            }
            Content::Metadata(answer) => {
                let changes = self.observing.on_answer(number, answer, outside);
                self.calls.set_controller(self.observing.active());
                changes.map_or(Ok(()), |changes| self.on_metadata(changes, outside))
            }
            Content::Fetch(fetch) => {
                if let Some(broker) = &self.broker {
                    let asking = Asking { from, number };
                    let replicas = &broker.replicas;
                    let wish = self.followers.on_fetch(asking, fetch, replicas, outside);
                    self.alter(wish, outside);
                }
                Ok(())
            }
            Content::Fetched(answer) => match &self.broker {
                Some(broker) => {
                    let replicas = &broker.replicas;
                    self.replicating
                        .on_answer((number, &answer), replicas, outside)
                }
                None => Ok(()),
            },
            Content::Ask(_) | Content::FetchMetadata(..) | Content::Raft(_) => {
                panic!("a broker is asked what only a controller knows")
            }
        };
        self.pass_on(outside);
        outcome
    }

    fn on_told(
        &mut self,
        what: For,
        reply: Option<ottla_controller::ControllerReply>,
        outside: &mut Outside,
    ) {
        match (what, reply) {
            (For::Lifecycle, Some(reply)) => {
                self.lifecycle.on_reply(reply);
                self.on_life(outside);
            }
            (For::Lifecycle, None) => {}
            (For::Broker(caller), reply) => {
                if let Some(broker) = &mut self.broker {
                    match reply {
                        Some(reply) => broker.on_reply(caller, reply, outside),
                        None => broker.on_refused(caller, outside),
                    }
                }
            }
            (For::Isr(place, change), reply) => {
                let answer = followers::reply_of(reply);
                self.isr_answered(&(place, change), answer, outside);
            }
        }
    }

    fn isr_answered(&self, (place, change): &Wish, answer: Answer, outside: &mut Outside) {
        let broker = self.broker.as_ref();
        if let Some(Found::Here(partition)) =
            broker.map(|broker| broker.replicas.by_id(place.0, place.1))
        {
            outside.note(
                "isr is answered",
                [i64::from(place.1.0), change.isr.len() as i64, 0],
            );
            partition.isr_answered(change, answer, outside.now().monotonic);
        }
    }

    /// The controller has told how the broker is.
    fn on_life(&mut self, outside: &mut Outside) {
        if let (Some(broker), Some(epoch)) = (&mut self.broker, self.lifecycle.epoch()) {
            broker.set_epoch(epoch);
            self.replicating.set_epoch(epoch);
            if self.lifecycle.is_unfenced() && !self.is_serving {
                self.is_serving = true;
                broker.serve(outside);
            }
        }
    }

    fn beat(&mut self, outside: &mut Outside) {
        for what in self.calls.take_expired(outside.time()) {
            self.on_told(what, None, outside);
        }
        if !self.calls.waits_for(|what| *what == For::Lifecycle) {
            let offline = self.offline_directories();
            let image = self.observing.image();
            if let Some(request) = self.lifecycle.request(image, self.applied, offline) {
                self.calls.ask(For::Lifecycle, request, outside);
            }
        }
        let is_calm = self.is_serving && self.lifecycle.stage == Stage::Open;
        let (least, most) = if is_calm {
            HEARTBEAT
        } else {
            HURRIED_HEARTBEAT
        };
        let delay = outside.between(least, most);
        outside.later(self.id, delay, NodeEvent::Beat);
    }

    fn on_metadata(&mut self, changes: Changes, outside: &mut Outside) -> Result<(), Failed> {
        let end = self.observing.applied();
        if let Some(broker) = &mut self.broker {
            self.given.push_back(end);
            let published = Published {
                end,
                metadata: Some((self.observing.image().clone(), changes)),
                replies: Vec::new(),
                unclean_elections: Vec::new(),
            };
            broker.on_committed(vec![published], outside);
            return Ok(());
        }
        self.applied = Offset(end.0 - 1);
        let is_registered = self.lifecycle.epoch().is_some_and(|epoch| end.0 > epoch);
        match self.unopened.take_if(|_| is_registered) {
            Some(replicas) => self.open(replicas, outside),
            None => Ok(()),
        }
    }

    fn open(&mut self, replicas: Replicas, outside: &mut Outside) -> Result<(), Failed> {
        let image = self.observing.image().clone();
        let mut broker = Broker::new(self.id, replicas, image, self.mailbox.clone());
        let opened = open_replicas(&broker.replicas, &broker.image, outside.now());
        if let Some(epoch) = self.lifecycle.epoch() {
            broker.set_epoch(epoch);
            self.replicating.set_epoch(epoch);
        }
        self.broker = Some(broker);
        self.lifecycle.stage = Stage::Open;
        self.follow(outside);
        opened
    }

    fn fetch(&mut self, place: Place, outside: &mut Outside) -> Result<(), Failed> {
        let Some(broker) = &self.broker else {
            return Ok(());
        };
        let number = self.calls.number();
        self.replicating
            .fetch(place, number, &broker.replicas, outside)
    }

    fn end_wait(&mut self, waiting: u64, outside: &mut Outside) {
        if let Some(broker) = &self.broker {
            let replicas = &broker.replicas;
            let wish = self.followers.end_wait(waiting, replicas, outside);
            self.alter(wish, outside);
        }
    }

    fn look_at_isrs(&mut self, outside: &mut Outside) {
        if let Some(broker) = &self.broker {
            for wish in followers::due(&broker.replicas, outside) {
                self.alter(Some(wish), outside);
            }
        }
        outside.later(self.id, LOOK_AT_ISRS, NodeEvent::LookAtIsrs);
    }

    /// Asks the controller for a change of an ISR, unless it is asked for one of that partition already.
    fn alter(&mut self, wish: Option<Wish>, outside: &mut Outside) {
        let (Some(wish), Some(epoch)) = (wish, self.lifecycle.epoch()) else {
            return;
        };
        let is_same = |what: &For| matches!(what, For::Isr(place, _) if *place == wish.0);
        if self.calls.waits_for(is_same) {
            return;
        }
        let request = followers::request(&wish, self.id.node, epoch);
        self.calls.ask(For::Isr(wish.0, wish.1), request, outside);
    }

    fn follow(&mut self, outside: &mut Outside) {
        if let Some(broker) = &self.broker {
            self.replicating.reconcile(&broker.replicas, outside);
        }
    }

    /// Passes on what the broker has to say after an event.
    fn pass_on(&mut self, outside: &mut Outside) {
        let Some(broker) = &mut self.broker else {
            return;
        };
        broker.hear(outside);
        for (caller, request) in broker.take_asked() {
            self.calls.ask(For::Broker(caller), request, outside);
        }
        let published = broker.published();
        for waiting in broker.take_woken_followers() {
            self.end_wait(waiting, outside);
        }
        if published > self.published {
            for _ in self.published..published {
                let end = self.given.pop_front().expect("an image was given");
                self.applied = Offset(end.0 - 1);
            }
            self.published = published;
            self.follow(outside);
        }
        // What followers got may have moved high watermarks.
        if let Some(broker) = &mut self.broker {
            broker.hear(outside);
        }
    }

    /// Ends in an orderly way.
    pub fn stop(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        match &mut self.broker {
            Some(broker) => broker.stop(outside),
            None => Ok(()),
        }
    }
}
