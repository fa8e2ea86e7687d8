//! What the coordinator reads of the consumers' own protocol: the topics they subscribe to.
//!
//! Version 0 of the subscription is a prefix of every later one.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use ottla_protocol::messages::ConsumerProtocolSubscriptionData;

use super::group::Group;

/// The topics that the members of `group` subscribe to; `None` if that cannot be told.
pub fn of(group: &Group) -> Option<BTreeSet<String>> {
    if !group.is_of_consumers() {
        return None;
    }
    if group.members.is_empty() {
        return Some(BTreeSet::new());
    }
    let protocol = group.protocol.as_deref()?;
    let mut topics = BTreeSet::new();
    for member in group.members.values() {
        topics.extend(read(member.metadata(protocol))?);
    }
    Some(topics)
}

fn read(mut metadata: Bytes) -> Option<Vec<String>> {
    let version = metadata.try_get_i16().ok()?;
    if version < 0 {
        return None;
    }
    let subscription = ConsumerProtocolSubscriptionData::read(&mut metadata, 0).ok()?;
    let names = subscription.topics.iter();
    Some(names.map(|topic| topic.as_str().to_owned()).collect())
}
