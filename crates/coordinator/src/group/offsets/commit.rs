//! `OffsetCommit`: from a member of the current generation, or from any client while the group is empty.

use std::time::Duration;

use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::Now;

use super::committed::Committed;
use super::record;
use crate::action::{Decision, KeepAlive};
use crate::group::classic::{Group, State};
use crate::shard::Shard;

/// Offsets to commit.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitRequest {
    pub group_id: String,
    /// Empty for a consumer that is no member.
    pub member_id: String,
    /// Its static identity.
    pub instance_id: Option<String>,
    /// The generation that the member knows; negative for a consumer that is no member.
    pub generation: i32,
    /// How long to keep the offsets, if the client says (versions 2 to 4).
    pub retention: Option<Duration>,
    /// Whether the client understands `GROUP_ID_NOT_FOUND` (version 9 and later).
    pub knows_missing_groups: bool,
    /// The topics. The caller has checked that they exist.
    pub topics: Vec<CommitTopic>,
}

/// A topic with offsets to commit.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitTopic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, -1 if not known.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Option<String>,
}

/// The outcome for each offset, or why none is committed.
pub type CommitReply = Result<Vec<CommittedTopic>, CommitError>;

/// A topic of the answer, as in the request.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedTopic {
    pub name: String,
    pub id: Uuid,
    /// The partitions, as in the request.
    pub partitions: Vec<CommittedPartition>,
}

/// A partition of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedPartition {
    pub partition: i32,
    pub outcome: CommitOutcome,
}

/// The outcome for one offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed,
    /// Its metadata is longer than the broker allows.
    MetadataTooLarge,
}

impl CommitOutcome {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Committed => ErrorCode::None,
            Self::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        }
    }
}

/// Why nothing is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitError {
    /// There is no such group.
    GroupNotFound,
    /// No member has this id, or the group has members and the client names none.
    UnknownMember,
    /// Another instance has taken over the static identity.
    FencedInstance,
    /// Not the current generation.
    IllegalGeneration,
    /// The member has no assignment yet.
    RebalanceInProgress,
}

impl CommitError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        }
    }
}

impl Shard {
    /// Decides a commit.
    pub fn decide_commit(&self, request: CommitRequest, now: Now) -> Decision<CommitReply> {
        let keep_alive = match self.check_commit(&request) {
            Err(error) => return Decision::reply(Err(error)),
            Ok(keep_alive) => keep_alive,
        };
        let expire_timestamp = request.retention.map(|retention| {
            let millis = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
            now.wall.0.saturating_add(millis)
        });
        let mut records = Vec::new();
        let mut reply = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for offset in topic.partitions {
                let partition = offset.partition;
                let outcome = self.outcome_of(&offset);
                partitions.push(CommittedPartition { partition, outcome });
                if outcome == CommitOutcome::Committed {
                    let committed = Committed {
                        offset: offset.offset,
                        leader_epoch: Some(offset.leader_epoch).filter(|epoch| *epoch != -1),
                        metadata: offset.metadata.unwrap_or_default(),
                        commit_timestamp: now.wall.0,
                        expire_timestamp,
                        topic_id: topic.id,
                        record_offset: -1,
                    };
                    let place = (request.group_id.as_str(), topic.name.as_str(), partition);
                    records.push(record::of(place, &committed));
                }
            }
            reply.push(CommittedTopic {
                name: topic.name,
                id: topic.id,
                partitions,
            });
        }
        Decision {
            records,
            reply: Ok(reply),
            keep_alive,
        }
    }

    fn outcome_of(&self, offset: &OffsetToCommit) -> CommitOutcome {
        let text = offset.metadata.as_deref().unwrap_or_default();
        // There are at most as many UTF-16 units as bytes, so most texts need no count.
        let limit = self.config().offset_metadata_max;
        if text.len() > limit && text.encode_utf16().count() > limit {
            CommitOutcome::MetadataTooLarge
        } else {
            CommitOutcome::Committed
        }
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<Option<KeepAlive>, CommitError> {
        if let Some(foreign) = self.state().foreign(&request.group_id) {
            let is_open = foreign.is_empty() && request.generation < 0;
            return is_open.then_some(None).ok_or(CommitError::UnknownMember);
        }
        let Some(group) = self.classic(&request.group_id) else {
            return match request.generation {
                ..0 => Ok(None),
                _ if request.knows_missing_groups => Err(CommitError::GroupNotFound),
                _ => Err(CommitError::IllegalGeneration),
            };
        };
        check_member(group, request)?;
        let keeps_alive = matches!(group.state(), State::Stable | State::PreparingRebalance);
        Ok(keeps_alive.then(|| KeepAlive {
            group: request.group_id.clone(),
            member: request.member_id.clone(),
        }))
    }
}

fn check_member(group: &Group, request: &CommitRequest) -> Result<(), CommitError> {
    use crate::group::classic::IdentityError;
    if request.generation < 0 && group.state() == State::Empty {
        return Ok(());
    }
    let is_anonymous =
        request.generation < 0 && request.member_id.is_empty() && request.instance_id.is_none();
    if is_anonymous {
        return Err(CommitError::UnknownMember);
    }
    match group.check_identity(&request.member_id, request.instance_id.as_deref()) {
        Err(IdentityError::UnknownMember) => return Err(CommitError::UnknownMember),
        Err(IdentityError::Fenced) => return Err(CommitError::FencedInstance),
        Ok(()) => {}
    }
    if request.generation != group.generation() {
        return Err(CommitError::IllegalGeneration);
    }
    if group.state() == State::CompletingRebalance {
        return Err(CommitError::RebalanceInProgress);
    }
    Ok(())
}
