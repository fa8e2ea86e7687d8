//! One connection to one broker: version negotiation, pipelined calls, bounded frames.
//!
//! A writer task and a reader task own the two halves of the socket. Kafka answers in the order of the requests,
//! so the reader matches answers to waiting calls by order and only checks the correlation id. A connection that
//! fails once stays failed; its owner opens another.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use ottla_protocol::api_key::{self, ApiKey};
use ottla_protocol::frame::{self, RequestHead};
use ottla_protocol::messages::{
    ApiVersionsRequestData, ApiVersionsResponseData, KafkaString, ResponseHeaderData,
};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time;

use crate::error::ErrorCode;
use crate::request::api_versions;
use crate::{ClientError, Options, Request, Result};

/// The most requests of one connection that wait for answers; further requests wait to be written.
const PIPELINE_DEPTH: usize = 32;
/// The interval of the kernel's probes on a connection where nothing is sent.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The largest answer that is accepted.
const MAX_RESPONSE_BYTES: i32 = 256 * 1024 * 1024;

/// A connection to a broker, which many tasks may use at the same time.
#[derive(Debug)]
pub struct Connection {
    address: String,
    client_id: KafkaString,
    timeout: Duration,
    versions: BTreeMap<i16, (i16, i16)>,
    next_correlation_id: AtomicI32,
    requests: mpsc::Sender<Outgoing>,
    is_broken: Arc<AtomicBool>,
    /// Aborts the reader and the writer when the connection is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Outgoing {
    frame: Bytes,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    correlation_id: i32,
    reply: oneshot::Sender<Bytes>,
}

impl Connection {
    /// Connects to `host:port` and asks for the versions that the broker offers. Each of the two may take
    /// `connect_timeout`, because a server may accept the connection and never answer.
    pub async fn open(address: &str, options: &Options) -> Result<Self> {
        let mut stream = connect(address, options).await?;
        let client_id = KafkaString::from(options.client_id.clone());
        let negotiation = negotiate(&mut stream, address, &client_id);
        let versions = time::timeout(options.connect_timeout, negotiation)
            .await
            .map_err(|_| ClientError::TimedOut {
                address: address.to_owned(),
                api: ApiKey::ApiVersions,
                after: options.connect_timeout,
            })??;
        let (read_half, write_half) = stream.into_split();
        let (requests, outgoing) = mpsc::channel(PIPELINE_DEPTH);
        let (pipeline, waiting) = mpsc::channel(PIPELINE_DEPTH);
        let is_broken = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        tasks.spawn(write_requests(write_half, outgoing, pipeline));
        tasks.spawn(read_responses(read_half, waiting, Arc::clone(&is_broken)));
        Ok(Self {
            address: address.to_owned(),
            client_id,
            timeout: options.request_timeout,
            versions,
            next_correlation_id: AtomicI32::new(1),
            requests,
            is_broken,
            _tasks: tasks,
        })
    }

    /// The broker's address as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the connection has failed and must be replaced.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed) || self.requests.is_closed()
    }

    /// The version in which `R` is sent on this connection.
    pub fn version<R: Request>(&self) -> Result<i16> {
        let unsupported = || ClientError::Unsupported {
            address: self.address.clone(),
            api: R::KEY,
        };
        let (oldest, newest) = *self
            .versions
            .get(&(R::KEY as i16))
            .ok_or_else(unsupported)?;
        let version = newest.min(R::NEWEST);
        if version < oldest.max(R::OLDEST) {
            return Err(unsupported());
        }
        Ok(version)
    }

    /// Calls the broker and waits for its answer.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response> {
        self.call_within(request, self.timeout).await
    }

    /// Calls the broker and waits at most `limit` for its answer. After a timeout the connection is broken.
    pub async fn call_within<R: Request>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response> {
        let version = self.version::<R>()?;
        let (reply, answer) = oneshot::channel();
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let frame = self.frame(request, version, correlation_id)?;
        let bytes = frame.len();
        let outgoing = Outgoing {
            frame,
            waiting: Some(Waiting {
                correlation_id,
                reply,
            }),
        };
        let exchange = async {
            self.requests.send(outgoing).await.ok()?;
            answer.await.ok()
        };
        let Ok(answered) = time::timeout(limit, exchange).await else {
            self.is_broken.store(true, Ordering::Relaxed);
            return Err(ClientError::TimedOut {
                address: self.address.clone(),
                api: R::KEY,
                after: limit,
            });
        };
        let mut body = answered.ok_or_else(|| self.disconnected::<R>(bytes))?;
        decode::<R>(&mut body, version, &self.address)
    }

    /// Sends a request that the broker does not answer (Produce with acks 0).
    pub async fn send<R: Request>(&self, request: &R) -> Result<()> {
        let version = self.version::<R>()?;
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let frame = self.frame(request, version, correlation_id)?;
        let bytes = frame.len();
        let outgoing = Outgoing {
            frame,
            waiting: None,
        };
        let sent = self.requests.send(outgoing).await;
        sent.map_err(|_| self.disconnected::<R>(bytes))
    }

    fn frame<R: Request>(&self, request: &R, version: i16, correlation_id: i32) -> Result<Bytes> {
        encode_frame(request, version, correlation_id, &self.client_id)
    }

    fn disconnected<R: Request>(&self, bytes: usize) -> ClientError {
        self.is_broken.store(true, Ordering::Relaxed);
        ClientError::Disconnected {
            address: self.address.clone(),
            api: R::KEY,
            bytes,
        }
    }
}

async fn connect(address: &str, options: &Options) -> Result<TcpStream> {
    let failed = |source| ClientError::Connect {
        address: address.to_owned(),
        source,
    };
    let candidates =
        tokio::net::lookup_host(address)
            .await
            .map_err(|source| ClientError::Resolve {
                address: address.to_owned(),
                source,
            })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        match time::timeout(options.connect_timeout, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(failed)?;
                if let Some(limit) = options.unconfirmed_for {
                    fail_when_unconfirmed(&stream, limit).map_err(failed)?;
                }
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"),
        }
    }
    Err(failed(last))
}

/// Bounds the time for which packets stay unconfirmed. While nothing is sent, the kernel sends probes. Without this a path
/// that was cut is tried less and less often: up to two minutes apart, also after it works again.
fn fail_when_unconfirmed(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    sockopt::set_tcp_keepidle(stream, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

/// Asks for the broker's versions, in the newest version that we know, and again in an older one if the broker refuses.
async fn negotiate(
    stream: &mut TcpStream,
    address: &str,
    client_id: &KafkaString,
) -> Result<BTreeMap<i16, (i16, i16)>> {
    let mut version = ApiVersionsRequestData::NEWEST;
    let answer = ask_versions(stream, address, client_id, version).await?;
    let answer = if ErrorCode::from(answer.error_code) == ErrorCode::UnsupportedVersion {
        let offered = answer
            .api_keys
            .iter()
            .find(|api| api.api_key == ApiKey::ApiVersions as i16);
        version = offered.map_or(0, |api| api.max_version).clamp(0, version);
        ask_versions(stream, address, client_id, version).await?
    } else {
        answer
    };
    ClientError::check(answer.error_code, None, format!("ApiVersions of {address}"))?;
    let versions = answer.api_keys.iter();
    Ok(versions
        .map(|api| (api.api_key, (api.min_version, api.max_version)))
        .collect())
}

async fn ask_versions(
    stream: &mut TcpStream,
    address: &str,
    client_id: &KafkaString,
    version: i16,
) -> Result<ApiVersionsResponseData> {
    let request = api_versions();
    let frame = encode_frame(&request, version, 0, client_id)?;
    let bytes = frame.len();
    let disconnected = |_| ClientError::Disconnected {
        address: address.to_owned(),
        api: ApiKey::ApiVersions,
        bytes,
    };
    stream.write_all(&frame).await.map_err(disconnected)?;
    let frame = read_frame(stream).await.map_err(|error| match error {
        FrameError::Io => disconnected(io::ErrorKind::UnexpectedEof.into()),
        FrameError::Size(size) => ClientError::FrameTooLarge {
            address: address.to_owned(),
            size: i64::from(size),
        },
    })?;
    // A broker that does not know the version answers in version 0, which begins with the error code 35.
    let answered = if frame.get(4..6) == Some(&35_i16.to_be_bytes()) {
        0
    } else {
        version
    };
    decode::<ApiVersionsRequestData>(&mut frame.slice(0..), answered, address)
}

fn encode_frame<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &KafkaString,
) -> Result<Bytes> {
    let failed = |source| ClientError::Encode {
        api: R::KEY,
        source,
    };
    let head = RequestHead {
        api: R::KEY,
        version,
        correlation_id,
        client_id: Some(client_id.clone()),
    };
    let mut frame = BytesMut::new();
    frame::write_request(&mut frame, &head, |out| request.encode(out, version)).map_err(failed)?;
    Ok(frame.freeze())
}

/// Reads header and body of an answer.
fn decode<R: Request>(frame: &mut Bytes, version: i16, address: &str) -> Result<R::Response> {
    let failed = |source| ClientError::Malformed {
        address: address.to_owned(),
        api: R::KEY,
        source,
    };
    let header_version = api_key::response_header_version(R::KEY, version);
    ResponseHeaderData::read(frame, header_version).map_err(failed)?;
    R::decode(frame, version).map_err(failed)
}

async fn write_requests<W: AsyncWrite + Unpin>(
    mut socket: W,
    mut outgoing: mpsc::Receiver<Outgoing>,
    pipeline: mpsc::Sender<Waiting>,
) {
    while let Some(Outgoing { frame, waiting }) = outgoing.recv().await {
        if let Some(waiting) = waiting
            && pipeline.send(waiting).await.is_err()
        {
            return;
        }
        if socket.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Sends each answer to the call that waits for it. At the end it drops the channels of the calls that still wait, which
/// then fail with [`ClientError::Disconnected`].
async fn read_responses<R: AsyncRead + Unpin>(
    mut socket: R,
    mut waiting: mpsc::Receiver<Waiting>,
    is_broken: Arc<AtomicBool>,
) {
    while let Ok(frame) = read_frame(&mut socket).await {
        let Ok(next) = waiting.try_recv() else { break };
        let correlation_id = frame.get(..4).map(|mut bytes| bytes.get_i32());
        if correlation_id != Some(next.correlation_id) {
            break;
        }
        // The call may have timed out. Its answer is then dropped.
        let _ = next.reply.send(frame);
    }
    is_broken.store(true, Ordering::Relaxed);
}

enum FrameError {
    Io,
    Size(i32),
}

async fn read_frame<R: AsyncRead + Unpin>(socket: &mut R) -> Result<Bytes, FrameError> {
    let size = socket.read_i32().await.map_err(|_| FrameError::Io)?;
    if !(4..=MAX_RESPONSE_BYTES).contains(&size) {
        return Err(FrameError::Size(size));
    }
    let mut frame = vec![0; size as usize];
    let read = socket.read_exact(&mut frame).await;
    read.map_err(|_| FrameError::Io)?;
    Ok(Bytes::from(frame))
}
