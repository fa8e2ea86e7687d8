//! The invariants of a cluster, seen from outside. The message of a check has its name.
//!
//! What was acknowledged, read, or is below a high watermark anywhere is in the log of each member of the ISR and of each
//! eligible leader replica, as the committed metadata names them, on stable storage, if its broker has opened its logs. An
//! epoch of a partition has one leader.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_log::{Bound, FirstBatch, ReadRequest};
use ottla_metadata::{MetadataImage, Partition as State};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::records::split_batches;
use ottla_protocol::time::MonotonicTime;

use crate::messages::Place;
use crate::model::{Model, Purpose, Survives};
use crate::node::Broker;
use crate::node::event::ProcessId;
use crate::node::host::{Found, Partition};

/// What was seen of the partitions so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// The leader of each epoch.
    leaders: BTreeMap<(Place, i32), NodeId>,
    /// The high watermark of each leader.
    high_watermarks: BTreeMap<(Place, i32), Offset>,
    /// How far the log of each process was compared.
    compared: BTreeMap<(u64, Place), Offset>,
    /// The leader epoch and partition epoch of each partition.
    epochs: BTreeMap<Place, (i32, i32)>,
}

/// A running broker with open logs.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    pub id: ProcessId,
    pub broker: &'a Broker,
}

/// A replica of a running broker.
#[derive(Debug)]
struct Replica {
    id: ProcessId,
    partition: Arc<Partition>,
}

impl Seen {
    /// The controller has committed metadata.
    pub fn metadata(&mut self, truth: &MetadataImage) -> u64 {
        let mut checks = 0;
        for topic in truth.topics.values() {
            for (index, partition) in &topic.partitions {
                let place = (topic.id, *index);
                sound(place, partition, truth);
                let epochs = (partition.leader_epoch.0, partition.partition_epoch);
                let before = self.epochs.insert(place, epochs);
                assert!(
                    before.is_none_or(|(leader, part)| leader <= epochs.0 && part <= epochs.1),
                    "check: epochs do not go back: {epochs:?} of {place:?} after {before:?}"
                );
                if let Some(leader) = partition.leader {
                    self.leads(place, partition.leader_epoch.0, leader);
                }
                checks += 1;
            }
        }
        checks
    }

    /// A node leads, or is to lead, a partition in an epoch.
    fn leads(&mut self, place: Place, epoch: i32, leader: NodeId) {
        let first = *self.leaders.entry((place, epoch)).or_insert(leader);
        assert_eq!(
            first, leader,
            "check: an epoch has one leader: epoch {epoch} of {place:?}"
        );
    }

    /// Compares the logs of running brokers with what clients know.
    pub fn logs(
        &mut self,
        running: &[Running<'_>],
        truth: &MetadataImage,
        model: &mut Model,
        now: MonotonicTime,
    ) -> u64 {
        let places: Vec<Place> = model.partitions.keys().copied().collect();
        let mut replicas = Vec::new();
        for (topic, index) in places {
            for Running { id, broker } in running {
                if let Found::Here(partition) = broker.replicas.by_id(topic, index) {
                    replicas.push(Replica { id: *id, partition });
                }
            }
        }
        for replica in &replicas {
            self.committed(replica, model, now);
        }
        for replica in &replicas {
            let (topic, index) = replica.partition.id();
            let state = truth.partition(topic, index);
            if state.is_some_and(|state| has_everything(state, replica.id.node)) {
                self.complete(replica, model, now);
            }
        }
        replicas.len() as u64
    }

    /// What is below the high watermark of a replica is there for ever.
    fn committed(&mut self, replica: &Replica, model: &mut Model, now: MonotonicTime) {
        let Replica { id, partition } = replica;
        let place = partition.id();
        let Ok(offsets) = partition.offsets() else {
            return;
        };
        let role = partition.role();
        if role.is_leader() {
            let epoch = role.leader_epoch.0;
            self.leads(place, epoch, id.node);
            let known = self.high_watermarks.entry((place, epoch));
            let known = known.or_insert(offsets.high_watermark);
            assert!(
                offsets.high_watermark >= *known,
                "check: high watermarks do not go back: {place:?} in epoch {epoch}"
            );
            *known = offsets.high_watermark;
        }
        if model.purpose(place) == Purpose::Internal {
            return;
        }
        let from = self.compared.get(&(id.number, place));
        let from = from.copied().unwrap_or(offsets.log_start);
        let range = (from, offsets.high_watermark);
        for (base, number) in read(partition, range, model, now).unwrap_or_default() {
            model.place(place, base, number, Survives::PowerCut);
        }
    }

    /// A replica that may lead without loss has all that is known, on stable storage.
    fn complete(&mut self, replica: &Replica, model: &Model, now: MonotonicTime) {
        let Replica { id, partition } = replica;
        let place = partition.id();
        let is_online = partition.directory().log.failure().is_none();
        let flushed = partition.with_log(|log| log.flushed_offset());
        let offsets = partition.offsets().ok().filter(|_| is_online);
        let (Some(offsets), Some(flushed)) = (offsets, flushed) else {
            return;
        };
        if model.purpose(place) == Purpose::Internal {
            return;
        }
        let from = self.compared.get(&(id.number, place));
        let from = from.copied().unwrap_or(offsets.log_start);
        let Some(held) = read(partition, (from, flushed), model, now) else {
            return;
        };
        let held: BTreeMap<i64, usize> = held.into_iter().collect();
        for (base, placed) in model.partitions[&place].placed.range(from.0..) {
            assert_eq!(
                held.get(base),
                Some(&placed.number),
                "check: replicas in sync have everything: batch {} at {base} of {place:?}, on {}",
                placed.number,
                id.node.0
            );
        }
        self.compared
            .insert((id.number, place), offsets.high_watermark.max(from));
    }
}

/// Whether a replica may lead without loss.
fn has_everything(state: &State, node: NodeId) -> bool {
    state.isr.contains(&node) || state.eligible_leaders.contains(&node)
}

/// ISR, eligible leader replicas and leader fit each other.
fn sound(place: Place, partition: &State, truth: &MetadataImage) {
    let State {
        replicas,
        isr,
        eligible_leaders,
        leader,
        ..
    } = partition;
    let are_replicas = isr
        .iter()
        .chain(eligible_leaders)
        .all(|id| replicas.contains(id));
    assert!(
        are_replicas,
        "check: the ISR is among the replicas: {place:?}"
    );
    assert!(
        !isr.iter().any(|id| eligible_leaders.contains(id)),
        "check: nobody is in the ISR and eligible at once: {place:?}"
    );
    if let Some(leader) = leader {
        assert!(
            isr.contains(leader),
            "check: the leader is in the ISR: {place:?}"
        );
        assert!(
            truth
                .brokers
                .get(leader)
                .is_some_and(|broker| !broker.fenced),
            "check: a fenced broker does not lead: {} leads {place:?}",
            leader.0
        );
    }
}

/// The batches of a log within a range: base offsets and numbers. Nothing if its disk fails now.
fn read(
    partition: &Partition,
    (from, to): (Offset, Offset),
    model: &Model,
    now: MonotonicTime,
) -> Option<Vec<(i64, usize)>> {
    let mut found = Vec::new();
    let mut next = from;
    while next < to {
        let request = ReadRequest {
            offset: next,
            max_bytes: 1 << 20,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
        };
        let plan = partition.plan_own(&request, now)?.ok()?;
        let mut bytes = Vec::new();
        plan.read(&mut bytes).ok()?;
        let before = next;
        for batch in split_batches(&bytes).map_while(Result::ok) {
            let base = batch.header().base_offset;
            if base >= to.0 {
                return Some(found);
            }
            next = batch.header().next_offset();
            found.push((base, model.recognise(partition.id(), &batch)));
        }
        if next == before {
            return Some(found);
        }
    }
    Some(found)
}

/// Idempotent batches are in a log once and in order.
pub fn order(partition: &Partition, model: &Model, now: MonotonicTime) {
    let Ok(offsets) = partition.offsets() else {
        return;
    };
    let place = partition.id();
    if model.purpose(place) == Purpose::Internal {
        return;
    }
    let mut newest = BTreeMap::new();
    let range = (offsets.log_start, offsets.log_end);
    let held = read(partition, range, model, now).expect("no disk fails any more");
    for (base, number) in held {
        let sent = &model.sent[number];
        if sent.is_idempotent {
            let before = newest.insert(sent.producer, sent.order);
            assert!(
                before.is_none_or(|before| before < sent.order),
                "check: idempotent batches are there once and in order: {number} at {base} of {place:?}"
            );
        }
    }
}
