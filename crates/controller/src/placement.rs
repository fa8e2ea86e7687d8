//! Chooses the brokers of new replicas.
//!
//! As in Kafka's striped placement, racks take turns, and so do the brokers of a rack. Each partition starts one broker
//! after the one before it, so that leaders and replicas spread evenly. Fenced brokers, and those that shut down, get
//! replicas only when too few others are left, and never lead.

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
         reached because only {registered} broker(s) are registered"
    )]
    TooFewBrokers { wanted: usize, registered: usize },
    #[error(
        "unable to replicate the partition {wanted} time(s): all brokers are currently fenced or in controlled \
         shutdown"
    )]
    NoActiveBroker { wanted: usize },
    /// AlterPartitionReassignments that does not allow it.
    #[error("the replication factor is changed from {current} to {wanted}")]
    Changed { current: usize, wanted: usize },
}

/// Chooses replicas for `partitions` partitions. `start` is the broker, by its place in turn, that leads the first.
pub fn place(
    image: &MetadataImage,
    partitions: usize,
    replication_factor: i16,
    start: usize,
) -> Result<Vec<Replicas>, InvalidReplicationFactor> {
    let registered = image.brokers.len();
    let wanted = usize::try_from(replication_factor).unwrap_or(0);
    if wanted > registered {
        return Err(InvalidReplicationFactor::TooFewBrokers { wanted, registered });
    }
    let active = in_turn(image, BrokerRegistration::is_active);
    if active.is_empty() {
        return Err(InvalidReplicationFactor::NoActiveBroker { wanted });
    }
    let rest = in_turn(image, |broker| !broker.is_active());
    let one = |partition: usize| {
        let first = (start + partition) % active.len();
        let turn = active.iter().cycle().skip(first).take(active.len());
        turn.chain(&rest).take(wanted).copied().collect()
    };
    Ok((0..partitions).map(one).collect())
}

/// The brokers that `chosen` accepts, racks in turn.
fn in_turn(image: &MetadataImage, chosen: impl Fn(&BrokerRegistration) -> bool) -> Vec<NodeId> {
    let mut racks: BTreeMap<Option<&str>, Vec<NodeId>> = BTreeMap::new();
    for broker in image.brokers.values().filter(|broker| chosen(broker)) {
        racks
            .entry(broker.rack.as_deref())
            .or_default()
            .push(broker.id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|turn| {
            racks
                .values()
                .filter_map(move |rack| rack.get(turn).copied())
        })
        .collect()
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
