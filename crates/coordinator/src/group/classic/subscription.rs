//! Reads the one part of the consumers' own protocol that the coordinator needs: the topics to which they subscribe.
//!
//! Version 0 of the subscription is a prefix of every later one.

use bytes::{Buf, Bytes};
use ottla_protocol::messages::ConsumerProtocolSubscriptionData;

/// The topics of a member's subscription; `None` where the bytes are no subscription.
pub fn topics(mut metadata: Bytes) -> Option<Vec<String>> {
    let version = metadata.try_get_i16().ok()?;
    if version < 0 {
        return None;
    }
    let subscription = ConsumerProtocolSubscriptionData::read(&mut metadata, 0).ok()?;
    let names = subscription.topics.iter();
    Some(names.map(|topic| topic.as_str().to_owned()).collect())
}
