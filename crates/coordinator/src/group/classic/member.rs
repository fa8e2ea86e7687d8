//! A member of a classic group.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::messages::Protocol;
use crate::ticket::Ticket;

/// A member as the coordinator knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its id, made by the coordinator.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id it joined with.
    pub client_id: String,
    /// The address it joined from.
    pub client_host: String,
    /// How long a rebalance waits for it to rejoin.
    pub rebalance_timeout: Duration,
    /// How long it stays a member without a heartbeat.
    pub session_timeout: Duration,
    /// The protocols it supports, in its order of preference.
    pub protocols: Vec<Protocol>,
    /// Its assignment, as the leader encoded it.
    pub assignment: Bytes,
    /// Whether its first `JoinGroup` is not answered yet. Until then its session may end although it waits.
    pub is_new: bool,
    /// Its waiting `JoinGroup`.
    pub awaiting_join: Option<Ticket>,
    /// Its waiting `SyncGroup`.
    pub awaiting_sync: Option<Ticket>,
}

/// A static member as it was before it came back under a new id. It is restored if the record of the new id is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticMemberBefore {
    pub(super) member: Member,
    pub(super) leader: Option<String>,
    /// The id that it came back under.
    pub(super) new_id: String,
}

impl Member {
    /// The member's metadata for `protocol`, empty if it does not support it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|supported| supported.name == protocol)
            .map(|supported| supported.metadata.clone())
            .unwrap_or_default()
    }

    /// The candidate that it prefers.
    pub fn vote<'a>(&self, candidates: &BTreeSet<&'a str>) -> Option<&'a str> {
        self.protocols
            .iter()
            .find_map(|protocol| candidates.get(protocol.name.as_str()).copied())
    }

    /// Whether it waits for the coordinator, so that its session does not end.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
