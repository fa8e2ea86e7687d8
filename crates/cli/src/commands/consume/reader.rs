//! Whom records are read from: assigned partitions, or those that a group gives.

use std::collections::BTreeMap;
use std::future;

use ottla_client::{
    FetchedRecords, Fetcher, GroupConsumer, Notice, Position, Result, TopicPartition,
};

/// A source of records.
#[derive(Debug)]
pub enum Reader {
    /// Every partition, or those that the command line names.
    Assigned(Box<Fetcher>),
    /// What the group assigns.
    Member(Box<GroupConsumer>),
}

impl Reader {
    /// The next records that arrive, perhaps none. What the last poll returned counts as read.
    pub async fn poll(&mut self) -> Result<Vec<FetchedRecords>> {
        match self {
            Self::Assigned(fetcher) => fetcher.poll().await,
            Self::Member(consumer) => consumer.poll().await,
        }
    }

    /// Keeps the membership for as long as it is waited for.
    pub async fn keep_alive(&mut self) {
        match self {
            Self::Assigned(_) => future::pending().await,
            Self::Member(consumer) => consumer.keep_alive().await,
        }
    }

    /// Counts a partition as read only up to `offset`.
    pub fn rewind(&mut self, partition: &TopicPartition, offset: i64) {
        match self {
            Self::Assigned(fetcher) => fetcher.rewind(partition, offset),
            Self::Member(consumer) => consumer.rewind(partition, offset),
        }
    }

    /// The next offset of each partition; nothing while a group has not assigned them.
    pub fn positions(&self) -> Option<BTreeMap<TopicPartition, Position>> {
        match self {
            Self::Assigned(fetcher) => Some(fetcher.positions()),
            Self::Member(consumer) => consumer.is_joined().then(|| consumer.positions()),
        }
    }

    /// Whether the partition is read here, whether its next offset is known or not.
    pub fn reads(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Assigned(fetcher) => fetcher.reads(partition),
            Self::Member(consumer) => consumer.reads(partition),
        }
    }

    /// What the user may want to know, since the last time.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        match self {
            Self::Assigned(fetcher) => fetcher.take_notices(),
            Self::Member(consumer) => consumer.take_notices(),
        }
    }

    /// Commits what was read, and leaves the group.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Assigned(_) => Ok(()),
            Self::Member(consumer) => consumer.close().await,
        }
    }
}
