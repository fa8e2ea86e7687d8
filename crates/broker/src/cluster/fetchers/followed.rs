//! The partitions that this node follows, as the metadata has them, by the lane in which they are fetched.
//!
//! Only topics that a new image has changed are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_metadata::{MetadataImage, Partition, Topic};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_replica::PartitionId;

use super::agenda::Partitions;

/// One of the fetchers of a leader. Each partition has its own one of `num.replica.fetchers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    pub leader: NodeId,
    pub number: usize,
}

/// The partitions that this node follows.
#[derive(Debug)]
pub struct Followed {
    node: NodeId,
    /// `num.replica.fetchers`, at least 1.
    lanes: usize,
    known: Arc<MetadataImage>,
    by_lane: BTreeMap<Lane, Arc<Partitions>>,
}

impl Followed {
    /// Nothing yet, in one lane for each leader.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            lanes: 1,
            known: Arc::default(),
            by_lane: BTreeMap::new(),
        }
    }

    /// Takes over `num.replica.fetchers`. A change of it counts in the next [`Followed::update`].
    pub fn set_lanes(&mut self, lanes: usize) {
        if lanes != self.lanes {
            *self = Self {
                lanes: lanes.max(1),
                ..Self::new(self.node)
            };
        }
    }

    /// The partitions of each lane that has any. Those of a lane that did not change are the same `Arc`.
    pub fn by_lane(&self) -> &BTreeMap<Lane, Arc<Partitions>> {
        &self.by_lane
    }

    /// Takes over what `image` has.
    pub fn update(&mut self, image: &Arc<MetadataImage>) {
        let known = std::mem::replace(&mut self.known, Arc::clone(image));
        for (id, before) in &known.topics {
            let now = image.topics.get(id);
            if now.is_none_or(|now| !Arc::ptr_eq(now, before)) {
                self.change(*id, Some(before), now);
            }
        }
        let is_new = |id: &Uuid| !known.topics.contains_key(id);
        for (id, topic) in image.topics.iter().filter(|(id, _)| is_new(id)) {
            self.change(*id, None, Some(topic));
        }
        self.by_lane.retain(|_, partitions| !partitions.is_empty());
    }

    fn change(&mut self, id: Uuid, before: Option<&Arc<Topic>>, now: Option<&Arc<Topic>>) {
        let both = before.into_iter().chain(now);
        let indexes = both.flat_map(|topic| topic.partitions.keys().copied());
        for index in indexes.collect::<BTreeSet<PartitionIndex>>() {
            let place = (id, index);
            let state = |topic: Option<&Arc<Topic>>| topic?.partitions.get(&index).cloned();
            let old = state(before).and_then(|state| self.lane(place, &state));
            let new = state(now).and_then(|state| Some((self.lane(place, &state)?, state)));
            if let Some(old) = old.filter(|old| new.as_ref().is_none_or(|(new, _)| new != old)) {
                self.partitions(old).remove(&place);
            }
            if let Some((lane, state)) = new {
                let known = self.by_lane.get(&lane).and_then(|known| known.get(&place));
                if known != Some(&state.leader_epoch) {
                    self.partitions(lane).insert(place, state.leader_epoch);
                }
            }
        }
    }

    fn partitions(&mut self, lane: Lane) -> &mut Partitions {
        Arc::make_mut(self.by_lane.entry(lane).or_default())
    }

    /// The lane of a partition, if this node follows a leader of it.
    fn lane(&self, (topic, index): PartitionId, state: &Partition) -> Option<Lane> {
        let leader = state.leader.filter(|leader| *leader != self.node)?;
        let number = topic
            .least_significant_bits()
            .wrapping_add(u64::from(index.0.unsigned_abs()));
        let number = usize::try_from(number % self.lanes as u64).unwrap_or_default();
        state
            .replicas
            .contains(&self.node)
            .then_some(Lane { leader, number })
    }
}

#[cfg(test)]
mod tests {
    use super::{Followed, Lane};
    use ottla_metadata::{MetadataDelta, MetadataImage};
    use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
    use ottla_protocol::messages::metadata::{PartitionRecord, RemoveTopicRecord, TopicRecord};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const NODE: NodeId = NodeId(1);

    fn topic(number: u64) -> Uuid {
        Uuid::from_parts(1, number)
    }

    /// `image` with the partitions of a topic, each with its leader (-1 for none), epoch and replicas.
    fn with(
        image: &MetadataImage,
        number: u64,
        partitions: &[(i32, i32, &[i32])],
    ) -> MetadataImage {
        let mut delta = MetadataDelta::new(image.clone());
        let record = TopicRecord {
            name: format!("t{number}"),
            topic_id: topic(number),
            ..TopicRecord::default()
        };
        if !image.topics.contains_key(&topic(number)) {
            delta.replay(&record.into());
        }
        for (index, (leader, leader_epoch, replicas)) in (0..).zip(partitions) {
            let record = PartitionRecord {
                partition_id: index,
                topic_id: topic(number),
                leader: *leader,
                leader_epoch: *leader_epoch,
                replicas: replicas.to_vec(),
                isr: replicas.to_vec(),
                ..PartitionRecord::default()
            };
            delta.replay(&record.into());
        }
        delta.finish().0
    }

    fn without(image: &MetadataImage, number: u64) -> MetadataImage {
        let mut delta = MetadataDelta::new(image.clone());
        let record = RemoveTopicRecord {
            topic_id: topic(number),
            ..RemoveTopicRecord::default()
        };
        delta.replay(&record.into());
        delta.finish().0
    }

    /// By leader: the number of the topic, the partition and the leader epoch.
    fn all(followed: &Followed) -> BTreeMap<i32, Vec<(u64, i32, i32)>> {
        let by_lane = followed.by_lane().iter();
        let lanes = by_lane.map(|(lane, partitions)| {
            let partitions = partitions
                .iter()
                .map(|((topic, index), epoch)| (topic.least_significant_bits(), index.0, epoch.0));
            (lane.leader.0, partitions.collect())
        });
        lanes.collect()
    }

    #[test]
    fn partitions_go_where_their_leaders_go() {
        let mut followed = Followed::new(NODE);
        let none = MetadataImage::default();
        let own = (1, 5, &[1, 2][..]);
        let one = with(
            &none,
            1,
            &[(2, 5, &[1, 2]), own, (3, 5, &[2, 3]), (-1, 5, &[1, 2])],
        );
        let both = with(&one, 2, &[(3, 4, &[1, 3])]);
        followed.update(&Arc::new(both.clone()));
        let expected = BTreeMap::from([(2, vec![(1, 0, 5)]), (3, vec![(2, 0, 4)])]);
        assert_eq!(all(&followed), expected);
        let moved = with(&both, 1, &[(3, 6, &[1, 2, 3]), (2, 6, &[1, 2])]);
        followed.update(&Arc::new(moved.clone()));
        let expected = BTreeMap::from([(2, vec![(1, 1, 6)]), (3, vec![(1, 0, 6), (2, 0, 4)])]);
        assert_eq!(all(&followed), expected);
        followed.update(&Arc::new(without(&moved, 1)));
        assert_eq!(all(&followed), BTreeMap::from([(3, vec![(2, 0, 4)])]));
        let away = with(&without(&moved, 1), 2, &[(3, 4, &[2, 3])]);
        followed.update(&Arc::new(away));
        assert_eq!(all(&followed), BTreeMap::new());
    }

    #[test]
    fn a_change_leaves_the_lanes_of_others_as_they_are() {
        let mut followed = Followed::new(NODE);
        followed.set_lanes(2);
        let image = with(
            &MetadataImage::default(),
            1,
            &[(2, 5, &[1, 2]), (2, 5, &[1, 2])],
        );
        followed.update(&Arc::new(image.clone()));
        let lane = |number| Lane {
            leader: NodeId(2),
            number,
        };
        let before = followed.by_lane().clone();
        let by_number = |number: usize| {
            let partitions = before[&lane(number)].keys();
            partitions.map(|(_, index)| index.0).collect::<Vec<_>>()
        };
        assert_eq!([by_number(0), by_number(1)], [[1], [0]]);
        let later = with(&image, 1, &[(2, 6, &[1, 2]), (2, 5, &[1, 2])]);
        followed.update(&Arc::new(later));
        let now = followed.by_lane();
        assert!(Arc::ptr_eq(&now[&lane(0)], &before[&lane(0)]));
        let changed = &now[&lane(1)][&(topic(1), PartitionIndex(0))];
        assert_eq!(*changed, LeaderEpoch(6));
    }
}
