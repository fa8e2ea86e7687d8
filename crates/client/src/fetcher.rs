//! Reads assigned partitions from their positions on, one fetch in flight to each leader.
//!
//! A slow leader does not hold up the others. Positions move only when the records are handed out, so a dropped
//! `poll` loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use ottla_protocol::messages::fetch_response::{FetchResponseData, PartitionData};
use ottla_protocol::records::Decompressor;
use tokio::task::JoinSet;
use tokio::time;

use crate::error::ErrorCode;
use crate::fetched::read_batches;
use crate::{ClientError, Cluster, FetchedRecords, OffsetSpec, Result, TopicPartition};

/// How long to wait after an error that passes.
const PAUSE: Duration = Duration::from_millis(100);

/// Which records of transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All records.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions.
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// What to do when a position is not (or no longer) in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Go on at the first record.
    #[default]
    Earliest,
    /// Go on at the end.
    Latest,
    /// Fail.
    Fail,
}

/// How a fetcher fetches.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// How long a broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// What a broker waits for.
    pub min_bytes: i32,
    /// The most one answer holds.
    pub max_bytes: i32,
    /// The most one answer holds of a partition.
    pub partition_max_bytes: i32,
    /// Which records of transactions are read.
    pub isolation: Isolation,
    /// What to do when a position is not in the log.
    pub out_of_range: OutOfRange,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 * 1024 * 1024,
            partition_max_bytes: 1024 * 1024,
            isolation: Isolation::default(),
            out_of_range: OutOfRange::default(),
        }
    }
}

/// Reads the partitions that it is assigned.
#[derive(Debug)]
pub struct Fetcher {
    cluster: Arc<Cluster>,
    options: FetchOptions,
    positions: BTreeMap<TopicPartition, i64>,
    busy_leaders: BTreeSet<i32>,
    in_flight: JoinSet<(i32, Result<FetchResponseData>)>,
    decompressor: Decompressor,
}

impl Fetcher {
    /// A fetcher without partitions.
    pub fn new(cluster: Arc<Cluster>, options: FetchOptions) -> Self {
        Self {
            cluster,
            options,
            positions: BTreeMap::new(),
            busy_leaders: BTreeSet::new(),
            in_flight: JoinSet::new(),
            decompressor: Decompressor::default(),
        }
    }

    /// Reads these partitions, each from its offset, and no others.
    pub fn assign(&mut self, positions: BTreeMap<TopicPartition, i64>) {
        self.positions = positions;
        self.drop_in_flight();
    }

    /// Answers to fetches from other positions must not be taken for answers to ours.
    fn drop_in_flight(&mut self) {
        self.in_flight = JoinSet::new();
        self.busy_leaders.clear();
    }

    /// Stops reading a partition.
    pub fn remove(&mut self, partition: &TopicPartition) {
        self.positions.remove(partition);
    }

    /// Moves a partition that is read back to `offset`.
    pub fn rewind(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(position) = self.positions.get_mut(partition) {
            *position = offset.min(*position);
            self.drop_in_flight();
        }
    }

    /// The next offset of each partition.
    pub fn positions(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.positions
    }

    /// The next records that arrive, perhaps none; waits for ever when nothing is assigned.
    pub async fn poll(&mut self) -> Result<Vec<FetchedRecords>> {
        self.start_fetches().await?;
        let Some(done) = self.in_flight.join_next().await else {
            return std::future::pending().await;
        };
        let (leader, answer) = done.expect("a fetch does not panic");
        self.busy_leaders.remove(&leader);
        match answer {
            Ok(response) => self.take(&response).await,
            Err(error) if error.is_retriable() => {
                self.forget_leaders();
                time::sleep(PAUSE).await;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn start_fetches(&mut self) -> Result<()> {
        let partitions = self.positions.keys().cloned().collect();
        for (leader, partitions) in self.cluster.by_leader(&partitions).await? {
            if self.busy_leaders.contains(&leader) {
                continue;
            }
            let request = self.request(&partitions);
            let cluster = Arc::clone(&self.cluster);
            self.in_flight
                .spawn(async move { (leader, cluster.call(leader, &request).await) });
            self.busy_leaders.insert(leader);
        }
        Ok(())
    }

    fn request(&self, partitions: &[TopicPartition]) -> FetchRequestData {
        let mut topics = BTreeMap::<&str, Vec<FetchPartition>>::new();
        for partition in partitions {
            let fetched = FetchPartition {
                partition: partition.partition,
                fetch_offset: self.positions[partition],
                partition_max_bytes: self.options.partition_max_bytes,
                ..FetchPartition::default()
            };
            topics.entry(&partition.topic).or_default().push(fetched);
        }
        let topic = |(name, partitions): (&str, _)| FetchTopic {
            topic: KafkaString::from(name.to_owned()),
            partitions,
            ..FetchTopic::default()
        };
        FetchRequestData {
            max_wait_ms: i32::try_from(self.options.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.options.min_bytes,
            max_bytes: self.options.max_bytes,
            isolation_level: self.options.isolation.level(),
            topics: topics.into_iter().map(topic).collect(),
            ..FetchRequestData::default()
        }
    }

    async fn take(&mut self, response: &FetchResponseData) -> Result<Vec<FetchedRecords>> {
        ClientError::check(response.error_code, None, "fetch")?;
        let mut fetched = Vec::new();
        let mut must_pause = false;
        for topic in &response.responses {
            for data in &topic.partitions {
                let partition = TopicPartition::new(topic.topic.as_str(), data.partition_index);
                let Some(position) = self.positions.get(&partition).copied() else {
                    continue;
                };
                match ErrorCode::from(data.error_code) {
                    ErrorCode::None => fetched.push(self.read(partition, position, data)?),
                    ErrorCode::OffsetOutOfRange => self.reset(&partition, position).await?,
                    // Damage on the broker's disk does not pass, whatever Kafka says of the code in general.
                    code if code.is_retriable() && code != ErrorCode::CorruptMessage => {
                        self.cluster.forget(&partition.topic);
                        must_pause = true;
                    }
                    _ => ClientError::check(data.error_code, None, format!("fetch {partition}"))?,
                }
            }
        }
        if must_pause {
            time::sleep(PAUSE).await;
        }
        for records in &fetched {
            self.positions
                .insert(records.partition.clone(), records.next_offset);
        }
        Ok(fetched)
    }

    fn read(
        &mut self,
        partition: TopicPartition,
        position: i64,
        data: &PartitionData,
    ) -> Result<FetchedRecords> {
        let bytes = data.records.as_ref().map_or(&[][..], Bytes::as_ref);
        let aborted = match self.options.isolation {
            Isolation::ReadCommitted => data.aborted_transactions.as_deref(),
            Isolation::ReadUncommitted => None,
        };
        let aborted = aborted.unwrap_or_default();
        let read = read_batches(bytes, position, aborted, &mut self.decompressor);
        let (records, next_offset) = read.map_err(|what| ClientError::CorruptRecords {
            topic: partition.topic.clone(),
            partition: partition.partition,
            offset: position,
            what,
        })?;
        Ok(FetchedRecords {
            partition,
            records,
            next_offset,
            high_watermark: data.high_watermark,
        })
    }

    async fn reset(&mut self, partition: &TopicPartition, position: i64) -> Result<()> {
        let spec = match self.options.out_of_range {
            OutOfRange::Earliest => OffsetSpec::Earliest,
            OutOfRange::Latest => OffsetSpec::Latest,
            OutOfRange::Fail => {
                let code = ErrorCode::OffsetOutOfRange;
                let what = format!("fetch {partition} at offset {position}");
                return ClientError::check(code.code(), None, what);
            }
        };
        let asked = BTreeSet::from([partition.clone()]);
        let isolation = self.options.isolation;
        let found = self.cluster.list_offsets(&asked, spec, isolation).await?;
        for (partition, at) in found {
            tracing::warn!(%partition, from = position, to = at.offset, "offset is out of range, moved");
            self.positions.insert(partition, at.offset);
        }
        Ok(())
    }

    fn forget_leaders(&self) {
        for partition in self.positions.keys() {
            self.cluster.forget(&partition.topic);
        }
    }
}
