//! Deadlines of one shard, on the monotonic clock.
//!
//! A key has at most one deadline; setting it again moves it. The owner sleeps until [`Timers::next`] and then
//! takes what is due, earliest first.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::time::MonotonicTime;

/// Identifies a deadline. Ordered by group first, so that the deadlines of a group are adjacent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub group: String,
    pub kind: Kind,
}

/// The deadlines that a group can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The end of the join phase: members that have not joined are removed.
    Join,
    /// The end of the wait for `SyncGroup`: members that have not sent it are removed.
    Sync,
    /// The end of the session of this member.
    Session(String),
}

/// Every deadline that is set.
#[derive(Debug, Default)]
pub struct Timers {
    deadlines: BTreeMap<Key, MonotonicTime>,
    order: BTreeSet<(MonotonicTime, Key)>,
}

impl Timers {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: Key, at: MonotonicTime) {
        self.cancel(&key);
        self.order.insert((at, key.clone()));
        self.deadlines.insert(key, at);
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: &Key) {
        if let Some(at) = self.deadlines.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// Forgets every deadline of `group`.
    pub fn cancel_group(&mut self, group: &str) {
        let first = Key {
            group: group.to_owned(),
            kind: Kind::Join,
        };
        let keys: Vec<Key> = self
            .deadlines
            .range(first..)
            .map(|(key, _)| key)
            .take_while(|key| key.group == group)
            .cloned()
            .collect();
        for key in &keys {
            self.cancel(key);
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<MonotonicTime> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that has passed.
    pub fn pop_due(&mut self, now: MonotonicTime) -> Option<Key> {
        let at = self.next().filter(|at| *at <= now)?;
        let (_, key) = self.order.pop_first().filter(|(first, _)| *first == at)?;
        self.deadlines.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Kind, Timers};
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_secs(seconds))
    }

    fn key(group: &str, kind: Kind) -> Key {
        Key {
            group: group.to_owned(),
            kind,
        }
    }

    #[test]
    fn due_deadlines_come_earliest_first_and_once() {
        let mut timers = Timers::default();
        timers.set(key("b", Kind::Join), at(2));
        timers.set(key("a", Kind::Sync), at(1));
        timers.set(key("a", Kind::Join), at(9));
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop_due(at(2)), Some(key("a", Kind::Sync)));
        assert_eq!(timers.pop_due(at(2)), Some(key("b", Kind::Join)));
        assert_eq!(timers.pop_due(at(2)), None);
    }

    #[test]
    fn setting_a_key_again_moves_its_deadline() {
        let mut timers = Timers::default();
        timers.set(key("a", Kind::Join), at(1));
        timers.set(key("a", Kind::Join), at(5));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.next(), Some(at(5)));
    }

    #[test]
    fn cancelling_a_group_leaves_the_others() {
        let mut timers = Timers::default();
        timers.set(key("a", Kind::Session("m".into())), at(1));
        timers.set(key("a", Kind::Join), at(1));
        timers.set(key("ab", Kind::Join), at(1));
        timers.cancel_group("a");
        assert_eq!(timers.pop_due(at(1)), Some(key("ab", Kind::Join)));
        assert_eq!(timers.next(), None);
    }
}
