//! The task that owns one coordinator partition: its shard, what waits for a commit, and who waits for a rebalance.
//!
//! Records are appended, then applied, at once and in order; an answer leaves when everything appended before it is
//! committed (`uncommitted`). If an append is refused, nothing has changed but the soft state of one group, and the shard
//! says what becomes of it. If an append is lost, the shard is thrown away and read again from the log, and nobody who
//! waits gets an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_coordinator::group::classic::{JoinReply, JoinRequest, SyncReply, SyncRequest};
use ottla_coordinator::state::Position;
use ottla_coordinator::{Action, Config, Decision, Event, IfRefused, Shard, Ticket};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::Compression;
use ottla_protocol::time::Now;
use tokio::sync::{Semaphore, mpsc, watch};

use super::uncommitted::Uncommitted;
use super::{Answer, Phase, Unavailable, load, writer};
use crate::clock::Clock;
use crate::disk_work::DiskWork;
use crate::replicas::Partition;
use crate::replicas::partition::replicated;

/// Something for the owner to do.
pub type Command = Box<dyn FnOnce(&mut Owner) + Send>;

/// How long to wait before a partition that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);
/// Records of one append, where they need not stand together.
const RECORDS_PER_APPEND: usize = 1000;

/// Who waits for a rebalance.
enum Waiting {
    Join(Answer<JoinReply>),
    Sync(Answer<SyncReply>),
}

/// Why serving ended.
enum Ended {
    /// Nobody can reach the task any more.
    Unreachable,
    /// An append was lost.
    Lost,
}

/// The owner of one partition.
pub struct Owner {
    partition: Arc<Partition>,
    disk_work: Arc<DiskWork>,
    config: Config,
    compression: Compression,
    clock: Clock,
    shard: Shard,
    uncommitted: Uncommitted,
    waiting: BTreeMap<Ticket, Waiting>,
    next_ticket: u64,
}

impl Owner {
    /// An owner that has read nothing yet.
    pub fn new(
        (partition, disk_work): (Arc<Partition>, Arc<DiskWork>),
        config: Config,
        compression: Compression,
        commit_timeout: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            partition,
            disk_work,
            shard: Shard::new(config.clone()),
            config,
            compression,
            clock,
            uncommitted: Uncommitted::new(commit_timeout),
            waiting: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// Reads the partition and serves, until nobody can reach the task any more.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        phase: watch::Sender<Phase>,
        loads: Arc<Semaphore>,
    ) {
        while !(commands.is_closed() && commands.is_empty()) {
            phase.send_replace(Phase::Loading);
            if self.load(&loads).await {
                phase.send_replace(Phase::Active);
                match self.serve(&mut commands).await {
                    Ended::Unreachable => return self.finish().await,
                    Ended::Lost => self.forget(),
                }
            } else {
                phase.send_replace(Phase::Failed);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn load(&mut self, loads: &Semaphore) -> bool {
        let _turn = loads.acquire().await;
        let (partition, config) = (Arc::clone(&self.partition), self.config.clone());
        let clock = self.clock;
        let read =
            tokio::task::spawn_blocking(move || load::read(&partition, config, clock.monotonic()))
                .await;
        match read {
            Ok(Ok(shard)) => {
                self.shard = shard;
                let actions = self.shard.on_loaded(self.clock.now());
                // Refused appends have been reported, and no client waits for these.
                let _ = self.perform(actions);
                true
            }
            Ok(Err(error)) => {
                tracing::error!(
                    topic = &*self.partition.topic,
                    partition = self.partition.index.0,
                    %error,
                    "cannot read the partition of a group coordinator; trying again"
                );
                false
            }
            Err(_) => false,
        }
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> Ended {
        loop {
            self.run_due();
            let due = [self.shard.next_deadline(), self.uncommitted.next_deadline()];
            let deadline = due.into_iter().flatten().min();
            let wake = deadline.map(|deadline| self.clock.instant(deadline));
            tokio::select! {
                biased;
                is_committed = self.uncommitted.settled() => {
                    if !is_committed {
                        return Ended::Lost;
                    }
                    self.uncommitted.on_committed();
                }
                command = commands.recv() => match command {
                    Some(command) => command(self),
                    None => return Ended::Unreachable,
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Lets the answers leave that only wait for a commit. Who waits for a rebalance is told by the silence.
    async fn finish(&mut self) {
        while !self.uncommitted.is_empty() && self.uncommitted.settled().await {
            self.uncommitted.on_committed();
        }
    }

    fn run_due(&mut self) {
        let now = self.clock.now();
        while self
            .shard
            .next_deadline()
            .is_some_and(|at| at <= now.monotonic)
        {
            let actions = self.shard.on_deadline(now);
            // A client that waits is answered by `perform` itself.
            let _ = self.perform(actions);
        }
        self.uncommitted.expire(now.monotonic);
    }

    /// Drops everything that stood on a lost append; whoever waits is told by the silence.
    fn forget(&mut self) {
        tracing::error!(
            topic = &*self.partition.topic,
            partition = self.partition.index.0,
            "a group coordinator has lost an append, and reads its partition again"
        );
        self.uncommitted.clear();
        self.waiting.clear();
        self.shard = Shard::new(self.config.clone());
    }

    /// Lets an answer leave when everything appended so far is committed.
    fn answer<R: Send + 'static>(&mut self, answer: Answer<R>, reply: Result<R, Unavailable>) {
        // A client that went away wants no answer.
        let release = Box::new(move |outcome: Result<(), Unavailable>| {
            drop(answer.send(outcome.and(reply)));
        });
        self.uncommitted.release(release, self.clock.monotonic());
    }

    /// Decides, appends, and answers.
    pub fn decide<R: Send + 'static>(
        &mut self,
        decide: impl FnOnce(&Shard, Now) -> Decision<R>,
        answer: Answer<R>,
    ) {
        let now = self.clock.now();
        let decision = decide(&self.shard, now);
        let appended = self.append(decision.records, now);
        if appended.is_ok() {
            for effect in &decision.effects {
                self.shard.on_effect(effect, now);
            }
        }
        self.answer(answer, appended.map(|()| decision.reply));
    }

    /// Carries out what an event leads to, and answers.
    pub fn tell<R: Send + 'static>(
        &mut self,
        event: impl FnOnce(&mut Shard, Now) -> (R, Vec<Action>),
        answer: Answer<R>,
    ) {
        let now = self.clock.now();
        let (reply, actions) = event(&mut self.shard, now);
        let performed = self.perform(actions);
        self.answer(answer, performed.map(|()| reply));
    }

    /// Handles a JoinGroup.
    pub fn join(&mut self, request: &JoinRequest, answer: Answer<JoinReply>) {
        let ticket = self.wait(Waiting::Join(answer));
        let actions = self.shard.on_join(ticket, request, self.clock.now());
        // If it was refused, the ticket has been answered.
        let _ = self.perform(actions);
    }

    /// Handles a SyncGroup.
    pub fn sync(&mut self, request: &SyncRequest, answer: Answer<SyncReply>) {
        let ticket = self.wait(Waiting::Sync(answer));
        let actions = self.shard.on_sync(ticket, request, self.clock.now());
        // If it was refused, the ticket has been answered.
        let _ = self.perform(actions);
    }

    /// Ends what has expired.
    pub fn expire(&mut self) {
        let records = self.shard.decide_expiry(self.clock.now());
        self.append_in_pieces(&records);
    }

    /// Forgets the offsets of a deleted topic.
    pub fn forget_topic(&mut self, name: &str, id: Uuid) {
        let records = self.shard.decide_topic_deleted(name, id);
        self.append_in_pieces(&records);
    }

    fn append_in_pieces(&mut self, records: &[GroupRecord]) {
        for piece in records.chunks(RECORDS_PER_APPEND) {
            if self.append(piece.to_vec(), self.clock.now()).is_err() {
                // What is left expires, or is forgotten, another time.
                return;
            }
        }
    }

    fn wait(&mut self, waiting: Waiting) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, waiting);
        ticket
    }

    /// Carries out the actions of one group. If its append is refused, the replies that depend on it are refused with
    /// the same reason.
    fn perform(&mut self, actions: Vec<Action>) -> Result<(), Unavailable> {
        self.perform_after(Ok(()), actions)
    }

    fn perform_after(
        &mut self,
        refused: Result<(), Unavailable>,
        actions: Vec<Action>,
    ) -> Result<(), Unavailable> {
        let mut refused = refused;
        for action in actions {
            match action {
                Action::Report(event) => report(&event),
                Action::Append(records, if_refused) => {
                    refused = refused.and(self.append_for_group(records, if_refused));
                }
                Action::ReplyJoin(ticket, reply) => {
                    if let Some(Waiting::Join(answer)) = self.waiting.remove(&ticket) {
                        self.answer(answer, refused.map(|()| reply));
                    }
                }
                Action::ReplySync(ticket, reply) => {
                    if let Some(Waiting::Sync(answer)) = self.waiting.remove(&ticket) {
                        self.answer(answer, refused.map(|()| reply));
                    }
                }
            }
        }
        refused
    }

    fn append_for_group(
        &mut self,
        records: Vec<GroupRecord>,
        if_refused: IfRefused,
    ) -> Result<(), Unavailable> {
        let group = records.iter().find_map(|record| match record {
            GroupRecord::GroupMetadata(key, _) => Some(key.group.clone()),
            _ => None,
        });
        let now = self.clock.now();
        let appended = self.append(records, now);
        if let (Err(_), Some(group)) = (&appended, group) {
            let actions = self.shard.on_append_refused(&group, if_refused, now);
            let _ = self.perform_after(appended, actions);
        }
        appended
    }

    fn append(&mut self, records: Vec<GroupRecord>, now: Now) -> Result<(), Unavailable> {
        if records.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(records.len()).expect("a batch has fewer records than 2^63");
        let (first, committed) = self.disk_work.run(|| {
            let first = writer::append(&self.partition, self.compression, &records, now)?;
            Ok((first, replicated(&self.partition, first.plus(count))))
        })?;
        for (offset, record) in (first.0..).zip(records) {
            let position = Position::plain(ottla_protocol::ids::Offset(offset));
            self.shard.apply(position, record);
        }
        if let Some(committed) = committed {
            self.uncommitted.push(committed);
        }
        Ok(())
    }
}

async fn sleep_until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
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
