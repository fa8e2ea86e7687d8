//! The source of records: all partitions of the command line, or those that a group assigns.

use std::collections::BTreeMap;
use std::future;

use ottla_client::{
    FetchedRecords, Fetcher, GroupConsumer, Notice, Position, Result, TopicPartition,
};

#[derive(Debug)]
pub enum Reader {
    /// Reads all partitions of the topics, or those that the command line names.
    Assigned(Box<Fetcher>),
    /// Reads the partitions that the group assigns.
    Member(Box<GroupConsumer>),
}

impl Reader {
    /// Waits for the next records; may return none. The records of the previous poll count as read.
    pub async fn poll(&mut self) -> Result<Vec<FetchedRecords>> {
        match self {
            Self::Assigned(fetcher) => fetcher.poll().await,
            Self::Member(consumer) => consumer.poll().await,
        }
    }

    /// Sends heartbeats while the caller awaits this.
    pub async fn keep_alive(&mut self) {
        match self {
            Self::Assigned(_) => future::pending().await,
            Self::Member(consumer) => consumer.keep_alive().await,
        }
    }

    /// Moves the position of a partition back to `offset`.
    pub fn rewind(&mut self, partition: &TopicPartition, offset: i64) {
        match self {
            Self::Assigned(fetcher) => fetcher.rewind(partition, offset),
            Self::Member(consumer) => consumer.rewind(partition, offset),
        }
    }

    /// The next offset of each partition; `None` until the group has assigned partitions.
    pub fn positions(&self) -> Option<BTreeMap<TopicPartition, Position>> {
        match self {
            Self::Assigned(fetcher) => Some(fetcher.positions()),
            Self::Member(consumer) => consumer.is_joined().then(|| consumer.positions()),
        }
    }

    /// Whether this reader reads the partition, even if its next offset is not known yet.
    pub fn reads(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Assigned(fetcher) => fetcher.reads(partition),
            Self::Member(consumer) => consumer.reads(partition),
        }
    }

    /// Takes the notices for the user that arose since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        match self {
            Self::Assigned(fetcher) => fetcher.take_notices(),
            Self::Member(consumer) => consumer.take_notices(),
        }
    }

    /// Commits the positions and leaves the group.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Assigned(_) => Ok(()),
            Self::Member(consumer) => consumer.close().await,
        }
    }
}
