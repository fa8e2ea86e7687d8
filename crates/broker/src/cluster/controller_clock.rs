//! Whether the clock of this node and the one of the active controller agree.
//!
//! The controller's wall clock is in its answers to heartbeats: a tagged field that only Ottla knows. A controller of Apache
//! Kafka does not send it.

use ottla_protocol::messages::field::RawTaggedField;
use ottla_protocol::time::Timestamp;

use super::own_field;

/// Clocks that differ by more than this many milliseconds do not agree.
const TOLERANCE_MS: i64 = 5_000;

/// The field of a controller whose clock shows `now`.
pub fn field(now: Timestamp) -> RawTaggedField {
    own_field::field(own_field::FIRST, &now.0.to_be_bytes())
}

/// What the controller's clock showed, among the unknown fields of an answer.
pub fn find(fields: &[RawTaggedField]) -> Option<Timestamp> {
    let clock = own_field::find(own_field::FIRST, fields)?;
    Some(Timestamp(i64::from_be_bytes(clock)))
}

/// How far two clocks are at least apart, in milliseconds: the controller's showed `theirs` at some time while this node's
/// went from `asked` to `answered`. Above 0 the controller's is ahead.
pub fn apart(asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> i64 {
    let behind = theirs.0.saturating_sub(asked.0).min(0);
    let ahead = theirs.0.saturating_sub(answered.0).max(0);
    behind + ahead
}

/// Says once that the clocks do not agree, and once that they do again.
#[derive(Debug, Default)]
pub struct Agreement {
    is_broken: bool,
}

impl Agreement {
    /// The clocks are so many milliseconds apart. Returns whether this is news.
    fn is_news(&mut self, apart: i64) -> bool {
        let is_broken = apart.saturating_abs() > TOLERANCE_MS;
        std::mem::replace(&mut self.is_broken, is_broken) != is_broken
    }

    /// Logs it if it is news.
    pub fn tell(&mut self, apart: i64) {
        if !self.is_news(apart) {
            return;
        }
        if self.is_broken {
            let direction = if apart > 0 { "behind" } else { "ahead of" };
            let seconds = apart.saturating_abs() / 1000;
            tracing::warn!(
                seconds,
                "the clock of this node is {direction} that of the active controller; retention by time, the timestamps of \
                 records and the expiration of offsets go by these clocks: look which one is wrong, and let NTP set it"
            );
        } else {
            tracing::info!("the clocks of this node and of the active controller agree again");
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::BrokerHeartbeatResponseData;
    use ottla_protocol::messages::field::RawTaggedField;
    use ottla_protocol::time::Timestamp;

    use super::{Agreement, apart, field, find};

    #[test]
    fn the_time_survives_the_wire() {
        let answer = BrokerHeartbeatResponseData {
            unknown_tagged_fields: vec![field(Timestamp(77))],
            ..BrokerHeartbeatResponseData::default()
        };
        let mut bytes = bytes::BytesMut::new();
        answer.write(&mut bytes, 1).unwrap();
        let read = BrokerHeartbeatResponseData::read(&mut bytes.freeze(), 1).unwrap();
        assert_eq!(find(&read.unknown_tagged_fields), Some(Timestamp(77)));
        let short = RawTaggedField {
            tag: 10_000,
            data: bytes::Bytes::from_static(&[0; 7]),
        };
        assert_eq!(find(&[short]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn a_slow_answer_is_no_difference_of_clocks() {
        let between = |theirs| apart(Timestamp(1_000), Timestamp(theirs), Timestamp(9_000));
        assert_eq!([between(1_000), between(5_000), between(9_000)], [0; 3]);
        assert_eq!((between(400), between(9_001)), (-600, 1));
        let ends = apart(Timestamp(0), Timestamp(i64::MIN), Timestamp(i64::MAX));
        assert_eq!(ends, i64::MIN);
    }

    #[test]
    fn each_change_is_news_once() {
        let mut agreement = Agreement::default();
        let news = [0, 5_000, 5_001, -60_000, -5_000, i64::MIN].map(|by| agreement.is_news(by));
        assert_eq!(news, [false, false, true, false, true, true]);
    }
}
