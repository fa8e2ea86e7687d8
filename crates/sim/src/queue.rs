//! The queue of events, ordered by time; events of the same time keep the order in which they were
//! added.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Things that wait for their time.
#[derive(Debug)]
pub struct Queue<E> {
    waiting: BinaryHeap<Reverse<Waiting<E>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Waiting<E> {
    at: Duration,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Waiting<E> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<E> Eq for Waiting<E> {}

impl<E> PartialOrd for Waiting<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Waiting<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            waiting: BinaryHeap::new(),
            sequence: 0,
        }
    }
}

impl<E> Queue<E> {
    pub fn put(&mut self, at: Duration, event: E) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.waiting.push(Reverse(Waiting {
            at,
            sequence,
            event,
        }));
    }

    /// The next event and its time.
    pub fn take(&mut self) -> Option<(Duration, E)> {
        let Reverse(first) = self.waiting.pop()?;
        Some((first.at, first.event))
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use std::time::Duration;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_arrival() {
        let mut queue = Queue::default();
        for (at, event) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            queue.put(Duration::from_secs(at), event);
        }
        let taken = std::iter::from_fn(|| queue.take());
        let taken: Vec<_> = taken.map(|(_, event)| event).collect();
        assert_eq!(taken, ["a", "b", "c", "d"]);
    }
}
