//! Which clients write to which topic without waiting for the replicas: with acks=0 or acks=1.
//!
//! The number of entries in memory is bounded: a new one takes the place of the one that was seen longest ago. What was not
//! seen for a day is not told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ottla_protocol::time::Timestamp;

/// Upper bound of the entries in memory.
const ENTRIES: usize = 1000;
/// Bytes of a client id that are kept.
const CLIENT_ID: usize = 200;
/// How long an entry is told after it was seen last.
const TOLD_FOR: Duration = Duration::from_hours(24);

/// A client, by its id, that writes so to a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    pub topic: Arc<str>,
    pub client_id: String,
    /// 0 or 1.
    pub acks: i16,
}

/// The writers, and when each was seen last.
#[derive(Debug, Default)]
pub struct WeakAcks {
    seen: Mutex<BTreeMap<Writer, Timestamp>>,
}

impl WeakAcks {
    /// Remembers that a client writes to a topic, unless it waits for all replicas in sync.
    pub fn on_batch(&self, topic: &Arc<str>, (client_id, acks): (&str, i16), now: Timestamp) {
        if !matches!(acks, 0 | 1) {
            return;
        }
        let cut = client_id.floor_char_boundary(CLIENT_ID);
        let writer = Writer {
            topic: Arc::clone(topic),
            client_id: client_id.get(..cut).unwrap_or_default().to_owned(),
            acks,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.get_mut(&writer) {
            *last = now;
            return;
        }
        if seen.len() >= ENTRIES {
            let oldest = seen.iter().min_by_key(|(_, last)| **last);
            if let Some(oldest) = oldest.map(|(writer, _)| writer.clone()) {
                seen.remove(&oldest);
            }
        }
        seen.insert(writer, now);
    }

    /// The writers of the last day, and when each was seen last.
    pub fn all(&self, now: Timestamp) -> Vec<(Writer, Timestamp)> {
        let day = i64::try_from(TOLD_FOR.as_millis()).unwrap_or(i64::MAX);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.iter().filter(|(_, last)| last.0 > now.0 - day);
        recent
            .map(|(writer, last)| (writer.clone(), *last))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{CLIENT_ID, ENTRIES, TOLD_FOR, WeakAcks};
    use ottla_protocol::time::Timestamp;
    use std::sync::Arc;

    fn clients(weak: &WeakAcks, now: i64) -> Vec<(String, i16)> {
        let all = weak.all(Timestamp(now)).into_iter();
        all.map(|(writer, _)| (writer.client_id, writer.acks))
            .collect()
    }

    #[test]
    fn only_writers_that_do_not_wait_are_told_and_only_for_a_day() {
        let weak = WeakAcks::default();
        let topic = Arc::from("orders");
        weak.on_batch(&topic, ("billing", 1), Timestamp(0));
        weak.on_batch(&topic, ("careful", -1), Timestamp(0));
        weak.on_batch(&topic, ("metrics", 0), Timestamp(5));
        weak.on_batch(&topic, ("billing", 1), Timestamp(7));
        let both = [("billing".to_owned(), 1), ("metrics".to_owned(), 0)];
        assert_eq!(clients(&weak, 7), both);
        let day = i64::try_from(TOLD_FOR.as_millis()).unwrap();
        assert_eq!(clients(&weak, day + 6), both[..1]);
        assert_eq!(clients(&weak, day + 7), []);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let weak = WeakAcks::default();
        let topic = Arc::from("orders");
        for at in 0..2 * i64::try_from(ENTRIES).unwrap() {
            weak.on_batch(&topic, ("kept", 1), Timestamp(at));
            weak.on_batch(&topic, (&format!("{at:09}"), 1), Timestamp(at));
        }
        weak.on_batch(&topic, (&"ü".repeat(CLIENT_ID), 1), Timestamp(5000));
        let all = clients(&weak, 5000);
        assert_eq!(all.len(), ENTRIES);
        assert!(all.iter().any(|(client, _)| client == "kept"));
        assert!(!all.iter().any(|(client, _)| client == "000000000"));
        assert!(all.iter().all(|(client, _)| client.len() <= CLIENT_ID));
    }
}
