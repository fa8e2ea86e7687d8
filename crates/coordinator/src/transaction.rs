//! Finds the transactional ids with an open transaction in `__transaction_state`. A release without a transaction
//! coordinator needs no more of that topic.

use std::collections::BTreeMap;

use ottla_protocol::ids::ProducerId;
use ottla_protocol::messages::coordinator::transaction::TransactionRecord;

/// A transaction whose markers are not all written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    pub producer_id: ProducerId,
    /// Kafka's name of its state.
    pub state: &'static str,
}

/// The transactions that are open, by transactional id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenTransactions {
    by_id: BTreeMap<String, OpenTransaction>,
}

impl OpenTransactions {
    /// Applies a record: the last one of a transactional id counts.
    pub fn apply(&mut self, record: &TransactionRecord) {
        let TransactionRecord::TransactionLog(key, value) = record;
        let open = value.as_ref().and_then(|value| {
            Some(OpenTransaction {
                producer_id: ProducerId(value.producer_id),
                state: open_state(value.transaction_status)?,
            })
        });
        match open {
            Some(open) => self.by_id.insert(key.transactional_id.clone(), open),
            None => self.by_id.remove(&key.transactional_id),
        };
    }

    /// All that are open.
    pub fn iter(&self) -> impl Iterator<Item = (&str, OpenTransaction)> {
        self.by_id.iter().map(|(id, open)| (id.as_str(), *open))
    }

    /// Whether `producer_id` has one open.
    pub fn has_producer(&self, producer_id: ProducerId) -> bool {
        self.by_id
            .values()
            .any(|open| open.producer_id == producer_id)
    }
}

/// The name of a state in which partitions still wait for a marker. An unknown number counts as such a state.
const fn open_state(status: i8) -> Option<&'static str> {
    match status {
        // Empty, CompleteCommit, CompleteAbort, Dead.
        0 | 4 | 5 | 6 => None,
        1 => Some("Ongoing"),
        2 => Some("PrepareCommit"),
        3 => Some("PrepareAbort"),
        7 => Some("PrepareEpochFence"),
        _ => Some("in an unknown state"),
    }
}

#[cfg(test)]
mod tests {
    use super::OpenTransactions;
    use ottla_protocol::messages::coordinator::transaction::{
        TransactionLogKey, TransactionLogValue, TransactionRecord,
    };

    fn open_after(statuses: &[Option<i8>]) -> Vec<&'static str> {
        let mut transactions = OpenTransactions::default();
        for status in statuses {
            let key = TransactionLogKey {
                transactional_id: "t".to_owned(),
                ..TransactionLogKey::default()
            };
            let value = status.map(|transaction_status| TransactionLogValue {
                producer_id: 7,
                transaction_status,
                ..TransactionLogValue::default()
            });
            transactions.apply(&TransactionRecord::TransactionLog(key, value));
        }
        transactions.iter().map(|(_, open)| open.state).collect()
    }

    #[test]
    fn a_transaction_is_open_until_its_markers_are_written() {
        assert_eq!(open_after(&[Some(0)]), [""; 0]);
        assert_eq!(open_after(&[Some(0), Some(1)]), ["Ongoing"]);
        assert_eq!(open_after(&[Some(1), Some(2)]), ["PrepareCommit"]);
        assert_eq!(open_after(&[Some(1), Some(3)]), ["PrepareAbort"]);
        assert_eq!(open_after(&[Some(1), Some(2), Some(4)]), [""; 0]);
        assert_eq!(open_after(&[Some(1), Some(3), Some(5)]), [""; 0]);
        assert_eq!(open_after(&[Some(1), None]), [""; 0]);
    }
}
