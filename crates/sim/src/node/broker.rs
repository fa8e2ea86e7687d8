//! A broker: its partitions, what it knows of the metadata, and what it serves to clients.
//!
//! It passes each event and request to the driver that it is for. What it asks of the controller waits in
//! [`Broker::take_asked`]; what the controller commits arrives in [`Broker::on_committed`]. It does not know whether
//! the controller runs in the same process.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::active::Published;
use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::request::{AllocateProducerIds, BrokerHeartbeat, RegisterBroker};
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_coordinator::group::requests::Notice;
use ottla_coordinator::partition_for;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_replica::InOrder;

use super::coordinators::{CONSUMER_OFFSETS, Coordinators};
use super::data_requests::{DataRequests, acknowledge};
use super::directories::Directories;
use super::event::{NodeEvent, ProcessId};
use super::failed::Failed;
use super::follower::Follower;
use super::host::{Caller, Mail, Mailbox, Replicas, Waiter, Waker};
use super::housekeeping::Housekeeping;
use super::producer_ids::ProducerIds;
use super::start::registration;
use crate::messages::{Reply, ReplyTo, Request, Served};
use crate::outside::Outside;

/// `offsets.retention.check.interval.ms`.
const EXPIRY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Broker {
    process: ProcessId,
    pub replicas: Arc<Replicas>,
    /// The metadata as it is published.
    pub image: MetadataImage,
    /// The epoch of its registration.
    epoch: i64,
    /// Whether it cannot join its cluster: its operator starts it again.
    is_refused: bool,
    directories: Directories,
    follower: Follower,
    pub coordinators: Coordinators,
    requests: DataRequests,
    housekeeping: Housekeeping,
    producer_ids: ProducerIds,
    asked: Vec<(Caller, ControllerRequest)>,
    /// The fetches of followers that may have something to read.
    woken_followers: Vec<u64>,
    /// How many images it has published.
    published: u64,
    mailbox: Mailbox,
}

impl Broker {
    /// A broker whose logs are open.
    pub fn new(
        process: ProcessId,
        replicas: Replicas,
        image: MetadataImage,
        mailbox: Mailbox,
    ) -> Self {
        let replicas = Arc::new(replicas);
        Self {
            process,
            image,
            epoch: -1,
            is_refused: false,
            directories: Directories::new(process, replicas.directories()),
            follower: Follower::new(process, Arc::clone(&replicas)),
            coordinators: Coordinators::new(process, mailbox.clone()),
            requests: DataRequests::new(process, Arc::clone(&replicas), mailbox.clone()),
            housekeeping: Housekeeping::new(process, Arc::clone(&replicas)),
            producer_ids: ProducerIds::default(),
            asked: Vec::new(),
            woken_followers: Vec::new(),
            published: 0,
            replicas,
            mailbox,
        }
    }

    /// Asks to be registered. `previous_epoch` is that of its last process, if that ended in an orderly way.
    pub fn register(&mut self, previous_epoch: i64) {
        let register = RegisterBroker(registration(self.process, previous_epoch, &self.image));
        self.asked.push((Caller::Registration, register.into()));
    }

    /// The fetches of followers that may have something to read.
    pub fn take_woken_followers(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.woken_followers)
    }

    /// How many images it has published.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// It is registered in this epoch.
    pub fn set_epoch(&mut self, epoch: i64) {
        self.epoch = epoch;
    }

    /// What the controller is to be asked.
    pub fn take_asked(&mut self) -> Vec<(Caller, ControllerRequest)> {
        std::mem::take(&mut self.asked)
    }

    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside) -> Result<(), Failed> {
        match event {
            NodeEvent::BeginPass(number) => self.directories.begin_pass(number, outside),
            NodeEvent::SyncPass(number) => self.directories.sync_pass(number, outside),
            NodeEvent::EndPass(number) => return self.directories.end_pass(number, outside),
            NodeEvent::Follow => self.follow(outside),
            NodeEvent::Apply(number) => return self.apply(number, outside),
            NodeEvent::LookAtStalls => {
                self.follower.look_at_stalls(&self.directories, outside);
                self.publish_applied(outside);
            }
            NodeEvent::Housekeeping(number) => {
                let directories = &self.directories;
                return self.housekeeping.keep_house(number, directories, outside);
            }
            NodeEvent::Cleaner => return self.housekeeping.clean(outside),
            NodeEvent::ExpireOffsets => {
                self.coordinators.notify(&Notice::ExpiryDue, outside);
                outside.later(self.process, EXPIRY, NodeEvent::ExpireOffsets);
            }
            NodeEvent::Tick(index) => self.coordinators.tick(index, outside),
            NodeEvent::Load(index) => return self.coordinators.load(index, outside),
            NodeEvent::FetchWaited(fetch) => {
                self.requests.end_fetch(fetch, outside);
            }
            event => panic!("{event:?} comes to a broker"),
        }
        Ok(())
    }

    /// Handles what a client asks of this broker.
    pub fn on_request(&mut self, to: ReplyTo, request: Request, outside: &mut Outside) {
        match request {
            Request::Produce(request) => {
                let produced = self.requests.produce(to, &request, outside);
                if let Some(reply) = produced {
                    outside.reply(to, Reply::Produced(reply));
                }
            }
            Request::Fetch(fetch) => self.requests.fetch(to, fetch, outside),
            Request::InitProducerId => self.give_producer_id(to, outside),
            Request::DeleteRecords { place, before } => {
                let deleted = self.requests.delete_records(place, before, outside);
                outside.reply(to, Reply::Deleted(deleted));
            }
            Request::Controller(mut request) => {
                if let ControllerRequest::CreateTopics(create) = &mut request {
                    for topic in &mut create.topics {
                        topic.id = Uuid::from_parts(outside.random.next(), outside.random.next());
                    }
                }
                self.asked.push((Caller::Client(to), request));
            }
            Request::Describe(name) => {
                let found = self.image.topic(&name).map(|topic| topic.id);
                outside.reply(to, Reply::Described(found));
            }
            Request::Group(request) => self.coordinators.on_request(request, to, outside),
            Request::Find(served) => outside.reply(to, Reply::Found(self.find(&served))),
        }
    }

    /// Who serves something, as far as this broker knows.
    fn find(&self, served: &Served) -> Option<(NodeId, LeaderEpoch)> {
        let (topic, index) = match served {
            Served::Partition(place) => *place,
            Served::Group(group) => {
                let topic = self.image.topic(CONSUMER_OFFSETS)?;
                let count = i32::try_from(topic.partitions.len()).ok()?;
                (topic.id, PartitionIndex(partition_for(group, count)))
            }
        };
        let partition = self.image.partition(topic, index)?;
        Some((partition.leader?, partition.leader_epoch))
    }

    /// The controller has committed something: it is applied, and published soon.
    pub fn on_committed(&mut self, committed: Vec<Published<Caller>>, outside: &mut Outside) {
        self.follower.on_committed(committed, outside);
    }

    fn follow(&mut self, outside: &mut Outside) {
        while let Some(published) = self.follower.next(&mut self.directories, outside) {
            self.publish(published, outside);
        }
    }

    fn apply(&mut self, number: usize, outside: &mut Outside) -> Result<(), Failed> {
        let applied = self.directories.apply(number, &self.replicas, outside);
        let Some(outcome) = applied else {
            return Ok(());
        };
        if !self.follower.on_applied(number) {
            // It was late: its partitions are there now.
            self.reconcile(outside);
        }
        self.publish_applied(outside);
        outcome
    }

    fn publish_applied(&mut self, outside: &mut Outside) {
        if let Some(published) = self.follower.take_applied() {
            self.publish(published, outside);
            self.follow(outside);
        }
    }

    fn publish(&mut self, published: Published<Caller>, outside: &mut Outside) {
        if let Some((image, changes)) = published.metadata {
            self.image = image;
            self.published += 1;
            outside.note("published", [self.image.topics.len() as i64, 0, 0]);
            self.reconcile(outside);
            for (id, name) in changes.deleted_topics {
                let deleted = Notice::TopicDeleted { name, id };
                self.coordinators.notify(&deleted, outside);
            }
        }
        for (caller, reply) in published.replies {
            self.on_reply(caller, reply, outside);
        }
    }

    fn reconcile(&mut self, outside: &mut Outside) {
        self.coordinators
            .reconcile(&self.image, &self.replicas, outside);
    }

    /// A reply of the controller may leave.
    pub fn on_reply(&mut self, caller: Caller, reply: ControllerReply, outside: &mut Outside) {
        match (caller, reply) {
            (Caller::Client(to), reply) => outside.reply(to, Reply::Controller(Ok(reply))),
            (Caller::ProducerIds, ControllerReply::AllocateProducerIds(given)) => {
                let given = given.unwrap_or_else(|refusal| panic!("no producer ids: {refusal}"));
                let first = given.first.0;
                self.producer_ids
                    .on_block(first..first + i64::from(given.size));
                for to in self.producer_ids.take_waiting() {
                    self.give_producer_id(to, outside);
                }
            }
            (Caller::Registration, ControllerReply::RegisterBroker(registered)) => {
                self.epoch =
                    registered.unwrap_or_else(|refusal| panic!("not registered: {refusal}"));
                let heartbeat = BrokerHeartbeat(Heartbeat {
                    broker: self.process.node,
                    epoch: self.epoch,
                    metadata_offset: Offset(self.epoch),
                    wish: Wish::Serve,
                    offline_directories: Vec::new(),
                    cordoned_directories: None,
                    shutdown: ControlledShutdown::None,
                });
                self.asked.push((Caller::Unfencing, heartbeat.into()));
            }
            (Caller::Unfencing, ControllerReply::BrokerHeartbeat(health)) => {
                let health = health.unwrap_or_else(|refusal| panic!("refused: {refusal}"));
                assert!(!health.is_fenced, "the broker is still fenced");
                self.serve(outside);
            }
            (caller, reply) => panic!("{caller:?} is told {reply:?}"),
        }
    }

    /// The controller could not do what was asked.
    pub fn on_refused(&mut self, caller: Caller, outside: &mut Outside) {
        let code = ErrorCode::NotController;
        match caller {
            Caller::Client(to) => outside.reply(to, Reply::Controller(Err(code))),
            Caller::ProducerIds => {
                for to in self.producer_ids.take_waiting() {
                    outside.reply(to, Reply::ProducerId(Err(code)));
                }
            }
            Caller::Registration | Caller::Unfencing => self.is_refused = true,
            Caller::Remote(..) | Caller::Fencing(..) => {
                panic!("{caller:?} is no caller of a broker")
            }
        }
    }

    /// The node is part of its cluster: clients are served.
    pub fn serve(&mut self, outside: &mut Outside) {
        let number = self.process.number.cast_signed();
        outside.note("serves as", [number, self.epoch, 0]);
        outside.serving.insert(self.process.node);
        self.reconcile(outside);
        self.housekeeping.start(outside);
        outside.later(self.process, EXPIRY, NodeEvent::ExpireOffsets);
    }

    /// Gives the next producer id of the block, or waits for another block.
    fn give_producer_id(&mut self, to: ReplyTo, outside: &mut Outside) {
        if let Some(id) = self.producer_ids.next() {
            return outside.reply(to, Reply::ProducerId(Ok(id)));
        }
        if self.producer_ids.wait(to) {
            let asked = AllocateProducerIds {
                broker: self.process.node,
                epoch: self.epoch,
            };
            self.asked.push((Caller::ProducerIds, asked.into()));
        }
    }

    /// Takes what those that waited are told.
    pub fn hear(&mut self, outside: &mut Outside) {
        loop {
            let mail = self.mailbox.take();
            if mail.is_empty() {
                return;
            }
            for mail in mail {
                match mail {
                    Mail::PassIsDue(number) => self.directories.look_for_pass(number, outside),
                    Mail::Woken(Waker::Client(fetch)) => {
                        self.requests.look_at_fetch(fetch, outside);
                    }
                    Mail::Woken(Waker::Follower(fetch)) => self.woken_followers.push(fetch),
                    Mail::Answered(Waiter::Producer(to, offset), outcome) => {
                        acknowledge(to, offset, outcome, outside);
                    }
                    Mail::Answered(Waiter::Coordinator(append), outcome) => {
                        let is_committed = outcome.is_ok();
                        self.coordinators
                            .on_append_answered(append, is_committed, outside);
                    }
                }
            }
        }
    }

    /// Lets a directory not answer for a while.
    pub fn stall(&mut self, directory: usize, until: Duration) {
        self.directories.stall(directory, until);
    }

    /// Whether it cannot go on.
    pub fn is_crippled(&self) -> bool {
        let mut directories = self.replicas.directories().iter();
        self.is_refused || directories.any(|directory| directory.log.failure().is_some())
    }

    /// Ends in an orderly way: what is appended is flushed, and each directory that closes whole is marked.
    pub fn stop(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        self.housekeeping.stop_cleaning();
        let mut outcome = Ok(());
        for number in 0..self.directories.count() {
            let flushed = self.directories.flush_all(number);
            let closed = flushed.and_then(|()| {
                let directory = self.directories.get(number);
                let closed = self
                    .replicas
                    .close_directory(directory, &InOrder, self.epoch);
                Ok(closed?)
            });
            outcome = outcome.and(closed);
        }
        self.hear(outside);
        outcome
    }
}

impl Drop for Broker {
    /// A partition that waits for a flush and its directory hold each other; the process that held both is gone.
    fn drop(&mut self) {
        let deleted = self
            .directories
            .jobs()
            .flat_map(|job| job.deleted().iter().cloned());
        for partition in self.replicas.all().into_iter().chain(deleted) {
            drop(partition.take_log());
        }
    }
}
