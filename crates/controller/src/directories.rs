//! A broker says in which of its log directories its replicas lie (KIP-858).

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{MetadataRecord, PartitionChangeRecord};

use crate::{Decision, View};

/// A partition, by its topic's id, and the directory that holds the broker's replica of it.
pub type Located = ((Uuid, PartitionIndex), Uuid);

/// Decides what AssignReplicasToDirs does. What is recorded so already, or gone since, changes nothing, nor does what
/// the cluster's metadata version has no field for.
pub fn decide(view: View<'_>, broker: NodeId, located: &[Located]) -> Decision<()> {
    let can_record = view.image.metadata_version().has_directory_assignment();
    let records = located
        .iter()
        .filter(|_| can_record)
        .filter_map(|(partition, directory)| assign(view.image, broker, *partition, *directory));
    Decision {
        records: records.collect(),
        reply: (),
    }
}

fn assign(
    image: &MetadataImage,
    broker: NodeId,
    (topic, index): (Uuid, PartitionIndex),
    directory: Uuid,
) -> Option<MetadataRecord> {
    let partition = image.partition(topic, index)?;
    let place = partition
        .replicas
        .iter()
        .position(|replica| *replica == broker)?;
    let mut directories = partition.directories.clone();
    // Topics of Kafka before 3.7 have no directories at all.
    directories.resize(
        partition.replicas.len(),
        ottla_metadata::partition::UNASSIGNED,
    );
    let known = directories.get_mut(place)?;
    if *known == directory {
        return None;
    }
    *known = directory;
    let change = PartitionChangeRecord {
        topic_id: topic,
        partition_id: index.0,
        directories: Some(directories),
        ..PartitionChangeRecord::default()
    };
    Some(change.into())
}
