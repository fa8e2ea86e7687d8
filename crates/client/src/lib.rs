//! A small async Kafka client, for the command line, the console and followers.
//!
//! Layers, each usable alone: [`Connection`] (one socket, pipelined calls), [`Cluster`] (metadata, leaders,
//! coordinators), then [`Producer`], [`Fetcher`], [`GroupConsumer`] and [`admin`]. Works against Apache Kafka 3.0
//! and later as well as Ottla.

pub mod admin;
mod backoff;
mod cluster;
mod connection;
mod consumer;
mod error;
mod fetched;
mod fetcher;
mod group;
mod metadata;
mod notice;
mod offsets;
pub mod partitioner;
mod producer;
mod request;

pub use cluster::{Cluster, Options};
pub use connection::Connection;
pub use consumer::{GroupConsumer, GroupConsumerOptions};
pub use error::{ClientError, ErrorCode, code_name};
pub use fetched::{ConsumedRecord, FetchedRecords, RecordHeader};
pub use fetcher::{FetchOptions, Fetcher, Isolation, OutOfRange, Position, StartAt};
pub use group::{GroupMember, GroupOptions, Heartbeat, range_assignment};
pub use metadata::{ClusterMetadata, Node, PartitionMetadata, TopicMetadata, TopicPartition};
pub use notice::Notice;
pub use offsets::{CommittedOffset, OffsetSpec, PartitionOffset};
pub use producer::{Acks, BatchOutcome, Producer, ProducerOptions, ProducerRecord, Ticket};
pub use request::Request;

/// What most functions here return.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;
