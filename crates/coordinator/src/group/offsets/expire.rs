//! Expiry: deletes offsets that were not used for `offsets.retention.minutes`, and groups that are left without any.
//!
//! When the retention of an offset begins depends on its group. In an empty group it begins when the group became empty.
//! It begins with the commit in a simple group, in an empty group of a newer protocol, and in a stable group for topics to
//! which the group no longer subscribes. Other offsets do not expire. An offset with an expiry of its own expires then
//! instead. The offsets of share groups never expire here.

use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::Now;

use super::committed::Committed;
use super::record;
use crate::group::classic::{Group, State};
use crate::group::foreign::Kind;
use crate::shard::Shard;

/// When the retention of an offset begins.
#[derive(Clone, Copy)]
enum Aging {
    FromCommit,
    From(i64),
}

impl Shard {
    /// The records that delete expired offsets, and groups left without any. They need not be appended together.
    pub fn decide_expiry(&self, now: Now) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for group_id in self.state().group_ids() {
            let is_share = self
                .state()
                .foreign(group_id)
                .is_some_and(|f| f.kind == Kind::Share);
            if !is_share
                && self.expire_offsets(group_id, now, &mut records)
                && self.is_empty(group_id)
            {
                records.extend(self.group_tombstones(group_id));
            }
        }
        records
    }

    fn is_empty(&self, group_id: &str) -> bool {
        match self.state().foreign(group_id) {
            Some(foreign) => foreign.is_empty(),
            None => self
                .classic(group_id)
                .is_some_and(|group| group.state() == State::Empty),
        }
    }

    /// Adds tombstones for the group's expired offsets; true if it is left with none.
    fn expire_offsets(&self, group_id: &str, now: Now, records: &mut Vec<GroupRecord>) -> bool {
        let offsets = self.state().offsets();
        let Some(topics) = offsets.of_group(group_id) else {
            return !offsets.has_pending(group_id);
        };
        let Some(aging) = self.aging_of(group_id) else {
            return false;
        };
        let mut all_expired = true;
        for (topic, partitions) in topics {
            let in_use = self
                .classic(group_id)
                .is_some_and(|group| group.is_subscribed_to(topic));
            for (partition, committed) in partitions {
                let place = (group_id, topic.as_str(), *partition);
                if !in_use && self.has_expired(committed, aging, now) && !offsets.is_pending(place)
                {
                    records.push(record::tombstone(place));
                } else {
                    all_expired = false;
                }
            }
        }
        all_expired && !offsets.has_pending(group_id)
    }

    fn aging_of(&self, group_id: &str) -> Option<Aging> {
        match self.state().foreign(group_id) {
            Some(foreign) => foreign.is_empty().then_some(Aging::FromCommit),
            None => aging(self.classic(group_id)?),
        }
    }

    fn has_expired(&self, committed: &Committed, aging: Aging, now: Now) -> bool {
        let retention = self.config().offsets_retention.as_millis();
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        match (committed.expire_timestamp, aging) {
            (Some(expires), _) => now.wall.0 >= expires,
            (None, Aging::FromCommit) => {
                now.wall.0.saturating_sub(committed.commit_timestamp) >= retention
            }
            (None, Aging::From(since)) => now.wall.0.saturating_sub(since) >= retention,
        }
    }
}

fn aging(group: &Group) -> Option<Aging> {
    if group.protocol_type().is_none() {
        return Some(Aging::FromCommit);
    }
    match group.state() {
        State::Empty => Some(
            group
                .state_since()
                .map_or(Aging::FromCommit, |since| Aging::From(since.0)),
        ),
        State::Stable if group.subscribed_topics().is_some() => Some(Aging::FromCommit),
        State::PreparingRebalance | State::CompletingRebalance | State::Stable => None,
    }
}
