//! The producers that wait for an acknowledgement, by the offset that the high watermark must reach.

use std::collections::BTreeMap;

use ottla_log::planted::{Bug, is_planted};
use ottla_protocol::ids::Offset;

/// The waiting producers of one partition. Producers of the same offset are answered in the order of their arrival.
#[derive(Debug)]
pub struct Acks<P> {
    waiting: BTreeMap<(Offset, u64), P>,
    arrivals: u64,
}

impl<P> Default for Acks<P> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            arrivals: 0,
        }
    }
}

impl<P> Acks<P> {
    /// Whether records before `offset` may be acknowledged with this high watermark.
    pub fn may_acknowledge(offset: Offset, high_watermark: Offset) -> bool {
        high_watermark >= offset || is_planted(Bug::AnswerBeforeSync)
    }

    /// Adds `producer`, which waits until the high watermark reaches `offset`.
    pub fn wait(&mut self, offset: Offset, producer: P) {
        self.waiting.insert((offset, self.arrivals), producer);
        self.arrivals += 1;
    }

    /// Removes and returns the producers that `high_watermark` has reached, in the order of their offsets.
    pub fn reached(&mut self, high_watermark: Offset) -> Vec<P> {
        let beyond = self.waiting.split_off(&(high_watermark.plus(1), 0));
        let reached = std::mem::replace(&mut self.waiting, beyond);
        reached.into_values().collect()
    }

    /// Removes and returns all producers: the partition cannot acknowledge anything any more.
    pub fn take_all(&mut self) -> Vec<P> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Acks;
    use ottla_protocol::ids::Offset;

    #[test]
    fn producers_are_answered_at_their_offset_in_order() {
        let mut acks = Acks::default();
        acks.wait(Offset(5), "c");
        acks.wait(Offset(3), "a");
        acks.wait(Offset(3), "b");
        assert!(acks.reached(Offset(2)).is_empty());
        assert_eq!(acks.reached(Offset(4)), ["a", "b"]);
        assert!(acks.reached(Offset(4)).is_empty(), "each is answered once");
        acks.wait(Offset(9), "d");
        assert_eq!(acks.take_all(), ["c", "d"]);
    }

    #[test]
    fn records_are_acknowledged_when_the_high_watermark_is_behind_them() {
        assert!(!Acks::<()>::may_acknowledge(Offset(3), Offset(2)));
        assert!(Acks::<()>::may_acknowledge(Offset(3), Offset(3)));
    }
}
