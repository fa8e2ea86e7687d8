//! The task that drives the [`Runtime`] of one coordinator partition: it appends, waits for commits, and answers.
//!
//! The runtime makes every decision. If an append is lost, the task reads the partition again; requests that arrive
//! meanwhile wait in the queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_coordinator::group::requests::{GroupReply, GroupRequest, Notice};
use ottla_coordinator::{
    Config, Effect, Event, Outgoing, Runtime, Shard, Ticket, Unavailable, Writer, Written, batch,
};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::Compression;
use ottla_protocol::time::Now;
use ottla_replica::own_records;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::disk_work::DiskWork;
use crate::coordinators::load;
use crate::process::clock::Clock;
use crate::replicas::Partition;
use crate::replicas::partition::{self, replicated};

/// Whether a coordinator can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Loading,
    Active,
    /// Its partition cannot be read.
    Failed,
}

/// Where the reply to a request goes. Dropped without a reply, it means [`Unavailable::NotCoordinator`].
pub type Answer = oneshot::Sender<Result<GroupReply, Unavailable>>;

/// A message to the owner.
#[derive(Debug)]
pub enum Message {
    /// Handle a request and send the reply to [`Answer`].
    Request(Box<GroupRequest>, Answer),
    /// A notice, which is not answered.
    Notice(Notice),
}

/// Upper bound of the messages that wait for one coordinator; beyond it senders wait.
const MAX_WAITING: usize = 1024;

/// How long to wait before a partition that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);

/// Why the owner stopped serving.
enum Ended {
    /// Every sender of messages is gone.
    Unreachable,
    /// An append was lost.
    Lost,
}

/// The partition of a coordinator, and what is needed to write to it.
pub struct Log {
    /// The partition, which this broker leads.
    pub partition: Arc<Partition>,
    /// Runs what blocks on the disk.
    pub disk_work: Arc<DiskWork>,
    /// `offsets.topic.compression.codec`.
    pub compression: Compression,
    pub clock: Clock,
}

/// An append that was written and is not committed yet.
struct InFlight {
    /// The offset after its last record.
    end: Offset,
    committed: oneshot::Receiver<Result<(), partition::Unavailable>>,
}

/// The owner of one partition.
pub struct Owner {
    log: Log,
    config: Config,
    runtime: Runtime,
    /// Appends, the oldest first.
    in_flight: VecDeque<InFlight>,
    answers: BTreeMap<Ticket, Answer>,
    next_ticket: u64,
}

impl Owner {
    /// An owner that has read nothing yet.
    pub fn new(log: Log, config: Config, commit_timeout: Duration) -> Self {
        Self {
            log,
            runtime: Runtime::new(config.clone(), commit_timeout),
            config,
            in_flight: VecDeque::new(),
            answers: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// Starts the task, which ends when the last sender of messages is dropped. `loads` bounds how many partitions are
    /// read at the same time.
    pub fn start(self, loads: Arc<Semaphore>) -> (mpsc::Sender<Message>, watch::Receiver<Phase>) {
        let (messages, mailbox) = mpsc::channel(MAX_WAITING);
        let (settle, phase) = watch::channel(Phase::Loading);
        tokio::spawn(self.run(mailbox, settle, loads));
        (messages, phase)
    }

    /// Reads the partition and serves until every sender of messages is gone.
    async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        phase: watch::Sender<Phase>,
        loads: Arc<Semaphore>,
    ) {
        while !(messages.is_closed() && messages.is_empty()) {
            phase.send_replace(Phase::Loading);
            if self.load(&loads).await {
                phase.send_replace(Phase::Active);
                match self.serve(&mut messages).await {
                    Ended::Unreachable => return self.finish().await,
                    Ended::Lost => self.on_lost(),
                }
            } else {
                phase.send_replace(Phase::Failed);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn load(&mut self, loads: &Semaphore) -> bool {
        let _turn = loads.acquire().await;
        match self.read().await {
            Some(shard) => {
                let effects = self.runtime.on_loaded(shard, self.log.clock.now());
                self.perform(effects);
                true
            }
            None => false,
        }
    }

    async fn read(&self) -> Option<Shard> {
        let (partition, config) = (Arc::clone(&self.log.partition), self.config.clone());
        let clock = self.log.clock;
        let read =
            tokio::task::spawn_blocking(move || load::read(&partition, config, clock.monotonic()));
        match read.await.ok()? {
            Ok(shard) => Some(shard),
            Err(error) => {
                tracing::error!(
                    topic = &*self.log.partition.topic,
                    partition = self.log.partition.index.0,
                    %error,
                    "cannot read the partition of a group coordinator; trying again"
                );
                None
            }
        }
    }

    async fn serve(&mut self, messages: &mut mpsc::Receiver<Message>) -> Ended {
        loop {
            let due = self.runtime.on_tick(self.log.clock.now());
            self.perform(due);
            let deadline = self.runtime.next_deadline();
            let clock = self.log.clock;
            tokio::select! {
                biased;
                committed = oldest_committed(&mut self.in_flight) => match committed {
                    Some(end) => self.on_committed(end),
                    None => return Ended::Lost,
                },
                message = messages.recv() => match message {
                    Some(message) => self.on_message(message),
                    None => return Ended::Unreachable,
                },
                () = clock.sleep_until(deadline) => {}
            }
        }
    }

    /// Waits for the commits in flight and sends their replies. Requests that wait for a rebalance get none: their
    /// channels are dropped.
    async fn finish(&mut self) {
        while !self.in_flight.is_empty()
            && let Some(end) = oldest_committed(&mut self.in_flight).await
        {
            self.on_committed(end);
        }
    }

    fn on_message(&mut self, message: Message) {
        let now = self.log.clock.now();
        let effects = match message {
            Message::Request(request, answer) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.answers.insert(ticket, answer);
                self.runtime.on_request(*request, ticket, now)
            }
            Message::Notice(notice) => self.runtime.on_notice(&notice, now),
        };
        self.perform(effects);
    }

    fn on_committed(&mut self, end: Offset) {
        let effects = self.runtime.on_committed(end);
        self.perform(effects);
    }

    fn on_lost(&mut self) {
        tracing::error!(
            topic = &*self.log.partition.topic,
            partition = self.log.partition.index.0,
            "a group coordinator has lost an append, and reads its partition again"
        );
        self.in_flight.clear();
        let effects = self.runtime.on_append_lost();
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut writing = Writing {
            log: &self.log,
            in_flight: &mut self.in_flight,
        };
        for outgoing in self.runtime.perform(effects, &mut writing) {
            match outgoing {
                Outgoing::Reply(ticket, reply) => {
                    if let Some(answer) = self.answers.remove(&ticket) {
                        // The connection of the client may be gone.
                        drop(answer.send(reply));
                    }
                }
                Outgoing::Report(event) => report(&event),
            }
        }
    }
}

/// Writes to the partition, and records the appends in flight.
struct Writing<'a> {
    log: &'a Log,
    in_flight: &'a mut VecDeque<InFlight>,
}

impl Writer for Writing<'_> {
    fn now(&self) -> Now {
        self.log.clock.now()
    }

    fn append(&mut self, records: &[GroupRecord]) -> Result<Written, Unavailable> {
        let count = i64::try_from(records.len()).expect("a batch has fewer records than 2^63");
        let log = self.log;
        let (first, end, committed) = log.disk_work.run(|| {
            let now = log.clock.now();
            let batch = batch::encode(log.compression, records, now.wall)?;
            let first = own_records::append(&log.partition, &batch, now);
            let first = first.map_err(Unavailable::of_append)?;
            let end = first.plus(count);
            Ok((first, end, replicated(&log.partition, end)))
        })?;
        let is_committed = committed.is_none();
        if let Some(committed) = committed {
            self.in_flight.push_back(InFlight { end, committed });
        }
        Ok(Written {
            first,
            end,
            is_committed,
        })
    }
}

/// Completes when the oldest append is committed, with its end offset, or lost, with `None`. It never completes while
/// none is in flight.
async fn oldest_committed(in_flight: &mut VecDeque<InFlight>) -> Option<Offset> {
    let Some(oldest) = in_flight.front_mut() else {
        return std::future::pending().await;
    };
    let outcome = (&mut oldest.committed).await;
    let oldest = in_flight.pop_front()?;
    matches!(outcome, Ok(Ok(()))).then_some(oldest.end)
}

fn report(event: &Event) {
    match event {
        Event::RebalanceStarted {
            group,
            generation,
            reason,
        } => tracing::info!(group, generation, reason, "a group rebalances"),
        Event::GenerationStarted {
            group,
            generation,
            members,
        } => tracing::info!(group, generation, members, "a group has a new generation"),
        Event::MembersExpired {
            group,
            members,
            missed,
        } => tracing::info!(group, ?members, missed, "members of a group were dropped"),
        Event::NobodyJoined { group } => {
            tracing::warn!(group, "no member of a group rejoined in time");
        }
    }
}
