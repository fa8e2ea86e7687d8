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
    /// How long it may take to rejoin.
    pub rebalance_timeout: Duration,
    /// How long it may be silent.
    pub session_timeout: Duration,
    /// What it supports, in its order of preference.
    pub protocols: Vec<Protocol>,
    /// Its share, as the leader encoded it.
    pub assignment: Bytes,
    /// Whether it has yet to receive its first `JoinGroup` reply: until then its silence counts although it waits.
    pub is_new: bool,
    /// The `JoinGroup` of it that waits.
    pub awaiting_join: Option<Ticket>,
    /// The `SyncGroup` of it that waits.
    pub awaiting_sync: Option<Ticket>,
}

/// A static member before it came back under another id, for the case that this cannot be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticMemberBefore {
    pub(super) member: Member,
    pub(super) leader: Option<String>,
    /// The id that it came back under.
    pub(super) new_id: String,
}

impl Member {
    /// What the member said under `protocol`, nothing if it does not support it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|supported| supported.name == protocol)
            .map(|supported| supported.metadata.clone())
            .unwrap_or_default()
    }

    /// The candidate it likes best.
    pub fn vote<'a>(&self, candidates: &BTreeSet<&'a str>) -> Option<&'a str> {
        self.protocols
            .iter()
            .find_map(|protocol| candidates.get(protocol.name.as_str()).copied())
    }

    /// Whether its silence is excused: it waits for the coordinator.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
