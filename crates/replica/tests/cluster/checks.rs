//! What was told, compared with what is there: nothing acknowledged is lost, logs match below the high watermark, and a
//! consumer reads on where it was.

use std::collections::BTreeMap;

use ottla_log::{Bound, FirstBatch};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::partition::{AnsweredBy, ReadAt};
use ottla_replica::{Durability, Unreadable};

use super::machine::Machine;
use super::metadata::NODES;

#[derive(Debug)]
pub(crate) struct Checks {
    durability: Durability,
    /// The values below a high watermark of any node, by offset.
    committed: BTreeMap<i64, u64>,
    acknowledged: BTreeMap<i64, u64>,
    /// Of each node: how far its log was compared.
    compared: [Offset; 3],
    /// Of each node: how far its records survive what may happen to it.
    kept: [Offset; 3],
    /// Where the consumer reads next.
    position: Offset,
    pub(crate) acknowledgements: u64,
}

impl Checks {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            durability,
            committed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            compared: [Offset(0); 3],
            kept: [Offset(0); 3],
            position: Offset(0),
            acknowledgements: 0,
        }
    }

    /// A node has done something.
    pub(crate) fn look(&mut self, at: usize, machine: &Machine) {
        let offsets = machine.partition().offsets().unwrap();
        let flushed = machine.partition().with_log(|log| log.flushed_offset());
        self.kept[at] = match self.durability {
            Durability::Fsync => flushed.unwrap(),
            Durability::PageCache => offsets.log_end,
        };
        let from = self.compared[at].min(offsets.log_end);
        let below = machine.values(from, offsets.high_watermark);
        for (offset, value) in &below {
            self.agree(*offset, *value, "is below a high watermark");
        }
        let present = (from.0..offsets.high_watermark.0).count();
        assert_eq!(
            below.len(),
            present,
            "a record below the high watermark is missing"
        );
        self.compared[at] = offsets.high_watermark.max(from);
    }

    fn agree(&mut self, offset: i64, value: u64, what: &str) {
        let committed = *self.committed.entry(offset).or_insert(value);
        assert_eq!(committed, value, "another value at {offset} {what}");
    }

    pub(crate) fn stopped(&mut self, at: usize) {
        self.compared[at] = Offset(0);
    }

    /// A producer was told that its records are on at least two replicas, with all of the ISR.
    pub(crate) fn acknowledge(&mut self, first: Offset, values: &[u64]) {
        self.acknowledgements += 1;
        for (offset, value) in (first.0..).zip(values) {
            let kept = self.kept.iter().filter(|kept| kept.0 > offset).count();
            assert!(kept >= 2, "{offset} is acknowledged and kept by {kept}");
            self.agree(offset, *value, "is acknowledged");
            self.acknowledged.insert(offset, *value);
        }
    }

    /// The consumer reads on. A node that is not the leader in `epoch` refuses it.
    pub(crate) fn consume(&mut self, machine: &Machine, epoch: LeaderEpoch, now: MonotonicTime) {
        let read = ReadAt {
            offset: self.position,
            max_bytes: 4096,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::HighWatermark,
            answered_by: AnsweredBy::Leader,
            current_epoch: Some(epoch),
            last_fetched_epoch: None,
        };
        let planned = match machine.partition().plan(&read, now) {
            Ok(planned) => planned,
            Err(Unreadable::OutOfRange) => panic!("what the consumer has read is gone"),
            Err(Unreadable::Unavailable(_)) => return,
        };
        let to = planned.offsets.high_watermark;
        for (offset, value) in machine.values(self.position, to) {
            self.agree(offset, value, "was read");
        }
        self.position = self.position.max(to);
    }

    /// All replicas are in sync, and nothing is on its way.
    pub(crate) fn finish(&self, machines: &[&Machine]) {
        let whole = (Offset(0), Offset(i64::MAX));
        let values: Vec<_> = machines
            .iter()
            .map(|machine| machine.values(whole.0, whole.1))
            .collect();
        for (id, other) in NODES.iter().zip(&values) {
            assert_eq!(*other, values[0], "the log of {id} differs");
        }
        let there: BTreeMap<i64, u64> = values[0].iter().copied().collect();
        for (offset, value) in self.acknowledged.iter().chain(&self.committed) {
            assert_eq!(
                there.get(offset),
                Some(value),
                "the record at {offset} is lost"
            );
        }
        for machine in machines {
            let offsets = machine.partition().offsets().unwrap();
            assert_eq!(offsets.high_watermark, offsets.log_end, "all is committed");
        }
    }
}
