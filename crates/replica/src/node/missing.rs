//! The replicas whose logs may lie in a log directory that is not there.
//!
//! An empty log must not take the place of such a log: its replica may be in the ISR, or the only one, and would lead
//! without the acknowledged records. Where the metadata names the directory of a replica (KIP-858), that decides. Where it
//! does not, a start without all directories withholds the replicas that it does not find.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::files::Files;
use ottla_metadata::partition::LOST;
use ottla_metadata::{MetadataImage, Partition};
use ottla_protocol::ids::Uuid;
use ottla_protocol::planted::{Bug, is_planted};

use super::{Found, Node};
use crate::logs::Existing;
use crate::{Host, PartitionId};

impl<F: Files, H: Host> Node<F, H> {
    /// Withholds the replicas in `image` that a start has not found, and that may be in a missing directory.
    pub(super) fn withhold_missing(&self, image: &MetadataImage, found: &[Vec<Existing<F, H>>]) {
        if !self.lacks_directories || is_planted(Bug::MissingLogMadeAnew) {
            return;
        }
        let found: BTreeSet<PartitionId> = found.iter().flatten().map(Existing::id).collect();
        let partitions = self.everything_in(image).partitions.into_iter();
        let missing = partitions.filter(|id| !found.contains(id)).filter(|id| {
            let state = image.partition(id.0, id.1);
            state.is_some_and(|state| state.directory_of(self.statics.node).is_none())
        });
        self.write().withheld = missing.collect();
    }

    /// Whether the log of a replica may lie in a directory that is not there, so that it must not be created.
    pub(super) fn is_elsewhere(&self, state: &Partition) -> bool {
        let node = self.statics.node;
        match state.directory_of(node) {
            _ if is_planted(Bug::MissingLogMadeAnew) => false,
            // It was in a directory that its broker did not know any more.
            Some(LOST) => self.lacks_directories || state.counts_on(node),
            Some(directory) => !self.has(directory),
            None => false,
        }
    }

    /// Whether this node has a directory of this id. While ids are not known, any may be here.
    fn has(&self, directory: Uuid) -> bool {
        let mut ids = self.directories.iter().map(|known| known.id.get());
        ids.any(|id| id.is_none_or(|id| *id == directory))
    }

    /// Whether a replica is withheld: its log may lie in a directory that is not there, and it is not known in which.
    pub fn withholds(&self, id: PartitionId) -> bool {
        self.read().withheld.contains(&id)
    }

    /// The replicas of topics that have changed since `known` whose directory differs from the one in `image`, with the
    /// directory to report for each (KIP-858). A replica that is withheld is lost, so that it leaves the ISR and leads
    /// nothing. None where the cluster does not record directories.
    pub fn located(
        &self,
        known: &MetadataImage,
        image: &MetadataImage,
    ) -> Vec<(PartitionId, Uuid)> {
        if !image.metadata_version().has_directory_assignment() {
            return Vec::new();
        }
        let topics = image.topics.iter().filter(|(id, topic)| {
            let before = known.topics.get(*id);
            before.is_none_or(|before| !Arc::ptr_eq(before, topic))
        });
        let partitions = topics.flat_map(|(id, topic)| {
            let partitions = topic.partitions.iter();
            partitions.map(|(index, state)| ((*id, *index), state))
        });
        let located = partitions.filter_map(|(id, state)| {
            let directory = match self.by_id(id.0, id.1) {
                Found::Here(partition) => *partition.directory().id.get()?,
                _ if self.withholds(id) => LOST,
                _ => return None,
            };
            (state.directory_of(self.statics.node) != Some(directory)).then_some((id, directory))
        });
        located.collect()
    }
}
