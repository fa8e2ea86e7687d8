//! AssignReplicasToDirs (KIP-858): records in which of a broker's log directories its replicas are.

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::partition_change::PartitionChange;
use crate::{Decision, View};

/// A partition, by its topic's id, and the directory that holds the broker's replica of it.
pub type Located = ((Uuid, PartitionIndex), Uuid);

/// Decides AssignReplicasToDirs. A replica that is recorded so already, or that no longer exists, needs no record. No
/// directory is recorded where the cluster's metadata version has no field for it.
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
    let change = PartitionChange::new(topic, index, partition);
    change.directory(broker, directory).record()
}
