//! What a broker does for the followers of the partitions that it leads: it answers their fetches, which wait for records,
//! and has the controller change the ISRs.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_controller::request::AlterPartition;
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_log::FirstBatch;
use ottla_protocol::ids::NodeId;
use ottla_replica::partition::FollowerRead;
use ottla_replica::{Reader, isr_request};
use ottla_replication::follower::EpochEnd;
use ottla_replication::{Answer, IsrChange, LeaderOffsets};

use crate::between::{Between, Content, FollowerAnswer, ReplicaFetch};
use crate::messages::Place;
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::host::{Found, Mailbox, Partition, Replicas, Waker};
use crate::outside::Outside;

/// Bytes that a follower gets at most, beside a first batch that is larger.
const FETCH_BYTES: usize = 4096;

/// A follower's node, and its name of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    pub from: NodeId,
    pub number: u64,
}

#[derive(Debug)]
struct Waiting {
    asking: Asking,
    fetch: ReplicaFetch,
    _reader: Arc<Reader<(Mailbox, Waker)>>,
}

/// A change of an ISR, for the controller.
pub type Wish = (Place, IsrChange);

#[derive(Debug)]
pub struct Followers {
    process: ProcessId,
    mailbox: Mailbox,
    waiting: BTreeMap<u64, Waiting>,
    count: u64,
}

impl Followers {
    pub fn new(process: ProcessId, mailbox: Mailbox) -> Self {
        Self {
            process,
            mailbox,
            waiting: BTreeMap::new(),
            count: 0,
        }
    }

    /// A follower fetches. Without records it waits for some.
    pub fn on_fetch(
        &mut self,
        asking: Asking,
        fetch: ReplicaFetch,
        replicas: &Replicas,
        outside: &mut Outside,
    ) -> Option<Wish> {
        let (answer, wish) = answer(&fetch, false, replicas, outside);
        let is_empty = matches!(&answer, FollowerAnswer::Records { bytes, .. } if bytes.is_empty());
        let place = fetch.place;
        if is_empty && let Found::Here(partition) = replicas.by_id(place.0, place.1) {
            self.count += 1;
            let waker = Waker::Follower(self.count);
            let reader = Reader::new((self.mailbox.clone(), waker));
            partition.watch_end(&reader, 0);
            let waiting = Waiting {
                asking,
                fetch,
                _reader: reader,
            };
            self.waiting.insert(self.count, waiting);
            let event = NodeEvent::FollowerWaited(self.count);
            outside.later(self.process, fetch.max_wait, event);
        } else {
            self.send(asking, answer, outside);
        }
        wish
    }

    /// Answers a fetch that has waited.
    pub fn end_wait(
        &mut self,
        waiting: u64,
        replicas: &Replicas,
        outside: &mut Outside,
    ) -> Option<Wish> {
        let Waiting { asking, fetch, .. } = self.waiting.remove(&waiting)?;
        let (answer, wish) = answer(&fetch, true, replicas, outside);
        self.send(asking, answer, outside);
        wish
    }

    fn send(&self, asking: Asking, answer: FollowerAnswer, outside: &mut Outside) {
        outside.send_between(&Between {
            from: self.process.node,
            to: asking.from,
            number: asking.number,
            content: Content::Fetched(answer),
        });
    }
}

fn answer(
    fetch: &ReplicaFetch,
    is_counted: bool,
    replicas: &Replicas,
    outside: &Outside,
) -> (FollowerAnswer, Option<Wish>) {
    let place = fetch.place;
    match replicas.by_id(place.0, place.1).or_code() {
        Ok(partition) if fetch.wants_offsets => (offsets(fetch, &partition), None),
        Ok(partition) => records((fetch, is_counted), &partition, outside),
        Err(code) => (FollowerAnswer::Failed(code), None),
    }
}

fn offsets(fetch: &ReplicaFetch, partition: &Partition) -> FollowerAnswer {
    let listed = partition.with_leader_log(Some(fetch.fetch.leader_epoch), |log| LeaderOffsets {
        start: log.log_start_offset(),
        end: log.log_end_offset(),
    });
    match listed {
        Ok(offsets) => FollowerAnswer::Offsets(offsets),
        Err(unavailable) => FollowerAnswer::Failed(unavailable.code()),
    }
}

fn records(
    (fetch, is_counted): (&ReplicaFetch, bool),
    partition: &Partition,
    outside: &Outside,
) -> (FollowerAnswer, Option<Wish>) {
    let read = FollowerRead {
        from: fetch.replica,
        fetch: fetch.fetch,
        has_leader_epoch: true,
        max_bytes: FETCH_BYTES,
        first_batch: FirstBatch::MayExceed,
        is_counted,
    };
    let plan = match partition.plan_for_follower(&read, outside.now().monotonic) {
        Ok(plan) => plan,
        Err(unreadable) => return (FollowerAnswer::Failed(unreadable.code()), None),
    };
    let wish = plan.isr_change.map(|change| (fetch.place, change));
    if let Some((epoch, end)) = plan.planned.diverging {
        return (FollowerAnswer::Diverging(EpochEnd { epoch, end }), wish);
    }
    let mut bytes = Vec::new();
    let answer = match plan.planned.plan.read(&mut bytes) {
        Ok(_) => FollowerAnswer::Records {
            bytes,
            high_watermark: plan.planned.offsets.high_watermark,
            log_start: plan.planned.offsets.log_start,
        },
        Err(error) => FollowerAnswer::Failed(ottla_replica::Unavailable::from(error).code()),
    };
    (answer, wish)
}

/// The changes of ISRs that are due: without members that lag, and those that the controller has not answered.
pub fn due(replicas: &Replicas, outside: &Outside) -> Vec<Wish> {
    let all = replicas.all().into_iter();
    let due = all.filter_map(|partition| {
        let pending = partition.pending_isr_change();
        let change = pending.or_else(|| partition.shrink_isr(outside.now().monotonic))?;
        Some((partition.id(), change))
    });
    due.collect()
}

/// What the controller is asked for a change of an ISR.
pub fn request((place, change): &Wish, broker: NodeId, epoch: i64) -> ControllerRequest {
    AlterPartition {
        broker,
        epoch,
        partitions: vec![isr_request::wanted(*place, change)],
    }
    .into()
}

/// What the controller's reply means for the partition that asked.
pub fn reply_of(reply: Option<ControllerReply>) -> Answer {
    match reply {
        Some(ControllerReply::AlterPartition(Ok(mut partitions))) => {
            let outcome = partitions.pop().map(|(_, outcome)| outcome);
            outcome.map_or(Answer::Unknown, isr_request::answer)
        }
        Some(ControllerReply::AlterPartition(Err(refusal))) => Answer::of_error(refusal.code()),
        _ => Answer::Unknown,
    }
}
