//! Committed offsets: the store, and what commits, fetches, deletes and expires them.

mod commit;
mod committed;
mod delete;
mod expire;
mod fetch;
mod list;
mod pending;
pub mod record;
mod store;

pub use commit::{
    CommitError, CommitOutcome, CommitReply, CommitRequest, CommitTopic, CommittedPartition,
    CommittedTopic, OffsetToCommit,
};
pub use committed::Committed;
pub use delete::{OffsetDeleteError, OffsetDeleteReply, OffsetDeleteRequest, PartitionDelete};
pub use fetch::{Fetched, FetchedTopic, OffsetFetchRequest, TopicToFetch};
pub use list::{ListOffsetsRequest, StoredOffset};
pub use store::{Offsets, TransactionResult};
