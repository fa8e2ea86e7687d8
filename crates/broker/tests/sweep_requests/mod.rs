//! Valid requests of every served API: what clients send, and Kafka's own encodings with every field filled.

use bytes::{Bytes, BytesMut};
use ottla_protocol::api_key;
use ottla_protocol::frame::{LENGTH_BYTES, RequestHead, write_request};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::by_api::{self, Message};
use ottla_protocol::messages::{
    ApiKey, ApiVersionsRequestData, CreateTopicsRequestData, CreateTopicsResponseData,
    DefaultPrincipalDataData, DescribeConfigsRequestData, DescribeGroupsRequestData,
    DescribeQuorumRequestData, EnvelopeRequestData, FetchRequestData, FindCoordinatorRequestData,
    JoinGroupRequestData, KafkaString, LeaveGroupRequestData, ListOffsetsRequestData,
    MetadataRequestData, OffsetCommitRequestData, OffsetFetchRequestData, ProduceRequestData,
    ProduceResponseData, create_topics_request, describe_configs_request, fetch_request,
    join_group_request, leave_group_request, list_offsets_request, metadata_request,
    offset_commit_request, offset_fetch_request, produce_request,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions};

use crate::Client;

/// Kafka's own encodings of every request, each in its highest version.
const KAFKAS: &str = include_str!("../../../protocol/tests/fixtures/messages.tsv");

/// The topic that requests are about.
pub struct Topic {
    name: KafkaString,
    id: Uuid,
}

fn text(text: &'static str) -> KafkaString {
    KafkaString::from_static(text)
}

impl Topic {
    /// Creates it, with a record in it.
    pub fn create(client: &mut Client) -> Self {
        let name = text("swept");
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(2)
            .with_replication_factor(1);
        let request = CreateTopicsRequestData::default()
            .with_topics(vec![topic])
            .with_timeout_ms(5000);
        let mut answer = client.ask(ApiKey::CreateTopics, 7, &request);
        let created = CreateTopicsResponseData::read(&mut answer, 7).unwrap();
        assert_eq!(created.topics[0].error_code, 0);
        let topic = Self {
            name,
            id: created.topics[0].topic_id,
        };
        let mut answer = client.ask(ApiKey::Produce, 9, &topic.produce(9));
        let produced = ProduceResponseData::read(&mut answer, 9).unwrap();
        assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
        topic
    }

    fn produce(&self, version: i16) -> ProduceRequestData {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.append(1, Some(b"key"), Some(b"value"), &[]);
        let data = produce_request::PartitionProduceData::default()
            .with_records(batch.build().map(Bytes::from));
        let topic = produce_request::TopicProduceData::default().with_partition_data(vec![data]);
        let topic = if version >= 13 {
            topic.with_topic_id(self.id)
        } else {
            topic.with_name(self.name.clone())
        };
        ProduceRequestData::default()
            .with_acks(-1)
            .with_timeout_ms(5000)
            .with_topic_data(vec![topic])
    }

    fn fetch(&self, version: i16) -> FetchRequestData {
        let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1000);
        let topic = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
        let topic = if version >= 13 {
            topic.with_topic_id(self.id)
        } else {
            topic.with_topic(self.name.clone())
        };
        let request = FetchRequestData::default()
            .with_max_bytes(1000)
            .with_topics(vec![topic]);
        if version < 15 {
            request.with_replica_id(-1)
        } else {
            request
        }
    }

    fn offset_commit(&self, version: i16) -> OffsetCommitRequestData {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default();
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_partitions(vec![partition]);
        let topic = if version >= 10 {
            topic.with_topic_id(self.id)
        } else {
            topic.with_name(self.name.clone())
        };
        OffsetCommitRequestData::default()
            .with_group_id(text("g"))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    }

    fn offset_fetch(&self, version: i16) -> OffsetFetchRequestData {
        if version < 8 {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(self.name.clone())
                .with_partition_indexes(vec![0, 9]);
            return OffsetFetchRequestData::default()
                .with_group_id(text("g"))
                .with_topics(Some(vec![topic]));
        }
        let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_partition_indexes(vec![0, 9]);
        let topic = if version >= 10 {
            topic.with_topic_id(self.id)
        } else {
            topic.with_name(self.name.clone())
        };
        let group = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(text("g"))
            .with_topics(Some(vec![topic]));
        OffsetFetchRequestData::default().with_groups(vec![group])
    }

    fn list_offsets(&self) -> ListOffsetsRequestData {
        let at = |timestamp| {
            list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp)
        };
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(self.name.clone())
            .with_partitions(vec![at(-1), at(5).with_partition_index(1)]);
        ListOffsetsRequestData::default()
            .with_replica_id(-1)
            .with_topics(vec![topic])
    }

    fn metadata(&self, version: i16) -> MetadataRequestData {
        let topic = |name: &KafkaString| {
            metadata_request::MetadataRequestTopic::default().with_name(Some(name.clone()))
        };
        MetadataRequestData::default()
            .with_topics(Some(vec![topic(&self.name), topic(&text("absent"))]))
            .with_allow_auto_topic_creation(version < 4)
    }

    fn join(version: i16) -> JoinGroupRequestData {
        let protocol = join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"m"));
        let request = JoinGroupRequestData::default()
            .with_group_id(text("joined"))
            .with_session_timeout_ms(6000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        if version >= 1 {
            request.with_rebalance_timeout_ms(6000)
        } else {
            request
        }
    }

    /// What a client would send, for the APIs that need more than defaults.
    fn of(&self, api: ApiKey, version: i16) -> Option<Box<dyn Message>> {
        Some(match api {
            ApiKey::Produce => Box::new(self.produce(version)),
            ApiKey::Fetch => Box::new(self.fetch(version)),
            ApiKey::ListOffsets => Box::new(self.list_offsets()),
            ApiKey::Metadata => Box::new(self.metadata(version)),
            ApiKey::OffsetCommit => Box::new(self.offset_commit(version)),
            ApiKey::OffsetFetch => Box::new(self.offset_fetch(version)),
            ApiKey::JoinGroup => Box::new(Self::join(version)),
            ApiKey::FindCoordinator if version < 4 => {
                Box::new(FindCoordinatorRequestData::default().with_key(text("g")))
            }
            ApiKey::FindCoordinator => {
                let keys = vec![text("g"), text("h")];
                Box::new(FindCoordinatorRequestData::default().with_coordinator_keys(keys))
            }
            ApiKey::DescribeGroups => {
                let groups = vec![text("g"), text("absent")];
                Box::new(DescribeGroupsRequestData::default().with_groups(groups))
            }
            ApiKey::DescribeConfigs => Box::new(self.describe_configs()),
            ApiKey::LeaveGroup if version >= 3 => {
                let member = leave_group_request::MemberIdentity::default();
                Box::new(LeaveGroupRequestData::default().with_members(vec![member]))
            }
            ApiKey::Envelope => Box::new(envelope()),
            ApiKey::ApiVersions if version >= 3 => Box::new(
                ApiVersionsRequestData::default()
                    .with_client_software_name(text("sweep"))
                    .with_client_software_version(text("1")),
            ),
            _ => return None,
        })
    }

    fn describe_configs(&self) -> DescribeConfigsRequestData {
        let resource = |kind, name: KafkaString| {
            describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(name)
        };
        let resources = vec![resource(2, self.name.clone()), resource(4, text("1"))];
        DescribeConfigsRequestData::default().with_resources(resources)
    }
}

/// A request for the state of the quorum, which a broker forwards.
fn envelope() -> EnvelopeRequestData {
    let (api, version) = (ApiKey::DescribeQuorum, 2);
    let mut inner = BytesMut::new();
    let head = RequestHead {
        api,
        version,
        correlation_id: 7,
        client_id: None,
    };
    let request = DescribeQuorumRequestData::default();
    write_request(&mut inner, &head, |out| request.write(out, version)).unwrap();
    let principal = DefaultPrincipalDataData::default()
        .with_type(text("User"))
        .with_name(text("a"));
    let mut bytes = BytesMut::from(&[0, 0][..]);
    principal.write(&mut bytes, 0).unwrap();
    EnvelopeRequestData::default()
        .with_request_data(inner.split_off(LENGTH_BYTES).freeze())
        .with_request_principal(Some(bytes.freeze()))
        .with_client_host_address(Bytes::from_static(&[127, 0, 0, 1]))
}

/// The requests of an API that are swept in a version.
pub fn requests(api: ApiKey, version: i16, topic: &Topic) -> Vec<Box<dyn Message>> {
    let mut requests: Vec<Box<dyn Message>> = topic.of(api, version).into_iter().collect();
    // All zeros are a request of nothing in most versions.
    for zeros in [0, 2, 4, 8, 16, 24] {
        let mut body = Bytes::from(vec![0; zeros]);
        if let Ok(request) = by_api::read_request(api, version, &mut body)
            && body.is_empty()
        {
            requests.push(request);
        }
    }
    requests.extend(kafkas(api));
    requests
}

/// The request as Kafka fills every field of it; it is sent in the versions that have them all.
fn kafkas(api: ApiKey) -> Option<Box<dyn Message>> {
    let line = KAFKAS
        .lines()
        .find(|line| line.starts_with(&format!("request\t{}\t", api as i16)))?;
    let mut fields = line.split('\t').skip(2);
    let version = fields.next()?.parse().ok()?;
    let hexadecimal = fields.next()?;
    let bytes = (0..hexadecimal.len()).step_by(2);
    let body: Vec<u8> = bytes
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap())
        .collect();
    api_key::versions(api)
        .contains(&version)
        .then(|| by_api::read_request(api, version, &mut Bytes::from(body)).unwrap())
}
