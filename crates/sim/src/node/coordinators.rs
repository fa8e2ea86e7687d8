//! The drivers of the group coordinators: one for each partition of `__consumer_offsets` that the node leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_coordinator::group::requests::{GroupRequest, Notice};
use ottla_coordinator::{
    Config, Effect, Outgoing, Runtime, Shard, Ticket, Unavailable, Writer, Written, batch,
    partition_for,
};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::records::Compression;
use ottla_protocol::time::{MonotonicTime, Now};
use ottla_replica::own_records;

use super::event::{NodeEvent, ProcessId};
use super::failed::Failed;
use super::host::{CoordinatorAppend, Found, Mailbox, Partition, Replicas, Waiter};
use crate::messages::{Reply, ReplyTo, group_of};
use crate::outside::Outside;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// How long a reply waits for a commit: `offsets.commit.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a partition that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Coordinators {
    process: ProcessId,
    mailbox: Mailbox,
    by_index: BTreeMap<i32, Coordinator>,
    /// How many partitions `__consumer_offsets` has, on all nodes.
    partitions: i32,
    tickets: u64,
    loads: u64,
}

#[derive(Debug)]
struct Coordinator {
    partition: Arc<Partition>,
    leader_epoch: i32,
    runtime: Runtime,
    /// The number of its last load: what was appended before is forgotten.
    loads: u64,
    answers: BTreeMap<Ticket, ReplyTo>,
    ticks_at: Option<MonotonicTime>,
}

impl Coordinators {
    pub fn new(process: ProcessId, mailbox: Mailbox) -> Self {
        Self {
            process,
            mailbox,
            by_index: BTreeMap::new(),
            partitions: 0,
            tickets: 0,
            loads: 0,
        }
    }

    /// The leader epoch in which this node coordinates with the partition of this number.
    pub fn led_in(&self, index: i32) -> Option<i32> {
        let coordinator = self.by_index.get(&index)?;
        Some(coordinator.leader_epoch)
    }

    /// The shard of this number if it is loaded, and how many there are.
    pub fn shard(&self, index: i32) -> Option<(&Shard, i32)> {
        let coordinator = self.by_index.get(&index)?;
        let is_loaded = coordinator.runtime.is_loaded();
        is_loaded.then(|| (coordinator.runtime.shard(), self.partitions))
    }
}

/// Short times, so that a world sees many sessions end.
fn config() -> Config {
    Config {
        initial_rebalance_delay: Duration::from_millis(500),
        min_session_timeout: Duration::from_secs(1),
        ..Config::default()
    }
}

struct Writing<'a> {
    partition: &'a Arc<Partition>,
    mailbox: &'a Mailbox,
    loads: u64,
    now: Now,
}

impl Writer for Writing<'_> {
    fn now(&self) -> Now {
        self.now
    }

    fn append(&mut self, records: &[GroupRecord]) -> Result<Written, Unavailable> {
        let batch = batch::encode(Compression::None, records, self.now.wall)?;
        let first = own_records::append(self.partition, &batch, self.now);
        let first = first.map_err(Unavailable::of_append)?;
        let end = first.plus(records.len() as i64);
        let waiter = CoordinatorAppend {
            index: self.partition.index.0,
            topic: self.partition.topic_id,
            loads: self.loads,
            end: end.0,
        };
        let waits = || (self.mailbox.clone(), Waiter::Coordinator(waiter));
        Ok(Written {
            first,
            end,
            is_committed: self.partition.replicated(end, waits),
        })
    }
}

impl Coordinators {
    /// Starts the coordinators of the partitions that this node leads, and ends the others.
    pub fn reconcile(&mut self, image: &MetadataImage, replicas: &Replicas, outside: &mut Outside) {
        let topic = image.topic(CONSUMER_OFFSETS);
        let indexes: Vec<PartitionIndex> = topic
            .map(|topic| topic.partitions.keys().copied().collect())
            .unwrap_or_default();
        self.partitions = i32::try_from(indexes.len()).unwrap_or(0);
        let mut known = std::mem::take(&mut self.by_index);
        for index in indexes {
            let Found::Here(partition) = replicas.by_name(CONSUMER_OFFSETS, index) else {
                continue;
            };
            let role = partition.role();
            if !role.is_leader() {
                continue;
            }
            let leader_epoch = role.leader_epoch.0;
            let same = known.remove(&index.0).filter(|known| {
                Arc::ptr_eq(&known.partition, &partition) && known.leader_epoch == leader_epoch
            });
            let is_new = same.is_none();
            let coordinator = same.unwrap_or_else(|| Coordinator {
                partition,
                leader_epoch,
                runtime: Runtime::new(config(), COMMIT_TIMEOUT),
                loads: 0,
                answers: BTreeMap::new(),
                ticks_at: None,
            });
            self.by_index.insert(index.0, coordinator);
            if is_new {
                let delay = outside.between(100, 30_000);
                outside.later(self.process, delay, NodeEvent::Load(index.0));
            }
        }
        for to in known
            .into_values()
            .flat_map(|ended| ended.answers.into_values())
        {
            outside.reply(to, Reply::Group(Err(Unavailable::NotCoordinator)));
        }
    }

    pub fn load(&mut self, index: i32, outside: &mut Outside) -> Result<(), Failed> {
        let now = outside.now();
        let Some(coordinator) = self.by_index.get_mut(&index) else {
            return Ok(());
        };
        if coordinator.runtime.is_loaded() {
            return Ok(());
        }
        let mut shard = Shard::new(config());
        let partition = &coordinator.partition;
        let read = own_records::for_each(partition, now.monotonic, |header, record| {
            shard.replay(header, record)
        });
        match read {
            Ok(passed_over) => assert_eq!(passed_over, 0, "records of groups cannot be read"),
            Err(error) => {
                outside.note("a coordinator is not loaded", [index.into(), 0, 0]);
                outside.later(self.process, RETRY, NodeEvent::Load(index));
                return Err(Failed::Metadata(error.to_string()));
            }
        }
        self.loads += 1;
        coordinator.loads = self.loads;
        let effects = coordinator.runtime.on_loaded(shard, now);
        outside.note("coordinator is loaded", [index.into(), 0, 0]);
        self.perform(index, effects, outside);
        Ok(())
    }

    /// Hands a request to the coordinator of its group.
    pub fn on_request(&mut self, request: GroupRequest, to: ReplyTo, outside: &mut Outside) {
        let count = Some(self.partitions).filter(|count| *count > 0);
        let index = count.map(|count| partition_for(group_of(&request), count));
        let coordinator = index.and_then(|index| self.by_index.get_mut(&index));
        let Some(coordinator) = coordinator else {
            return outside.reply(to, Reply::Group(Err(Unavailable::NotCoordinator)));
        };
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        coordinator.answers.insert(ticket, to);
        let index = coordinator.partition.index.0;
        let effects = coordinator
            .runtime
            .on_request(request, ticket, outside.now());
        self.perform(index, effects, outside);
    }

    pub fn tick(&mut self, index: i32, outside: &mut Outside) {
        let now = outside.now();
        let Some(coordinator) = self.by_index.get_mut(&index) else {
            return;
        };
        if coordinator.ticks_at.is_none_or(|at| at > now.monotonic) {
            return;
        }
        coordinator.ticks_at = None;
        let effects = coordinator.runtime.on_tick(now);
        self.perform(index, effects, outside);
    }

    /// An append of a coordinator is committed, or lost: then its partition is read again.
    pub fn on_append_answered(
        &mut self,
        append: CoordinatorAppend,
        is_committed: bool,
        outside: &mut Outside,
    ) {
        let coordinator = self.by_index.get_mut(&append.index);
        let Some(coordinator) = coordinator.filter(|coordinator| {
            coordinator.partition.topic_id == append.topic && coordinator.loads == append.loads
        }) else {
            return;
        };
        let effects = if is_committed {
            coordinator
                .runtime
                .on_committed(ottla_protocol::ids::Offset(append.end))
        } else {
            coordinator.loads = 0;
            outside.later(self.process, RETRY, NodeEvent::Load(append.index));
            let coordinator = self.by_index.get_mut(&append.index);
            coordinator.map_or_else(Vec::new, |one| one.runtime.on_append_lost())
        };
        self.perform(append.index, effects, outside);
    }

    pub fn notify(&mut self, notice: &Notice, outside: &mut Outside) {
        let indexes: Vec<i32> = self.by_index.keys().copied().collect();
        for index in indexes {
            if let Some(coordinator) = self.by_index.get_mut(&index) {
                let effects = coordinator.runtime.on_notice(notice, outside.now());
                self.perform(index, effects, outside);
            }
        }
    }

    fn perform(&mut self, index: i32, effects: Vec<Effect>, outside: &mut Outside) {
        let Some(coordinator) = self.by_index.get_mut(&index) else {
            return;
        };
        let mut writing = Writing {
            partition: &coordinator.partition,
            mailbox: &self.mailbox,
            loads: coordinator.loads,
            now: outside.now(),
        };
        for outgoing in coordinator.runtime.perform(effects, &mut writing) {
            if let Outgoing::Reply(ticket, reply) = outgoing
                && let Some(to) = coordinator.answers.remove(&ticket)
            {
                outside.reply(to, Reply::Group(reply));
            }
        }
        let next = coordinator.runtime.next_deadline();
        if let Some(next) = next
            && coordinator.ticks_at.is_none_or(|at| next < at)
        {
            coordinator.ticks_at = Some(next);
            let delay = next.remaining(outside.now().monotonic);
            outside.later(self.process, delay, NodeEvent::Tick(index));
        }
    }
}
