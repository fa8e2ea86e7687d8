//! Groups of the newer protocols (consumer, share, streams) found in the log.
//!
//! This release does not serve them. It remembers the keys of their records. So such a group is listed, its offsets are
//! kept while it has members, and once it is empty it can be deleted or become a classic group.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_protocol::messages::coordinator::group::GroupRecord;

/// The protocol of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932.
    Share,
    /// KIP-1071.
    Streams,
}

impl Kind {
    /// Kafka's name of the group type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
        }
    }

    /// The protocol type that a list of groups shows.
    pub const fn protocol_type(self) -> &'static str {
        match self {
            Self::Classic => "",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
        }
    }
}

/// A group of a newer protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// Its protocol.
    pub kind: Kind,
    /// For each key that has a value in the log, the record that deletes it.
    tombstones: BTreeMap<Bytes, GroupRecord>,
    /// The keys among them that belong to a member.
    members: BTreeSet<Bytes>,
}

/// Whether it is the group's own record, without which the group does not exist.
const fn is_of_group(record: &GroupRecord) -> bool {
    matches!(
        record,
        GroupRecord::ConsumerGroupMetadata(..)
            | GroupRecord::ShareGroupMetadata(..)
            | GroupRecord::StreamsGroupMetadata(..)
    )
}

/// The parts of a record of such a group.
pub struct ForeignRecord {
    pub group_id: String,
    kind: Kind,
    key: Bytes,
    is_tombstone: bool,
    is_member: bool,
    tombstone: GroupRecord,
}

impl Foreign {
    /// A group without records.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            tombstones: BTreeMap::new(),
            members: BTreeSet::new(),
        }
    }

    /// Whether it has members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the log has no record of it any more.
    pub fn is_gone(&self) -> bool {
        self.tombstones.is_empty()
    }

    /// Whether the share coordinator has state of this group. The state must be deleted before the group; otherwise it
    /// fences a later group with the same id.
    pub fn has_share_state(&self) -> bool {
        self.tombstones
            .values()
            .any(|record| matches!(record, GroupRecord::ShareGroupStatePartitionMetadata(..)))
    }

    /// Its state, as far as records show it.
    pub fn state_name(&self) -> &'static str {
        if self.is_empty() { "Empty" } else { "Stable" }
    }

    /// The records that delete it, in an order that Kafka can replay: it does not load a partition in which a group is
    /// deleted before its members and assignments. Keys begin with the record's type, and dependent types have higher
    /// numbers. So the keys go in descending order, and the group's own record last.
    pub fn tombstones(&self) -> impl Iterator<Item = GroupRecord> {
        let (group, rest): (Vec<_>, Vec<_>) = self
            .tombstones
            .values()
            .rev()
            .partition(|record| is_of_group(record));
        rest.into_iter().chain(group).cloned()
    }

    /// Applies a record.
    pub fn apply(&mut self, record: ForeignRecord) {
        if record.is_tombstone {
            self.tombstones.remove(&record.key);
            self.members.remove(&record.key);
            return;
        }
        self.kind = record.kind;
        if record.is_member {
            self.members.insert(record.key.clone());
        }
        self.tombstones.insert(record.key, record.tombstone);
    }
}

macro_rules! foreign_records {
    ($record:expr; $($variant:ident: $kind:ident, $is_member:literal;)*) => {
        match $record {
            GroupRecord::LegacyOffsetCommit(..)
            | GroupRecord::OffsetCommit(..)
            | GroupRecord::GroupMetadata(..) => None,
            $(GroupRecord::$variant(key, value) => Some((
                key.group_id.clone(),
                Kind::$kind,
                $is_member,
                value.is_none(),
                GroupRecord::$variant(key.clone(), None),
            )),)*
        }
    };
}

impl ForeignRecord {
    /// The parts of a record of a newer protocol; `None` for other records.
    pub fn of(record: &GroupRecord) -> Option<Self> {
        let (group_id, kind, is_member, is_tombstone, tombstone) = foreign_records! { record;
            ConsumerGroupMetadata: Consumer, false;
            ConsumerGroupPartitionMetadata: Consumer, false;
            ConsumerGroupMemberMetadata: Consumer, true;
            ConsumerGroupTargetAssignmentMetadata: Consumer, false;
            ConsumerGroupTargetAssignmentMember: Consumer, false;
            ConsumerGroupCurrentMemberAssignment: Consumer, false;
            ConsumerGroupRegularExpression: Consumer, false;
            ShareGroupMemberMetadata: Share, true;
            ShareGroupMetadata: Share, false;
            ShareGroupTargetAssignmentMetadata: Share, false;
            ShareGroupTargetAssignmentMember: Share, false;
            ShareGroupCurrentMemberAssignment: Share, false;
            ShareGroupStatePartitionMetadata: Share, false;
            StreamsGroupMetadata: Streams, false;
            StreamsGroupMemberMetadata: Streams, true;
            StreamsGroupTargetAssignmentMetadata: Streams, false;
            StreamsGroupTargetAssignmentMember: Streams, false;
            StreamsGroupCurrentMemberAssignment: Streams, false;
            StreamsGroupTopology: Streams, false;
        }?;
        let (key, _) = tombstone.encode(0).ok()?;
        Some(Self {
            group_id,
            kind,
            key,
            is_tombstone,
            is_member,
            tombstone,
        })
    }

    /// Its protocol.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it deletes something.
    pub const fn is_tombstone(&self) -> bool {
        self.is_tombstone
    }
}
