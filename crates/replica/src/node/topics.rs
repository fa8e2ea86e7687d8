//! The topics of the cluster, and the partitions of this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_log::files::Files;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::ErrorCode;

use crate::{Directory, Host, Partition, PartitionId};

/// Where a partition is.
#[derive(Debug)]
pub enum Found<F: Files, H: Host> {
    /// On this node.
    Here(Arc<Partition<F, H>>),
    /// On other nodes only, or not created here yet.
    Elsewhere,
    /// No topic has this name.
    UnknownTopic,
    /// No topic has this id.
    UnknownTopicId,
    /// The topic has no such partition.
    UnknownPartition,
}

impl<F: Files, H: Host> Found<F, H> {
    /// The partition on this node, or the error code for a request that needs its leader.
    pub fn or_code(self) -> Result<Arc<Partition<F, H>>, ErrorCode> {
        match self {
            Self::Here(partition) => Ok(partition),
            Self::Elsewhere => Err(ErrorCode::NotLeaderOrFollower),
            Self::UnknownTopicId => Err(ErrorCode::UnknownTopicId),
            Self::UnknownTopic | Self::UnknownPartition => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

#[derive(Debug)]
pub(super) struct Topics<F: Files, H: Host> {
    by_id: BTreeMap<Uuid, Topic<F, H>>,
    ids: BTreeMap<Arc<str>, Uuid>,
    /// Partitions that must not be created in this process, see [`Node::withholds`](super::Node::withholds).
    pub(super) withheld: BTreeSet<PartitionId>,
}

/// A topic of the cluster.
#[derive(Debug)]
struct Topic<F: Files, H: Host> {
    name: Arc<str>,
    /// The number of its partitions, wherever they are.
    partitions: usize,
    here: BTreeMap<PartitionIndex, Arc<Partition<F, H>>>,
    /// The directories of partitions that are being created.
    being_made: BTreeMap<PartitionIndex, Arc<Directory<F, H>>>,
}

impl<F: Files, H: Host> Default for Topics<F, H> {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            ids: BTreeMap::new(),
            withheld: BTreeSet::new(),
        }
    }
}

impl<F: Files, H: Host> Topics<F, H> {
    pub(super) fn by_id(&self, topic: Uuid, index: PartitionIndex) -> Found<F, H> {
        let topic = self.by_id.get(&topic);
        topic.map_or(Found::UnknownTopicId, |topic| topic.find(index))
    }

    pub(super) fn by_name(&self, topic: &str, index: PartitionIndex) -> Found<F, H> {
        let id = self.ids.get(topic);
        let topic = id.and_then(|id| self.by_id.get(id));
        topic.map_or(Found::UnknownTopic, |topic| topic.find(index))
    }

    pub(super) fn name(&self, topic: Uuid) -> Option<Arc<str>> {
        let topic = self.by_id.get(&topic);
        topic.map(|topic| Arc::clone(&topic.name))
    }

    /// All partitions of this node.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition<F, H>>> {
        self.by_id.values().flat_map(|topic| topic.here.values())
    }

    /// The directory of each partition that is here or being created.
    pub(super) fn directories_in_use(&self) -> impl Iterator<Item = &Arc<Directory<F, H>>> {
        self.by_id.values().flat_map(|topic| {
            let here = topic.here.values().map(|partition| partition.directory());
            here.chain(topic.being_made.values())
        })
    }

    /// The directory in which a partition's log is, or is being created.
    pub(super) fn directory_of(
        &self,
        (topic, index): PartitionId,
    ) -> Option<&Arc<Directory<F, H>>> {
        let topic = self.by_id.get(&topic)?;
        let here = topic.here.get(&index);
        let here = here.map(|partition| partition.directory());
        here.or_else(|| topic.being_made.get(&index))
    }

    /// Whether a partition is being created in `directory`.
    pub(super) fn is_being_made_in(
        &self,
        (topic, index): PartitionId,
        directory: &Arc<Directory<F, H>>,
    ) -> bool {
        let topic = self.by_id.get(&topic);
        let chosen = topic.and_then(|topic| topic.being_made.get(&index));
        chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, directory))
    }

    /// Updates the topics and their numbers of partitions from `image`.
    pub(super) fn learn(&mut self, image: &MetadataImage) {
        for (id, topic) in &image.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            self.ids.insert(Arc::clone(&name), *id);
            let known = self.by_id.entry(*id).or_insert_with(|| Topic {
                name,
                partitions: 0,
                here: BTreeMap::new(),
                being_made: BTreeMap::new(),
            });
            known.partitions = topic.partitions.len();
        }
    }

    /// Removes a topic; returns its partitions, which are still on disk.
    pub(super) fn forget(&mut self, id: Uuid) -> Vec<Arc<Partition<F, H>>> {
        self.withheld.retain(|(topic, _)| *topic != id);
        let Some(topic) = self.by_id.remove(&id) else {
            return Vec::new();
        };
        if self.ids.get(&topic.name) == Some(&id) {
            self.ids.remove(&topic.name);
        }
        topic.here.into_values().collect()
    }

    /// Removes a partition that this node shall not have any more; returns it if it is on disk.
    pub(super) fn remove(&mut self, (topic, index): PartitionId) -> Option<Arc<Partition<F, H>>> {
        self.withheld.remove(&(topic, index));
        let topic = self.by_id.get_mut(&topic)?;
        topic.being_made.remove(&index);
        topic.here.remove(&index)
    }

    /// Adds a partition that was created; returns false if it is not wanted any more.
    pub(super) fn insert_made(&mut self, partition: &Arc<Partition<F, H>>) -> bool {
        let topic = self.by_id.get(&partition.topic_id);
        topic.is_some_and(|topic| topic.being_made.contains_key(&partition.index))
            && self.insert(partition)
    }

    /// Adds a partition; returns false if its topic is gone.
    pub(super) fn insert(&mut self, partition: &Arc<Partition<F, H>>) -> bool {
        let Some(topic) = self.by_id.get_mut(&partition.topic_id) else {
            return false;
        };
        topic.being_made.remove(&partition.index);
        topic.here.insert(partition.index, Arc::clone(partition));
        true
    }

    /// Records that a partition will be created in `directory`.
    pub(super) fn choose(&mut self, (topic, index): PartitionId, directory: &Arc<Directory<F, H>>) {
        if let Some(topic) = self.by_id.get_mut(&topic) {
            topic.being_made.insert(index, Arc::clone(directory));
        }
    }

    /// Drops the choice of [`Topics::choose`]: the partition could not be created, and the next attempt may choose
    /// another directory.
    pub(super) fn unchoose(&mut self, (topic, index): PartitionId) {
        if let Some(topic) = self.by_id.get_mut(&topic) {
            topic.being_made.remove(&index);
        }
    }
}

impl<F: Files, H: Host> Topic<F, H> {
    fn find(&self, index: PartitionIndex) -> Found<F, H> {
        match self.here.get(&index) {
            Some(partition) => Found::Here(Arc::clone(partition)),
            None if usize::try_from(index.0).is_ok_and(|index| index < self.partitions) => {
                Found::Elsewhere
            }
            None => Found::UnknownPartition,
        }
    }
}
