//! Refuses a Kafka directory with live state that this release cannot serve: members of newer groups, open transactions.
//!
//! The refusal names these members and transactions. Empty groups and ended transactions are kept as they are. Blocks on the
//! disk.

use std::fmt;

use ottla_coordinator::Config;
use ottla_coordinator::transaction::OpenTransactions;
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::coordinator::transaction::TransactionRecord;
use ottla_replica::own_records::{self, LoadError};

use crate::coordinators::load;
use crate::internal_topics::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use crate::replicas::{Found, Partition, Replicas};
use ottla_protocol::time::MonotonicTime;

/// The features without which Kafka has no members in groups of a newer protocol.
const GROUP_FEATURES: &[&str] = &["group.version", "share.version", "streams.version"];
/// Upper bound of the names of each kind in a message.
const NAMED: usize = 10;

/// The live state that cannot be served; each entry is text for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnservedState {
    groups: Vec<String>,
    transactions: Vec<String>,
    partitions: Vec<String>,
}

impl UnservedState {
    /// Searches the partitions of this node. A partition that cannot be read is logged and passed over: it cannot be
    /// served anyway.
    pub fn find(image: &MetadataImage, replicas: &Replicas) -> Self {
        let mut found = Self::default();
        let has_groups = GROUP_FEATURES
            .iter()
            .any(|feature| image.features.contains_key(*feature));
        if has_groups {
            for partition in of_topic(image, replicas, CONSUMER_OFFSETS) {
                found
                    .add_groups(&partition, replicas.now())
                    .unwrap_or_else(|error| log_unread(&partition, &error));
            }
        }
        let mut open = OpenTransactions::default();
        for partition in of_topic(image, replicas, TRANSACTION_STATE) {
            add_transactions(&partition, replicas.now(), &mut open)
                .unwrap_or_else(|error| log_unread(&partition, &error));
        }
        for (id, transaction) in open.iter() {
            let entry = format!("transactional id {id} ({})", transaction.state);
            found.transactions.push(entry);
        }
        found.add_partitions(replicas, &open);
        found
    }

    /// Whether there is no such state.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.transactions.is_empty() && self.partitions.is_empty()
    }

    fn add_groups(&mut self, partition: &Partition, now: MonotonicTime) -> Result<(), LoadError> {
        let shard = load::read(partition, Config::default(), now)?;
        let live = shard
            .state()
            .foreigns()
            .filter(|(_, group)| !group.is_empty());
        self.groups
            .extend(live.map(|(id, group)| format!("{} group {id}", group.kind.name())));
        Ok(())
    }

    /// Adds the open transactions in partitions that belong to no open transactional id. Consumers that read committed
    /// records do not get past them.
    fn add_partitions(&mut self, replicas: &Replicas, open: &OpenTransactions) {
        for partition in replicas.all() {
            let producers = partition.with_log(|log| {
                let producers = log.producers().producers().iter();
                let open_here = producers.filter_map(|(id, entry)| {
                    let first = entry.transaction_first_offset?;
                    (!open.has_producer(*id)).then_some((*id, first))
                });
                open_here.collect::<Vec<_>>()
            });
            for (producer, first) in producers.into_iter().flatten() {
                self.partitions.push(format!(
                    "{}-{} (producer id {producer} from offset {first} on)",
                    partition.topic, partition.index
                ));
            }
        }
        self.partitions.sort();
    }
}

fn add_transactions(
    partition: &Partition,
    now: MonotonicTime,
    open: &mut OpenTransactions,
) -> Result<(), LoadError> {
    let passed_over = own_records::for_each(partition, now, |header, record| {
        if header.is_control() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let value = record.value.map(bytes::Bytes::copy_from_slice);
        let key = bytes::Bytes::copy_from_slice(key);
        TransactionRecord::decode(key, value)
            .map(|record| open.apply(&record))
            .is_ok()
    })?;
    if passed_over > 0 {
        tracing::warn!(
            partition = partition.index.0,
            records = passed_over,
            "skipped records of {TRANSACTION_STATE} that cannot be read"
        );
    }
    Ok(())
}

fn log_unread(partition: &Partition, error: &LoadError) {
    tracing::error!(
        topic = &*partition.topic,
        partition = partition.index.0,
        %error,
        "cannot read a partition to see whether it holds active groups or open transactions"
    );
}

fn of_topic(
    image: &MetadataImage,
    replicas: &Replicas,
    name: &str,
) -> Vec<std::sync::Arc<Partition>> {
    let topic = image.topic(name);
    let indexes = topic.into_iter().flat_map(|topic| topic.partitions.keys());
    let here = indexes.filter_map(
        |index: &PartitionIndex| match replicas.by_name(name, *index) {
            Found::Here(partition) => Some(partition),
            Found::Elsewhere
            | Found::UnknownTopic
            | Found::UnknownTopicId
            | Found::UnknownPartition => None,
        },
    );
    here.collect()
}

impl fmt::Display for UnservedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log directories hold live state of Apache Kafka that this release does not serve"
        )?;
        list(f, "groups with members", &self.groups)?;
        list(f, "open transactions", &self.transactions)?;
        list(
            f,
            "open transactions in partitions, without a transactional id",
            &self.partitions,
        )?;
        write!(f, "; next: start Apache Kafka on them again")?;
        if !self.groups.is_empty() {
            write!(
                f,
                ", stop the clients of these groups and let their sessions expire"
            )?;
        }
        if !self.transactions.is_empty() {
            write!(f, ", let these transactions end, or time out")?;
        }
        if !self.partitions.is_empty() {
            write!(
                f,
                ", abort the transactions in these partitions with kafka-transactions"
            )?;
        }
        write!(f, ", shut it down, and start Ottla then")
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, entries: &[String]) -> fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    let named = entries.get(..NAMED).unwrap_or(entries).join(", ");
    write!(f, "; {what}: {named}")?;
    match entries.len().checked_sub(NAMED) {
        Some(more) if more > 0 => write!(f, " and {more} more"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::UnservedState;

    #[test]
    fn the_refusal_names_what_lives_and_what_to_do_about_it() {
        let live = UnservedState {
            groups: (0..12)
                .map(|number| format!("share group g{number}"))
                .collect(),
            transactions: vec!["transactional id t (Ongoing)".to_owned()],
            partitions: Vec::new(),
        };
        let said = live.to_string();
        assert!(said.contains(
            "share group g9 and 2 more; open transactions: transactional id t (Ongoing); next:"
        ));
        assert!(said.contains("let their sessions expire, let these transactions end"));
        assert!(!said.contains("abort the transactions"), "{said}");
        assert!(!live.is_empty() && UnservedState::default().is_empty());
    }
}
