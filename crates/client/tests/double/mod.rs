//! A broker's double on loopback: it answers as its script says, wrongly too.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test uses a part of the double"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ottla_protocol::api_key::{self, ApiKey};
use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::messages::{
    ApiVersionsResponseData, KafkaString, KafkaUuid, MetadataResponseBroker, MetadataResponseData,
    MetadataResponsePartition, MetadataResponseTopic, RequestHeaderData,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request, its header taken off.
pub struct Asked {
    pub api: ApiKey,
    pub version: i16,
    pub body: Bytes,
    /// Where the double listens.
    pub address: SocketAddr,
}

/// What the double does with a request.
pub enum Step {
    /// Sends this body as the answer.
    Answer(BytesMut),
    /// Sends this body under another request's correlation id.
    AnswerToAnother(BytesMut),
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Says nothing, ever.
    Silence,
    /// Closes the connection.
    Close,
}

/// A running double; it ends when dropped.
pub struct Double {
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

type Script = Arc<dyn Fn(&Asked) -> Step + Send + Sync>;

impl Double {
    /// Listens on a free port and follows `script` on every connection.
    pub async fn start(script: impl Fn(&Asked) -> Step + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Script = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, address, Arc::clone(&script)));
            }
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, script: Script) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let mut body = Bytes::from(frame);
        let api = api_key::from_number((&body[..2]).get_i16()).unwrap();
        let version = (&body[2..4]).get_i16();
        let header_version = api_key::request_header_version(api, version);
        let header = RequestHeaderData::read(&mut body, header_version).unwrap();
        let id = header.correlation_id;
        let asked = Asked {
            api,
            version,
            body,
            address,
        };
        let bytes = match script(&asked) {
            Step::Answer(body) => frame_of(&asked, id, &body),
            Step::AnswerToAnother(body) => frame_of(&asked, id + 1000, &body),
            Step::Raw(bytes) => bytes,
            Step::Silence => continue,
            Step::Close => return,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn frame_of(asked: &Asked, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let has_tags = api_key::response_header_version(asked.api, asked.version) == 1;
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len() + 4 + usize::from(has_tags)).unwrap());
    frame.put_i32(correlation_id);
    if has_tags {
        frame.put_u8(0);
    }
    frame.extend_from_slice(body);
    frame.to_vec()
}

/// The answer to `ApiVersions` of a broker that serves everything.
pub fn all_versions(asked: &Asked) -> Step {
    let apis = (0..=100).filter_map(api_key::from_number);
    let served = apis.map(|api| {
        let versions = api_key::versions(api);
        ApiVersion {
            api_key: api as i16,
            min_version: *versions.start(),
            max_version: *versions.end(),
            ..ApiVersion::default()
        }
    });
    versions(asked, served.collect())
}

/// The answer to `ApiVersions` of a broker that serves these.
pub fn versions(asked: &Asked, api_keys: Vec<ApiVersion>) -> Step {
    let response = ApiVersionsResponseData {
        api_keys,
        ..ApiVersionsResponseData::default()
    };
    answer(|out| response.write(out, asked.version).unwrap())
}

/// The topic `t`, which the double has as broker 1.
#[derive(Clone, Copy)]
pub struct Topic {
    pub id: KafkaUuid,
    pub partitions: i32,
    /// The double leads the partitions below this one. The others have no leader.
    pub led: i32,
    pub leader_epoch: i32,
}

impl Default for Topic {
    /// Two partitions, and what brokers leave out that know neither ids nor epochs.
    fn default() -> Self {
        Self {
            id: KafkaUuid::ZERO,
            partitions: 2,
            led: i32::MAX,
            leader_epoch: -1,
        }
    }
}

/// The answer to `Metadata`.
pub fn metadata(asked: &Asked, topic: Topic) -> Step {
    let partition = |partition_index| {
        let has_leader = partition_index < topic.led;
        MetadataResponsePartition {
            partition_index,
            leader_id: if has_leader { 1 } else { -1 },
            leader_epoch: topic.leader_epoch,
            error_code: if has_leader { 0 } else { 5 },
            ..MetadataResponsePartition::default()
        }
    };
    let response = MetadataResponseData {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: KafkaString::from(asked.address.ip().to_string()),
            port: i32::from(asked.address.port()),
            ..MetadataResponseBroker::default()
        }],
        controller_id: 1,
        topics: vec![MetadataResponseTopic {
            name: Some(KafkaString::from_static("t")),
            topic_id: topic.id,
            partitions: (0..topic.partitions).map(partition).collect(),
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponseData::default()
    };
    answer(|out| response.write(out, asked.version).unwrap())
}

/// An answer with the body that `write` writes.
pub fn answer(write: impl FnOnce(&mut BytesMut)) -> Step {
    let mut body = BytesMut::new();
    write(&mut body);
    Step::Answer(body)
}
