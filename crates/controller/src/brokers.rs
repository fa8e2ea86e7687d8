//! Registers, fences, unfences and unregisters brokers, and changes the partitions that this affects.
//!
//! The record of the broker comes behind the changes of its partitions, except when it returns. So a controller that
//! fails in between repeats the changes: the broker registers again.

use ottla_metadata::partition::is_reserved_directory;
use ottla_metadata::registration::{FENCE, UNFENCE};
use ottla_metadata::{BrokerRegistration, MetadataImage, Partition, versions};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::metadata::{BrokerRegistrationChangeRecord, UnregisterBrokerRecord};

use crate::leadership;
use crate::partition_change::About;
use crate::refusal::InvalidRegistration;
use crate::{Decision, Refusal, View};

/// A request to register a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    pub broker: BrokerRegistration,
    /// The epoch with which its last process shut down in an orderly way; -1 if it did not.
    pub previous_epoch: i64,
    /// Whether the process that is registered under this id is alive, by its heartbeats.
    pub is_alive: bool,
}

/// Decides BrokerRegistration. The epoch is the offset of the broker's record, and so larger than every earlier epoch. A
/// new process is fenced and leads no partition until it is unfenced; one that registers again keeps its state.
///
/// `next` is the offset that the first record will have.
pub fn register(
    view: View<'_>,
    request: &Registration,
    next: Offset,
) -> Decision<Result<i64, Refusal>> {
    let broker = &request.broker;
    if let Err(refusal) = check(view.image, request) {
        return Decision::reply(Err(refusal));
    }
    let known = view.image.brokers.get(&broker.id);
    let same = known.filter(|known| known.incarnation == broker.incarnation);
    let mut decision = match same {
        Some(_) => Decision::reply(()),
        None => clean_up(view, request),
    };
    let behind = i64::try_from(decision.records.len()).unwrap_or(i64::MAX);
    let epoch = same.map_or(next.plus(behind).0, |same| same.epoch);
    let has_directories = view.image.metadata_version().has_directory_assignment();
    let directories = if has_directories {
        broker.directories.clone()
    } else {
        Vec::new()
    };
    let registered = BrokerRegistration {
        epoch,
        fenced: same.is_none_or(|same| same.fenced),
        in_controlled_shutdown: same.is_some_and(|same| same.in_controlled_shutdown),
        directories,
        cordoned_directories: None,
        ..broker.clone()
    };
    decision.add(registered.to_record());
    decision.replying(|()| Ok(epoch))
}

/// The partitions of the process that was registered before.
fn clean_up(view: View<'_>, request: &Registration) -> Decision<()> {
    let id = request.broker.id;
    let known = view.image.brokers.get(&id);
    let was_clean = known.is_some_and(|known| known.epoch == request.previous_epoch);
    if was_clean || !view.image.has_eligible_leader_replicas() {
        return leave(view, id);
    }
    leadership::updates(view, About::ShutDownUncleanly(id), |partition| {
        partition.isr.contains(&id) || partition.eligible_leaders.contains(&id)
    })
}

/// The broker leaves the ISRs, and leads nothing.
pub(crate) fn leave(view: View<'_>, id: NodeId) -> Decision<()> {
    leadership::updates(view, About::Leaves(id), |partition| {
        partition.isr.contains(&id)
    })
}

/// In Kafka's order.
fn check(image: &MetadataImage, request: &Registration) -> Result<(), Refusal> {
    let broker = &request.broker;
    let known = image.brokers.get(&broker.id);
    let is_same = known.is_none_or(|known| known.incarnation == broker.incarnation);
    if request.is_alive && !is_same {
        return Err(Refusal::DuplicateBroker(broker.id));
    }
    if image.metadata_version().has_directory_assignment() {
        check_directories(image, broker)?;
    }
    check_features(image, broker)
}

fn check_directories(image: &MetadataImage, broker: &BrokerRegistration) -> Result<(), Refusal> {
    let directories = &broker.directories;
    if directories.is_empty() {
        return Err(InvalidRegistration::NoDirectory.into());
    }
    if directories.iter().any(|id| is_reserved_directory(*id)) {
        return Err(InvalidRegistration::ReservedDirectory.into());
    }
    let mut sorted = directories.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != directories.len() {
        return Err(InvalidRegistration::DirectoryTwice.into());
    }
    let others = image.brokers.values().filter(|other| other.id != broker.id);
    for other in others {
        let shared = directories.iter().find(|id| other.directories.contains(id));
        if let Some(directory) = shared {
            let (other, directory) = (other.id, *directory);
            return Err(InvalidRegistration::DirectoryOfOther { other, directory }.into());
        }
    }
    Ok(())
}

/// Each finalized level must be in the broker's range. A feature that it does not name is supported at level 0 only.
fn check_features(image: &MetadataImage, broker: &BrokerRegistration) -> Result<(), Refusal> {
    let level = |name: &str| match name {
        versions::FEATURE => image.metadata_version().0,
        _ => image.features.get(name).copied().unwrap_or(0),
    };
    let check = |name: &str, minimum: i16, maximum: i16| {
        let level = level(name);
        if (minimum..=maximum).contains(&level) {
            return Ok(());
        }
        Err(Refusal::UnsupportedFeature {
            name: name.to_owned(),
            level,
            supported: (minimum, maximum),
        })
    };
    for feature in &broker.features {
        check(&feature.name, feature.minimum, feature.maximum)?;
    }
    let is_named = |name: &str| broker.features.iter().any(|feature| feature.name == name);
    if !is_named(versions::FEATURE) {
        return Err(InvalidRegistration::NoMetadataVersion.into());
    }
    let mut unnamed = image.features.keys().filter(|name| !is_named(name));
    unnamed.try_for_each(|name| check(name, 0, 0))
}

/// The registration that a broker means by its id and epoch.
pub(crate) fn registered(
    image: &MetadataImage,
    (id, epoch): (NodeId, i64),
) -> Result<&BrokerRegistration, Refusal> {
    let broker = image.brokers.get(&id);
    let broker = broker.filter(|broker| broker.epoch == epoch);
    let broker = broker.ok_or(Refusal::StaleBrokerEpoch)?;
    Ok(broker)
}

/// A broker that does not answer, or wants to be fenced, leaves the ISRs and leads nothing. This is safe also for one that
/// is alive. A broker that is fenced, or registered anew meanwhile, stays as it is.
pub fn fence(view: View<'_>, broker: (NodeId, i64)) -> Decision<()> {
    match registered(view.image, broker) {
        Ok(registered) if !registered.fenced => {}
        _ => return Decision::reply(()),
    }
    let mut decision = leave(view, broker.0);
    decision.add(BrokerRegistrationChangeRecord {
        fenced: FENCE,
        ..unchanged(broker)
    });
    decision
}

/// A broker that has caught up may lead, first of all the partitions that have no leader.
pub(crate) fn unfence(view: View<'_>, broker: (NodeId, i64)) -> Decision<()> {
    let mut decision = Decision::reply(());
    decision.add(BrokerRegistrationChangeRecord {
        fenced: UNFENCE,
        ..unchanged(broker)
    });
    let has_no_leader = |partition: &Partition| partition.leader.is_none();
    let about = About::Returns(broker.0);
    decision.join(leadership::updates(view, about, has_no_leader));
    decision
}

/// Decides UnregisterBroker. Its partitions keep it as a replica.
pub fn unregister(view: View<'_>, id: NodeId) -> Decision<Result<(), Refusal>> {
    let Some(broker) = view.image.brokers.get(&id) else {
        return Decision::reply(Err(Refusal::UnknownBroker(id.0)));
    };
    let mut decision = leave(view, id);
    decision.add(UnregisterBrokerRecord {
        broker_id: id.0,
        broker_epoch: broker.epoch,
        ..UnregisterBrokerRecord::default()
    });
    decision.replying(Ok)
}

/// A change of a registration that changes nothing.
pub(crate) fn unchanged((id, epoch): (NodeId, i64)) -> BrokerRegistrationChangeRecord {
    BrokerRegistrationChangeRecord {
        broker_id: id.0,
        broker_epoch: epoch,
        ..BrokerRegistrationChangeRecord::default()
    }
}
