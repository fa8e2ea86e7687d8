//! Offsets: the start and end of partitions, offsets by time, and the offsets that a group has committed.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::messages::{
    KafkaString, ListOffsetsRequestData, OffsetFetchRequestData,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_commit_request::{
        OffsetCommitRequestData, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
};

use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::{ClientError, Cluster, Isolation, Position, Result, TopicPartition};

/// An offset that a broker looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first record in the log.
    Earliest,
    /// One past the last record that may be read.
    Latest,
    /// The first record at or after this time, in milliseconds since 1970.
    Timestamp(i64),
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::MaxTimestamp => -3,
            Self::Timestamp(at) => at,
        }
    }
}

/// What a broker answers to an [`OffsetSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffset {
    /// -1 if no record is that late.
    pub offset: i64,
    /// The timestamp of that record; -1 for `Earliest` and `Latest`.
    pub timestamp: i64,
}

/// An offset that a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, -1 when unknown.
    pub leader_epoch: i32,
    /// Text that the client has committed with the offset.
    pub metadata: String,
}

impl Cluster {
    /// The offset that `spec` means in each of `partitions`. Tries again after retriable errors.
    pub async fn list_offsets(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        spec: OffsetSpec,
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, PartitionOffset>> {
        let mut found = BTreeMap::new();
        let mut open = partitions.clone();
        let mut backoff = Backoff::new(self.options().retry_for);
        loop {
            let mut passing = None;
            let leaders = match self.by_leader(&open).await {
                // Only a broker that cannot be reached is asked again: a refusal means that the partition does not exist.
                Err(error) if error.is_retriable() && error.code().is_none() => {
                    passing = Some(error);
                    BTreeMap::new()
                }
                leaders => leaders?,
            };
            for (leader, asked) in leaders {
                let request = list_offsets_request(&asked, spec, isolation);
                let answer = self.call(leader, &request).await;
                if let Err(error) = take_offsets(answer, &mut found) {
                    if !error.is_retriable() {
                        return Err(error);
                    }
                    passing = Some(error);
                }
            }
            open.retain(|partition| !found.contains_key(partition));
            let Some(error) = passing else {
                return Ok(found);
            };
            for partition in &open {
                self.forget(&partition.topic);
            }
            if !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// Partitions by the broker that leads them.
    pub(crate) async fn by_leader(
        &self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<i32, Vec<TopicPartition>>> {
        let mut leaders = BTreeMap::<i32, Vec<TopicPartition>>::new();
        for partition in partitions {
            let leader = self.leader(partition).await?;
            leaders.entry(leader).or_default().push(partition.clone());
        }
        Ok(leaders)
    }

    /// The offsets that `group` has committed, for `partitions` or for all. Partitions without an offset are left out.
    pub async fn committed(
        &self,
        group: &str,
        partitions: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        let topics = partitions.map(|partitions| {
            let by_topic = by_topic(partitions);
            let topics =
                by_topic
                    .into_iter()
                    .map(|(name, partition_indexes)| OffsetFetchRequestTopics {
                        name: KafkaString::from(name.to_owned()),
                        partition_indexes,
                        ..OffsetFetchRequestTopics::default()
                    });
            topics.collect()
        });
        let request = OffsetFetchRequestData {
            groups: vec![OffsetFetchRequestGroup {
                group_id: KafkaString::from(group.to_owned()),
                topics,
                ..OffsetFetchRequestGroup::default()
            }],
            ..OffsetFetchRequestData::default()
        };
        let mut backoff = Backoff::new(self.options().retry_for);
        loop {
            match self.request_committed(group, &request).await {
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                answer => return answer,
            }
        }
    }

    async fn request_committed(
        &self,
        group: &str,
        request: &OffsetFetchRequestData,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        let coordinator = self.coordinator(group).await?;
        let response = self.call(coordinator, request).await?;
        let mut committed = BTreeMap::new();
        for answered in &response.groups {
            ClientError::check(
                answered.error_code,
                None,
                format!("offsets of group {group}"),
            )?;
            for topic in &answered.topics {
                for partition in &topic.partitions {
                    let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                    let what = || format!("offset of group {group} for {key}");
                    ClientError::check(partition.error_code, None, what())?;
                    if partition.committed_offset < 0 {
                        continue;
                    }
                    let metadata = partition.metadata.as_ref();
                    let offset = CommittedOffset {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: metadata.map_or_else(String::new, ToString::to_string),
                    };
                    committed.insert(key, offset);
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets for a group that has no members (what an admin tool does).
    pub async fn commit(&self, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<()> {
        let at = |(partition, offset): (&TopicPartition, &i64)| {
            (partition.clone(), Position::at(*offset))
        };
        let positions = offsets.iter().map(at).collect();
        let request = OffsetCommitRequestData {
            group_id: KafkaString::from(group.to_owned()),
            generation_id_or_member_epoch: -1,
            topics: commit_topics(&positions),
            ..OffsetCommitRequestData::default()
        };
        let mut backoff = Backoff::new(self.options().retry_for);
        loop {
            let answer = match self.coordinator(group).await {
                Ok(coordinator) => self.commit_to(coordinator, &request).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                answer => return answer,
            }
        }
    }

    async fn commit_to(&self, coordinator: i32, request: &OffsetCommitRequestData) -> Result<()> {
        let response = self.call(coordinator, request).await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                let group = &request.group_id;
                let what = format!("commit of group {group} for {key}");
                ClientError::check(partition.error_code, None, what)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn commit_topics(
    offsets: &BTreeMap<TopicPartition, Position>,
) -> Vec<OffsetCommitRequestTopic> {
    let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
    for (partition, position) in offsets {
        let committed = OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: position.offset,
            committed_leader_epoch: position.leader_epoch,
            committed_metadata: Some(KafkaString::default()),
            ..OffsetCommitRequestPartition::default()
        };
        topics.entry(&partition.topic).or_default().push(committed);
    }
    let topics = topics.into_iter();
    let topic = |(name, partitions): (&str, _)| OffsetCommitRequestTopic {
        name: KafkaString::from(name.to_owned()),
        partitions,
        ..OffsetCommitRequestTopic::default()
    };
    topics.map(topic).collect()
}

/// Partition indexes by topic.
pub(crate) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for partition in partitions {
        let indexes = topics.entry(&partition.topic).or_default();
        indexes.push(partition.partition);
    }
    topics
}

fn list_offsets_request(
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    isolation: Isolation,
) -> ListOffsetsRequestData {
    let topics = by_topic(partitions).into_iter().map(|(name, indexes)| {
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: spec.timestamp(),
            ..ListOffsetsPartition::default()
        };
        ListOffsetsTopic {
            name: KafkaString::from(name.to_owned()),
            partitions: indexes.into_iter().map(partition).collect(),
            ..ListOffsetsTopic::default()
        }
    });
    ListOffsetsRequestData {
        replica_id: -1,
        isolation_level: isolation.level(),
        topics: topics.collect(),
        ..ListOffsetsRequestData::default()
    }
}

/// Collects the offsets of an answer. Returns the error of the first partition that has one.
fn take_offsets(
    answer: Result<ottla_protocol::messages::ListOffsetsResponseData>,
    found: &mut BTreeMap<TopicPartition, PartitionOffset>,
) -> Result<()> {
    let mut result = Ok(());
    for topic in &answer?.topics {
        for partition in &topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
            let code = ErrorCode::from(partition.error_code);
            if code.is_error() {
                let what = format!("offsets of {key}");
                result = result.and(ClientError::check(partition.error_code, None, what));
                continue;
            }
            let offset = PartitionOffset {
                offset: partition.offset,
                timestamp: partition.timestamp,
            };
            found.insert(key, offset);
        }
    }
    result
}
