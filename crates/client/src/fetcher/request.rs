//! The Fetch request. It names topics by id if the broker supports that and all topics have ids, else by name.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponseData;
use ottla_protocol::messages::{ApiKey, KafkaString, KafkaUuid, ProtocolError};

use super::Fetcher;
use crate::{Cluster, Request, Result, TopicPartition};

/// A Fetch request whose topics are named by their ids.
struct FetchById(FetchRequestData);

impl Request for FetchById {
    const KEY: ApiKey = ApiKey::Fetch;
    const OLDEST: i16 = 13;
    const NEWEST: i16 = 17;
    type Response = FetchResponseData;

    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
        self.0.write(out, version)
    }

    fn decode(body: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError> {
        FetchResponseData::read(body, version)
    }
}

/// Fetches from a leader.
pub(super) async fn fetch(
    cluster: &Cluster,
    leader: i32,
    request: FetchRequestData,
) -> Result<FetchResponseData> {
    let connection = cluster.node(leader).await?;
    let has_ids = |topic: &FetchTopic| topic.topic_id != KafkaUuid::ZERO;
    if request.topics.iter().all(has_ids) && connection.version::<FetchById>().is_ok() {
        return connection.call(&FetchById(request)).await;
    }
    connection.call(&request).await
}

impl Fetcher {
    /// The request for partitions from these offsets on.
    pub(super) fn request(&self, offsets: &BTreeMap<TopicPartition, i64>) -> FetchRequestData {
        let mut topics = BTreeMap::<&str, Vec<FetchPartition>>::new();
        for (partition, offset) in offsets {
            let fetched = FetchPartition {
                partition: partition.partition,
                current_leader_epoch: self.partitions[partition].checked_epoch,
                fetch_offset: *offset,
                partition_max_bytes: self.options.partition_max_bytes,
                ..FetchPartition::default()
            };
            topics.entry(&partition.topic).or_default().push(fetched);
        }
        let topic = |(name, partitions): (&str, _)| FetchTopic {
            topic: KafkaString::from(name.to_owned()),
            topic_id: self.topics[name].map_or(KafkaUuid::ZERO, |known| known.id),
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
}
