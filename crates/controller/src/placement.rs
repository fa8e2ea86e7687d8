//! Chooses the brokers of new replicas.
//!
//! The guarantees are those of Kafka's striped placement. The replicas of a partition go to as many racks as there are, and
//! within a rack to active brokers before fenced ones. The first replica, which leads, is on an active broker. Racks take
//! turns from partition to partition, and the brokers of a rack from round to round of the racks, so that each broker leads
//! equally often. Once each broker has led, the order is mixed, so that partitions do not share all their brokers.
//! Brokers that shut down, and those of which all directories are cordoned, get no replicas. The order depends on the
//! arguments only.

use std::collections::BTreeMap;

use ottla_metadata::partition::{MIGRATING, UNASSIGNED};
use ottla_metadata::{BrokerRegistration, MetadataImage};
use ottla_protocol::ids::{NodeId, Uuid};

/// The replicas of one partition, the preferred leader first.
pub type Replicas = Vec<NodeId>;

/// Why a topic cannot have this many replicas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReplicationFactor {
    #[error("replication factor must be larger than 0, or -1 to use the default value")]
    NotPositive,
    #[error(
        "unable to replicate the partition {wanted} time(s): the target replication factor of {wanted} cannot be \
         reached because only {usable} broker(s) are registered and take replicas"
    )]
    TooFewBrokers { wanted: usize, usable: usize },
    #[error(
        "unable to replicate the partition {wanted} time(s): all brokers are currently fenced or in controlled \
         shutdown, or have all their log directories cordoned"
    )]
    NoActiveBroker { wanted: usize },
    /// AlterPartitionReassignments that does not allow it.
    #[error("the replication factor is changed from {current} to {wanted}")]
    Changed { current: usize, wanted: usize },
}

/// Chooses replicas for `partitions` partitions. `start` moves the rack and the brokers that come first.
pub fn place(
    image: &MetadataImage,
    partitions: usize,
    replication_factor: i16,
    start: usize,
) -> Result<Vec<Replicas>, InvalidReplicationFactor> {
    let is_usable =
        |broker: &&BrokerRegistration| !broker.in_controlled_shutdown && broker.takes_replicas();
    let brokers = image.brokers.values().map(AsRef::as_ref);
    let usable: Vec<&BrokerRegistration> = brokers.filter(is_usable).collect();
    let wanted = usize::try_from(replication_factor).unwrap_or(0);
    if usable.iter().all(|broker| broker.fenced) {
        return Err(InvalidReplicationFactor::NoActiveBroker { wanted });
    }
    if wanted > usable.len() {
        let usable = usable.len();
        return Err(InvalidReplicationFactor::TooFewBrokers { wanted, usable });
    }
    let mut stripes = Stripes::new(&usable, start);
    Ok((0..partitions).map(|_| stripes.next(wanted)).collect())
}

/// The racks in turn.
#[derive(Debug)]
struct Stripes {
    racks: Vec<Rack>,
    /// The number of the next partition, counted from the start.
    number: usize,
    /// Partitions since the order was mixed.
    since_mixed: usize,
    active: usize,
    seed: u64,
}

/// The brokers of one rack.
#[derive(Debug, Default)]
struct Rack {
    active: Ring,
    fenced: Ring,
}

/// Brokers that take turns.
#[derive(Debug, Default)]
struct Ring {
    brokers: Vec<NodeId>,
    first: usize,
    /// The number of brokers that this partition has taken.
    taken: usize,
}

impl Ring {
    fn take(&mut self) -> Option<NodeId> {
        let place = self.taken;
        (place < self.brokers.len()).then(|| {
            self.taken += 1;
            self.brokers[(self.first + place) % self.brokers.len()]
        })
    }
}

impl Rack {
    /// Begins a partition.
    fn begin(&mut self, first: usize) {
        for ring in [&mut self.active, &mut self.fenced] {
            ring.first = first;
            ring.taken = 0;
        }
    }

    fn take(&mut self) -> Option<NodeId> {
        self.active.take().or_else(|| self.fenced.take())
    }
}

impl Stripes {
    fn new(brokers: &[&BrokerRegistration], start: usize) -> Self {
        let mut racks: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        for broker in brokers {
            let rack = racks.entry(broker.rack.as_deref()).or_default();
            let ring = if broker.fenced {
                &mut rack.fenced
            } else {
                &mut rack.active
            };
            ring.brokers.push(broker.id);
        }
        Self {
            racks: racks.into_values().collect(),
            number: start,
            since_mixed: 0,
            active: brokers.iter().filter(|broker| !broker.fenced).count(),
            seed: start as u64,
        }
    }

    /// The replicas of the next partition. There are enough brokers, and one is active.
    fn next(&mut self, wanted: usize) -> Replicas {
        if self.since_mixed == self.active {
            self.mix();
        }
        let count = self.racks.len();
        let order: Vec<usize> = (0..count)
            .map(|rank| (self.number + rank) % count)
            .collect();
        for (rank, place) in order.iter().enumerate() {
            self.racks[*place].begin(self.number / count + rank);
        }
        self.number += 1;
        self.since_mixed += 1;
        let leads = |place: &usize| !self.racks[*place].active.brokers.is_empty();
        let leading = order.iter().copied().find(leads);
        // The leader's rack has no second turn before the other racks.
        let others = order
            .iter()
            .copied()
            .filter(|place| Some(*place) != leading);
        let rounds = (1..wanted).flat_map(|_| order.iter().copied());
        let turns = leading.into_iter().chain(others).chain(rounds);
        turns
            .filter_map(|place| self.racks[place].take())
            .take(wanted)
            .collect()
    }

    /// Puts the racks, and the brokers of each, into another order.
    fn mix(&mut self) {
        self.since_mixed = 0;
        let seed = &mut self.seed;
        shuffle(&mut self.racks, seed);
        for rack in &mut self.racks {
            shuffle(&mut rack.active.brokers, seed);
            shuffle(&mut rack.fenced.brokers, seed);
        }
    }
}

fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for place in (1..items.len()).rev() {
        let other = mixed(seed) % (place as u64 + 1);
        items.swap(place, usize::try_from(other).unwrap_or(0));
    }
}

/// The next number of a fixed sequence without a visible pattern.
fn mixed(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let first = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}

/// The directories that new `replicas` are recorded with; none if the metadata version has no field for them.
pub fn directories(image: &MetadataImage, replicas: &[NodeId]) -> Vec<Uuid> {
    if !image.metadata_version().has_directory_assignment() {
        return Vec::new();
    }
    replicas.iter().map(|id| directory(image, *id)).collect()
}

/// The directory that a new replica on `broker` is recorded with: the only one that it has, else [`UNASSIGNED`].
pub(crate) fn directory(image: &MetadataImage, broker: NodeId) -> Uuid {
    let broker = image.brokers.get(&broker);
    match broker.map(|broker| broker.directories.as_slice()) {
        Some([only]) => *only,
        // It registered before directories were recorded.
        Some([]) => MIGRATING,
        // The broker will report its choice (`directories`).
        _ => UNASSIGNED,
    }
}

#[cfg(test)]
mod tests;
