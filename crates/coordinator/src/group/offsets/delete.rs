//! `OffsetDelete`: deletes offsets of topics to which no member subscribes. Deletes the offsets of a deleted topic, too.

use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::coordinator::group::GroupRecord;

use super::record;
use crate::action::Decision;
use crate::group::classic::State;
use crate::shard::Shard;

/// An `OffsetDelete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDeleteRequest {
    pub group_id: String,
    /// Topics and partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// The outcome for each partition, or why no offset is deleted.
pub type OffsetDeleteReply = Result<Vec<(String, Vec<(i32, PartitionDelete)>)>, OffsetDeleteError>;

/// The outcome for one offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionDelete {
    /// It is deleted, or there was none.
    Deleted,
    /// A member subscribes to the topic.
    Subscribed,
}

impl PartitionDelete {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Deleted => ErrorCode::None,
            Self::Subscribed => ErrorCode::GroupSubscribedToTopic,
        }
    }
}

/// Why no offset is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetDeleteError {
    /// The group id is empty.
    InvalidGroupId,
    /// There is no such group.
    GroupNotFound,
    /// It has members, and the coordinator cannot read what they subscribe to.
    GroupNotEmpty,
}

impl OffsetDeleteError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::GroupNotEmpty => ErrorCode::NonEmptyGroup,
        }
    }
}

impl Shard {
    /// Decides which offsets are deleted.
    pub fn decide_offset_delete(
        &self,
        request: &OffsetDeleteRequest,
    ) -> Decision<OffsetDeleteReply> {
        if let Err(error) = self.check_offset_delete(&request.group_id) {
            return Decision::reply(Err(error));
        }
        let mut records = Vec::new();
        let mut reply = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in &request.topics {
            let outcome = if self.may_be_subscribed(&request.group_id, topic) {
                PartitionDelete::Subscribed
            } else {
                records.extend(self.tombstones_for(&request.group_id, topic, partitions));
                PartitionDelete::Deleted
            };
            let outcomes = partitions.iter().map(|partition| (*partition, outcome));
            reply.push((topic.clone(), outcomes.collect()));
        }
        Decision {
            records,
            reply: Ok(reply),
            keep_alive: None,
        }
    }

    fn tombstones_for(&self, group_id: &str, topic: &str, partitions: &[i32]) -> Vec<GroupRecord> {
        let offsets = self.state().offsets();
        let places = partitions
            .iter()
            .map(|partition| (group_id, topic, *partition));
        places
            .filter(|place| offsets.get(*place).is_some() || offsets.is_pending(*place))
            .map(record::tombstone)
            .collect()
    }

    fn check_offset_delete(&self, group_id: &str) -> Result<(), OffsetDeleteError> {
        if self.state().foreign(group_id).is_some() {
            return Ok(());
        }
        let group = self.classic(group_id);
        let group = group.ok_or(OffsetDeleteError::GroupNotFound)?;
        if group.state() != State::Empty && !group.is_of_consumers() {
            return Err(OffsetDeleteError::GroupNotEmpty);
        }
        Ok(())
    }

    /// Whether a member may subscribe to the topic. What members of a newer protocol subscribe to is not known.
    fn may_be_subscribed(&self, group_id: &str, topic: &str) -> bool {
        match self.state().foreign(group_id) {
            Some(foreign) => !foreign.is_empty(),
            None => self
                .classic(group_id)
                .is_some_and(|group| group.is_subscribed_to(topic)),
        }
    }

    /// The records that delete every offset of a deleted topic.
    pub fn decide_topic_deleted(&self, name: &str, id: Uuid) -> Vec<GroupRecord> {
        let places = self.state().offsets().places_of_topic(name, id);
        let places = places.iter();
        places
            .map(|(group, partition)| record::tombstone((group, name, *partition)))
            .collect()
    }
}
