//! `DeleteGroups`: deletes an empty group with all its offsets.

use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::coordinator::group::GroupRecord;

use super::classic::{State, record};
use crate::action::Decision;
use crate::shard::Shard;

/// A request to delete one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteGroupRequest {
    pub group_id: String,
}

/// Why a group is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteError {
    /// There is no such group.
    NotFound,
    /// It has members.
    NotEmpty,
    /// It is a share group, and this release cannot delete its state at the share coordinator.
    HasShareState,
}

impl DeleteError {
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::GroupIdNotFound,
            Self::NotEmpty => ErrorCode::NonEmptyGroup,
            Self::HasShareState => ErrorCode::UnsupportedVersion,
        }
    }
}

impl Shard {
    /// Decides `DeleteGroups` for one group.
    pub fn decide_delete_group(&self, group_id: &str) -> Decision<Result<(), DeleteError>> {
        if let Err(error) = self.check_empty(group_id) {
            Decision::reply(Err(error))
        } else {
            let mut records = self.state().offsets().tombstones(group_id);
            records.extend(self.group_tombstones(group_id));
            Decision {
                records,
                reply: Ok(()),
                keep_alive: None,
            }
        }
    }

    fn check_empty(&self, group_id: &str) -> Result<(), DeleteError> {
        let is_empty = if let Some(foreign) = self.state().foreign(group_id) {
            if foreign.has_share_state() {
                return Err(DeleteError::HasShareState);
            }
            foreign.is_empty()
        } else {
            let group = self.classic(group_id).ok_or(DeleteError::NotFound)?;
            group.state() == State::Empty
        };
        if is_empty {
            Ok(())
        } else {
            Err(DeleteError::NotEmpty)
        }
    }

    /// The records that delete a group itself, without its offsets.
    pub(crate) fn group_tombstones(&self, group_id: &str) -> Vec<GroupRecord> {
        match self.state().foreign(group_id) {
            Some(foreign) => foreign.tombstones().collect(),
            None => vec![record::tombstone(group_id)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeleteError;
    use crate::config::Config;
    use crate::shard::Shard;
    use crate::state::Position;
    use ottla_protocol::ids::Offset;
    use ottla_protocol::messages::coordinator::group::{
        GroupRecord, ShareGroupMetadataKey, ShareGroupMetadataValue,
        ShareGroupStatePartitionMetadataKey, ShareGroupStatePartitionMetadataValue,
    };

    #[test]
    fn a_share_group_stays_while_the_share_coordinator_keeps_something_for_it() {
        let group_id = "g".to_owned();
        let group = GroupRecord::ShareGroupMetadata(
            ShareGroupMetadataKey {
                group_id: group_id.clone(),
                ..ShareGroupMetadataKey::default()
            },
            Some(ShareGroupMetadataValue::default()),
        );
        let key = ShareGroupStatePartitionMetadataKey {
            group_id,
            ..ShareGroupStatePartitionMetadataKey::default()
        };
        let kept = |value| GroupRecord::ShareGroupStatePartitionMetadata(key.clone(), value);
        let mut shard = Shard::new(Config::default());
        let apply = |shard: &mut Shard, record| {
            shard.apply(Position::plain(Offset(0)), record);
            shard.decide_delete_group("g").reply
        };
        assert_eq!(apply(&mut shard, group), Ok(()));
        let some = Some(ShareGroupStatePartitionMetadataValue::default());
        let refused = Err(DeleteError::HasShareState);
        assert_eq!(apply(&mut shard, kept(some)), refused);
        assert_eq!(apply(&mut shard, kept(None)), Ok(()));
    }
}
