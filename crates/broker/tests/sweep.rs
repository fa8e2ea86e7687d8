//! Every announced API in every version, with valid, truncated and damaged bodies, against a running broker
//! and its controller.
//!
//! The oracle is the codec: a body that decodes gets an answer that decodes whole, one that does not closes the
//! connection. Nothing may panic, and the broker must answer the next request whatever came before. Requests that
//! wait for others (Fetch, JoinGroup, SyncGroup) may instead be dropped when the client stops sending.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod sweep_requests;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_broker::config::BrokerConfig;
use ottla_broker::handlers::{SERVED, controller};
use ottla_broker::process::clock::Clock;
use ottla_protocol::api_key;
use ottla_protocol::messages::by_api::{self, Message};
use ottla_protocol::messages::{
    ApiKey, CreatePartitionsRequestData, CreateTopicsRequestData, ProduceRequestData,
};

use sweep_requests::{Topic, requests};

/// Damaged bodies for each valid one.
const DAMAGED: usize = 12;
/// Truncated bodies for each valid one.
const TRUNCATED: usize = 12;
/// Partitions that a damaged request may have made; making more is right, and slow.
const AFFORDABLE: i64 = 20;

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn every_api_answers_what_decodes_and_closes_on_what_does_not() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        report(panic);
    }));
    let directory = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::embedded(directory.path().to_owned(), 0);
    config.groups.commit_timeout = Duration::from_secs(1);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let clients = running.addresses[0].1;
    let controllers = running.controller_addresses[0].1;
    let swept = tokio::task::spawn_blocking(move || {
        let topic = Topic::create(&mut Client::new(clients));
        serves_only_its_own(clients, SERVED, &topic);
        serves_only_its_own(controllers, controller::SERVED, &topic);
        let sent = sweep(clients, SERVED, &topic);
        (sent, sweep(controllers, controller::SERVED, &topic))
    });
    let (to_broker, to_controller) = swept.await.unwrap();
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
    assert!(
        to_broker.min(to_controller) > 1000,
        "the sweep sent next to nothing"
    );
    running.shut_down().await;
}

/// A listener closes the connection on requests that only the other listener serves.
fn serves_only_its_own(address: SocketAddr, served: &[ApiKey], topic: &Topic) {
    let all = SERVED.iter().chain(controller::SERVED);
    for api in all.filter(|api| !served.contains(api)) {
        let version = *api_key::versions(*api).end();
        for request in requests(*api, version, topic) {
            let mut body = BytesMut::new();
            if request.write(&mut body, version).is_err() {
                continue;
            }
            let mut stream = Client::new(address).connect();
            let case = Case { api: *api, version };
            stream.write_all(&framed(case, 1, &body)).unwrap();
            assert!(read_frame(&mut stream).is_none(), "{api:?} is answered");
        }
    }
}

/// Sends everything to a listener that serves these APIs; returns how many requests that was.
fn sweep(address: SocketAddr, served: &[ApiKey], topic: &Topic) -> usize {
    let mut client = Client::new(address);
    let mut numbers = Numbers(0x0771_1a00_5eed);
    let mut sent = 0;
    for api in served {
        for version in api_key::versions(*api) {
            for request in requests(*api, version, topic) {
                let mut body = BytesMut::new();
                if request.write(&mut body, version).is_err() {
                    continue;
                }
                let case = Case { api: *api, version };
                client.send(case, &body);
                for damaged in damaged(&body, &mut numbers) {
                    client.send(case, &damaged);
                }
                sent += 1 + DAMAGED + TRUNCATED;
            }
        }
    }
    sent
}

/// Truncated and altered copies of a body.
fn damaged(body: &[u8], numbers: &mut Numbers) -> Vec<Vec<u8>> {
    let mut damaged = Vec::new();
    for _ in 0..TRUNCATED.min(body.len()) {
        damaged.push(body[..numbers.below(body.len())].to_vec());
    }
    for _ in 0..DAMAGED {
        let mut altered = body.to_vec();
        for _ in 0..=numbers.below(4) {
            if altered.is_empty() {
                break;
            }
            let at = numbers.below(altered.len());
            altered[at] = match numbers.below(4) {
                0 => 0xff,
                1 => 0x7f,
                2 => 0,
                _ => numbers.next() as u8,
            };
        }
        damaged.push(altered);
    }
    damaged
}

#[derive(Debug, Clone, Copy)]
struct Case {
    api: ApiKey,
    version: i16,
}

impl Case {
    fn waits_for_others(self) -> bool {
        matches!(
            self.api,
            ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup
        )
    }

    fn decoded(self, body: &[u8]) -> Option<Box<dyn Message>> {
        let mut body = Bytes::copy_from_slice(body);
        by_api::read_request(self.api, self.version, &mut body).ok()
    }

    /// Whether the request makes no more partitions than a test has time for.
    fn is_affordable(self, body: &[u8]) -> bool {
        let mut body = Bytes::copy_from_slice(body);
        let wanted: i64 = match self.api {
            ApiKey::CreateTopics => {
                CreateTopicsRequestData::read(&mut body, self.version).map_or(0, |request| {
                    let topics = request.topics.iter();
                    topics.map(|topic| i64::from(topic.num_partitions)).sum()
                })
            }
            ApiKey::CreatePartitions => CreatePartitionsRequestData::read(&mut body, self.version)
                .map_or(0, |request| {
                    let topics = request.topics.iter();
                    topics.map(|topic| i64::from(topic.count)).sum()
                }),
            _ => 0,
        };
        wanted <= AFFORDABLE
    }

    /// Whether a Produce that decodes gets no answer: it asked for none, or the connection is closed instead.
    fn wants_no_answer(self, body: &[u8]) -> bool {
        let mut body = Bytes::copy_from_slice(body);
        self.api == ApiKey::Produce
            && ProduceRequestData::read(&mut body, self.version)
                .is_ok_and(|request| request.acks == 0)
    }
}

/// A client that reconnects when it has been closed.
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

const PROBE: i32 = 77;

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    /// Sends a request and reads its answer, which must be there.
    pub fn ask(&mut self, api: ApiKey, version: i16, request: &dyn Message) -> Bytes {
        let mut body = BytesMut::new();
        request.write(&mut body, version).unwrap();
        let mut stream = self.stream.take().unwrap_or_else(|| self.connect());
        stream
            .write_all(&framed(Case { api, version }, 1, &body))
            .unwrap();
        let (_, mut answer) = read_frame(&mut stream).unwrap();
        strip_header(Case { api, version }, &mut answer);
        self.stream = Some(stream);
        answer
    }

    /// Sends a body that may be anything, and checks what becomes of it.
    fn send(&mut self, case: Case, body: &[u8]) {
        if !case.is_affordable(body) {
            return;
        }
        let decodes = case.decoded(body).is_some();
        let mut stream = self.stream.take().unwrap_or_else(|| self.connect());
        let context = || format!("{case:?} decodes={decodes} {body:02x?}");
        let mut bytes = framed(case, 1, body);
        let leaves = case.waits_for_others() || case.wants_no_answer(body);
        if !leaves {
            let probe = Case {
                api: ApiKey::ApiVersions,
                version: 0,
            };
            bytes.extend(framed(probe, PROBE, &[]));
        }
        // A broker that has closed already may refuse the rest; what it answered is still to be read.
        let _ = stream.write_all(&bytes);
        if leaves {
            let _ = stream.shutdown(Shutdown::Write);
        }
        match read_frame(&mut stream) {
            Some((1, mut answer)) => {
                assert!(decodes, "answered what does not decode: {}", context());
                strip_header(case, &mut answer);
                let read = by_api::read_response(case.api, case.version, &mut answer);
                assert!(read.is_ok(), "{:?}: {}", read.err(), context());
                assert!(answer.is_empty(), "trailing bytes: {}", context());
            }
            Some((other, _)) => panic!("answered {other} first: {}", context()),
            None => {
                assert!(!decodes || leaves, "closed: {}", context());
                return;
            }
        }
        if !leaves {
            let (correlation, _) =
                read_frame(&mut stream).unwrap_or_else(|| panic!("{}", context()));
            assert_eq!(correlation, PROBE, "{}", context());
            self.stream = Some(stream);
        }
    }
}

fn framed(case: Case, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i16(case.api as i16);
    frame.put_i16(case.version);
    frame.put_i32(correlation);
    frame.put_i16(5);
    frame.put_slice(b"sweep");
    if api_key::request_header_version(case.api, case.version) == 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let mut bytes = Vec::new();
    bytes.put_i32(frame.len() as i32);
    bytes.extend(frame);
    bytes
}

/// A frame's correlation id and what follows it; nothing when the connection is closed.
fn read_frame(stream: &mut TcpStream) -> Option<(i32, Bytes)> {
    let mut head = [0; 8];
    match stream.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in time"),
        Err(_) => return None,
    }
    let length = i32::from_be_bytes(head[..4].try_into().unwrap());
    let correlation = i32::from_be_bytes(head[4..].try_into().unwrap());
    let mut rest = vec![0; length as usize - 4];
    stream.read_exact(&mut rest).unwrap();
    Some((correlation, rest.into()))
}

/// Takes the tagged fields of a flexible response header off.
fn strip_header(case: Case, answer: &mut Bytes) {
    if api_key::response_header_version(case.api, case.version) == 1 {
        let tags = answer.split_to(1);
        assert_eq!(tags[0], 0, "a response header has no tagged fields");
    }
}

/// Xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}
