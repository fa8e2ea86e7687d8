//! `OffsetFetch`: the offsets that a group has committed, for some partitions or for all.

use ottla_protocol::ids::Uuid;

use super::committed::Committed;
use crate::shard::Shard;

#[derive(Debug, Clone, PartialEq)]
pub struct OffsetFetchRequest {
    pub group_id: String,
    /// `None` for all topics for which the group has offsets.
    pub topics: Option<Vec<TopicToFetch>>,
    /// Whether an offset that an open transaction may replace is answered as unstable.
    pub require_stable: bool,
}

/// A topic to fetch offsets of.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicToFetch {
    pub name: String,
    /// Its id, zero if the client did not say.
    pub id: Uuid,
    pub partitions: Vec<i32>,
}

/// A topic of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedTopic {
    pub name: String,
    /// Its id, as in the request.
    pub id: Uuid,
    /// The partitions and what is committed for them.
    pub partitions: Vec<(i32, Fetched)>,
}

/// The answer for one partition.
#[derive(Debug, Clone, PartialEq)]
pub enum Fetched {
    Nothing,
    Offset(Committed),
    /// An open transaction may replace it (`UNSTABLE_OFFSET_COMMIT`).
    Unstable,
}

impl Shard {
    /// The offsets that a group has committed. A group that does not exist has none.
    pub fn fetch_offsets(&self, request: &OffsetFetchRequest) -> Vec<FetchedTopic> {
        match &request.topics {
            Some(topics) => {
                let topics = topics.iter();
                topics
                    .map(|topic| self.fetch_topic(request, topic))
                    .collect()
            }
            None => self.fetch_all(request),
        }
    }

    fn fetch_topic(&self, request: &OffsetFetchRequest, topic: &TopicToFetch) -> FetchedTopic {
        let partitions = topic.partitions.iter().map(|partition| {
            let fetched = match self.fetch_one(request, &topic.name, *partition) {
                Fetched::Offset(committed) if is_of_another_topic(&committed, topic.id) => {
                    Fetched::Nothing
                }
                fetched => fetched,
            };
            (*partition, fetched)
        });
        FetchedTopic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: partitions.collect(),
        }
    }

    fn fetch_all(&self, request: &OffsetFetchRequest) -> Vec<FetchedTopic> {
        let topics = self
            .state()
            .offsets()
            .of_group(&request.group_id)
            .into_iter()
            .flatten();
        topics
            .map(|(name, partitions)| FetchedTopic {
                name: name.clone(),
                id: Uuid::ZERO,
                partitions: partitions
                    .keys()
                    .map(|partition| (*partition, self.fetch_one(request, name, *partition)))
                    .collect(),
            })
            .collect()
    }

    fn fetch_one(&self, request: &OffsetFetchRequest, topic: &str, partition: i32) -> Fetched {
        let place = (request.group_id.as_str(), topic, partition);
        let offsets = self.state().offsets();
        if request.require_stable && offsets.is_pending(place) {
            return Fetched::Unstable;
        }
        offsets
            .get(place)
            .cloned()
            .map_or(Fetched::Nothing, Fetched::Offset)
    }
}

/// A topic may have been deleted and created again with the same name.
fn is_of_another_topic(committed: &Committed, id: Uuid) -> bool {
    committed.topic_id != Uuid::ZERO && id != Uuid::ZERO && committed.topic_id != id
}
