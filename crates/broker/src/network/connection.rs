//! One client connection: reads frames, starts their handlers in order, sends answers in order.
//!
//! A Produce may start while earlier Produces of the connection wait. Any other request starts when the answers to all
//! earlier ones are ready. All Produces that have arrived start together, and all answers that are ready leave in one
//! write. Bytes that are not Kafka's protocol end the connection once the earlier requests are answered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::frame::{BadHeader, RequestHead};
use ottla_protocol::time::MonotonicTime;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::closed_log::Fault;
use super::inbox::{BadFrame, FrameLimits, Front, Inbox, LENGTH, READ_AHEAD};
use super::limits::{RequestMemory, Reservation};
use super::outbox::Outbox;
use super::peer;
use super::replies::{Answered, Replies};
use crate::broker::Broker;
use crate::cluster::quorum_frames::{self, BadPeerFrame};
use crate::context::{Connection, ListenerRole, RequestContext};
use crate::drivers::stopping::stopped;
use crate::handlers::{self, Produce, Refused, Request};
use crate::reply::Part;

/// Upper bound of the requests of one connection whose answers are not ready. Further requests stay in the socket.
const MAX_WAITING: usize = 256;
/// While this many bytes are unsent, no further request starts.
const MAX_UNSENT: usize = 1024 * 1024;
/// An idle connection gives its read buffer back after this long.
const SHRINK_AFTER: Duration = Duration::from_secs(1);

/// The bounds of every connection.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    pub frames: FrameLimits,
    /// `connections.max.idle.ms`.
    pub max_idle: Duration,
    /// `ottla.request.receive.timeout.ms`: how long a large request may take to arrive once its memory is reserved.
    pub receive_timeout: Duration,
    /// Bounds the requests in flight of all connections together.
    pub memory: Arc<RequestMemory>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    #[error("closed by the client")]
    ByClient,
    #[error("idle for connections.max.idle.ms")]
    Idle,
    #[error("a request did not arrive within ottla.request.receive.timeout.ms")]
    SlowRequest,
    #[error("the broker is shutting down")]
    Shutdown,
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] BadFrame),
    /// The frame does not start with the header of a request that exists.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// The header names an API that is not served.
    #[error("{0:?} is not served")]
    NotServed(ApiKey),
    /// The request got no answer.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The connection belongs to another controller, which has sent this first frame.
    #[error("it is one of a controller")]
    OfController(Bytes),
    /// Another controller has dialled this one, which is not open yet. It dials again.
    #[error("this controller is starting")]
    Starting,
    /// Another controller has sent something else than messages.
    #[error(transparent)]
    Peer(#[from] BadPeerFrame),
}

impl Closed {
    /// The fault that log lines name; none for an end that is nobody's fault, or of the socket.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::ByClient
            | Self::Idle
            | Self::Shutdown
            | Self::Starting
            | Self::Socket(_)
            | Self::OfController(_) => None,
            Self::SlowRequest => Some(Fault::Slow),
            Self::Frame(BadFrame::Tls) => Some(Fault::Tls),
            Self::Frame(BadFrame::Http) => Some(Fault::Http),
            Self::Frame(_) => Some(Fault::Size),
            Self::Header(_) | Self::NotServed(_) | Self::Refused(Refused::NotServed) => {
                Some(Fault::Header)
            }
            Self::Peer(_) | Self::Refused(Refused::Body(_)) => Some(Fault::Body),
            Self::Refused(Refused::Response(_)) => Some(Fault::Response),
            Self::Refused(Refused::UnansweredProduce(_)) => Some(Fault::Unanswered),
        }
    }

    /// Whether the client sent bytes that are not a request this broker serves.
    pub fn is_protocol_violation(&self) -> bool {
        self.fault().is_some_and(Fault::is_protocol_violation)
    }
}

enum Receiving {
    /// The socket is read.
    Open,
    /// The socket is not read any more. The connection ends for this reason once its requests are answered.
    Ending(Closed),
}

/// A connection's whole state, owned by its task.
pub struct Session {
    broker: Arc<Broker>,
    connection: Arc<Connection>,
    settings: ConnectionSettings,
    stream: TcpStream,
    inbox: Inbox,
    /// The next request, taken from `inbox`, which may not start yet.
    held: Option<Request>,
    /// The reserved memory of the large frame that is being received, and when its reservation was made.
    arriving: Option<(Reservation, MonotonicTime)>,
    /// The size of a large frame whose memory must be reserved before more of it is read.
    unreserved: Option<usize>,
    replies: Replies,
    outbox: Outbox,
    receiving: Receiving,
    last_active: MonotonicTime,
}

impl Session {
    /// Serves a connection that has just been accepted.
    pub fn new(
        broker: Arc<Broker>,
        connection: Arc<Connection>,
        stream: TcpStream,
        settings: ConnectionSettings,
    ) -> Self {
        Self {
            inbox: Inbox::new(settings.frames),
            last_active: broker.clock.monotonic(),
            held: None,
            arriving: None,
            unreserved: None,
            replies: Replies::default(),
            outbox: Outbox::default(),
            receiving: Receiving::Open,
            broker,
            connection,
            settings,
            stream,
        }
    }

    /// The connection as its requests see it.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Serves the connection until it ends; returns the reason.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Closed {
        let first_check = self.broker.clock.instant(self.next_check());
        let mut timer = Box::pin(tokio::time::sleep_until(first_check));
        loop {
            if let Err(closed) = self.step(&mut timer, &mut shutdown).await {
                match closed {
                    Closed::Frame(bad) => {
                        // Best effort: the connection is closed all the same.
                        let _ = self.stream.try_write(bad.farewell());
                        return bad.into();
                    }
                    Closed::OfController(first) => {
                        let received = (first, self.inbox.into_rest());
                        return peer::serve(&self.broker, self.stream, received, shutdown).await;
                    }
                    closed => return closed,
                }
            }
        }
    }

    async fn step(
        &mut self,
        timer: &mut Pin<Box<Sleep>>,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<(), Closed> {
        self.answer_what_is_ready().await?;
        self.send()?;
        self.end_if_done()?;
        let next_check = self.broker.clock.instant(self.next_check());
        if next_check < timer.deadline() {
            timer.as_mut().reset(next_check);
        }
        let reads = self.reads();
        let open = matches!(self.receiving, Receiving::Open);
        tokio::select! {
            biased;
            answered = self.replies.next(), if !self.replies.is_empty() => self.finish(answered)?,
            loaded = self.outbox.loaded(), if self.outbox.is_loading() => loaded?,
            writable = self.stream.writable(),
                if !self.outbox.is_empty() && !self.outbox.is_loading() => writable?,
            reservation = self.settings.memory.reserve(self.unreserved.unwrap_or(0)),
                if self.unreserved.is_some() => self.start_receiving(reservation),
            readable = self.stream.readable(), if reads => { readable?; self.receive()?; }
            () = stopped(shutdown), if open => self.end(Closed::Shutdown),
            () = timer.as_mut() => self.check_time(timer)?,
        }
        Ok(())
    }

    /// Starts requests and collects ready answers, until there are no more of either.
    async fn answer_what_is_ready(&mut self) -> Result<(), Closed> {
        loop {
            self.start_requests();
            match self.replies.ready().await {
                Some(answered) => self.finish(answered)?,
                None => return Ok(()),
            }
        }
    }

    /// Starts requests from the buffer as far as order and limits allow.
    fn start_requests(&mut self) {
        let mut produces = Vec::new();
        while self.replies.len() + produces.len() < MAX_WAITING && self.outbox.bytes() < MAX_UNSENT
        {
            let Some(request) = self.next_request() else {
                break;
            };
            if !self.replies.admits(request.context.api) {
                self.held = Some(request);
                break;
            }
            if request.context.api == ApiKey::Produce {
                match Produce::decode(request) {
                    Ok(produce) => produces.push(produce),
                    Err(refused) => {
                        self.end(refused.into());
                        break;
                    }
                }
                continue;
            }
            if !produces.is_empty() {
                self.held = Some(request);
                break;
            }
            self.replies.push(handlers::start(&self.broker, request));
            return;
        }
        if !produces.is_empty() {
            let disk_work = self.broker.replicas.disk_work();
            let started = disk_work.run(|| handlers::start_produces(&self.broker, produces));
            for waiting in started {
                self.replies.push(waiting);
            }
        }
    }

    /// The next request of the buffer, if it is complete.
    fn next_request(&mut self) -> Option<Request> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        if matches!(&self.receiving, Receiving::Ending(reason) if reason.is_protocol_violation()) {
            return None;
        }
        match self.take_request() {
            Ok(request) => request,
            Err(closed) => {
                self.end(closed);
                None
            }
        }
    }

    fn take_request(&mut self) -> Result<Option<Request>, Closed> {
        let frame = match self.inbox.take_frame()? {
            Front::Frame(frame) => frame,
            Front::Incomplete(size) => {
                self.unreserved = size.filter(|size| *size > READ_AHEAD && self.arriving.is_none());
                return Ok(None);
            }
        };
        let is_of_controller = self.connection.role == ListenerRole::Controller
            && quorum_frames::is_of_controller(&frame);
        if is_of_controller {
            return Err(Closed::OfController(frame));
        }
        let reservation = self.arriving.take().map(|(reservation, _)| reservation);
        let mut body = frame;
        let context = self.read_header(&mut body)?;
        Ok(Some(Request {
            context,
            body,
            reservation,
        }))
    }

    /// Reads the header of `frame`, which then holds the body alone.
    fn read_header(&mut self, frame: &mut Bytes) -> Result<RequestContext, Closed> {
        let size = frame.len() + LENGTH;
        let head = RequestHead::read(frame)?;
        if handlers::served_versions(self.connection.role, head.api).is_none() {
            return Err(Closed::NotServed(head.api));
        }
        Ok(RequestContext {
            connection: Arc::clone(&self.connection),
            api: head.api,
            version: head.version,
            correlation_id: head.correlation_id,
            client_id: head.client_id,
            received: self.broker.clock.monotonic(),
            size,
        })
    }

    fn finish(&mut self, answered: Answered) -> Result<(), Closed> {
        self.last_active = self.broker.clock.monotonic();
        match answered.reply {
            Ok(reply) => {
                self.count(&answered.context, &reply.parts);
                self.outbox.push(reply.parts);
                Ok(())
            }
            // The connection ends now. Of the earlier answers it sends what the socket takes at once.
            Err(refused) => {
                self.send()?;
                Err(refused.into())
            }
        }
    }

    fn count(&self, context: &RequestContext, parts: &[Part]) {
        let Some(metrics) = self.broker.metrics.api(context.api) else {
            return;
        };
        metrics.requests.inc();
        metrics.bytes_in.inc_by(context.size as u64);
        metrics
            .bytes_out
            .inc_by(parts.iter().map(|part| part.len() as u64).sum());
        let took = self.last_active.0.saturating_sub(context.received.0);
        metrics.seconds.observe(took.as_secs_f64());
    }

    fn send(&mut self) -> Result<(), Closed> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let (outbox, cold_reads) = (&mut self.outbox, &self.broker.cold_reads);
        let sent = if outbox.reads_files() {
            let disk_work = self.broker.replicas.disk_work();
            disk_work.run(|| outbox.write_to(&self.stream, cold_reads))?
        } else {
            outbox.write_to(&self.stream, cold_reads)?
        };
        if sent > 0 {
            self.last_active = self.broker.clock.monotonic();
        }
        Ok(())
    }

    /// Whether the socket is read now. It is read while requests wait too, so that a client that leaves is noticed, but
    /// only up to [`READ_AHEAD`].
    fn reads(&self) -> bool {
        matches!(self.receiving, Receiving::Open)
            && self.unreserved.is_none()
            && !(self.inbox.is_ahead() && self.is_busy())
    }

    fn is_busy(&self) -> bool {
        self.held.is_some() || !self.replies.is_empty() || !self.outbox.is_empty()
    }

    fn receive(&mut self) -> Result<(), Closed> {
        match self.stream.try_read_buf(&mut self.inbox.room()) {
            Ok(0) => self.end(Closed::ByClient),
            Ok(count) => {
                self.inbox.note_read(count);
                self.last_active = self.broker.clock.monotonic();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn start_receiving(&mut self, reservation: Reservation) {
        self.unreserved = None;
        self.arriving = Some((reservation, self.broker.clock.monotonic()));
    }

    /// Stops reading. The first reason is kept.
    fn end(&mut self, reason: Closed) {
        if matches!(reason, Closed::ByClient | Closed::Shutdown) {
            self.replies.abandon_long_waits();
        }
        if matches!(self.receiving, Receiving::Open) {
            self.receiving = Receiving::Ending(reason);
        }
        self.unreserved = None;
    }

    fn end_if_done(&mut self) -> Result<(), Closed> {
        if self.is_busy() {
            return Ok(());
        }
        match std::mem::replace(&mut self.receiving, Receiving::Open) {
            Receiving::Open => Ok(()),
            Receiving::Ending(reason) => Err(reason),
        }
    }

    /// When [`Session::check_time`] may have something to do.
    fn next_check(&self) -> MonotonicTime {
        let mut next = self.last_active.after(self.settings.max_idle);
        if let Some((_, since)) = &self.arriving {
            next = next.min(since.after(self.settings.receive_timeout));
        }
        if self.inbox.holds_memory() {
            next = next.min(self.last_active.after(SHRINK_AFTER));
        }
        next
    }

    fn check_time(&mut self, timer: &mut Pin<Box<Sleep>>) -> Result<(), Closed> {
        let now = self.broker.clock.monotonic();
        if let Some((_, since)) = &self.arriving
            && since.after(self.settings.receive_timeout) <= now
        {
            return Err(Closed::SlowRequest);
        }
        if self.last_active.after(self.settings.max_idle) <= now && self.replies.is_empty() {
            return Err(Closed::Idle);
        }
        if self.last_active.after(SHRINK_AFTER) <= now {
            self.inbox.shrink();
        }
        let next = self.next_check().max(now.after(Duration::from_millis(10)));
        timer.as_mut().reset(self.broker.clock.instant(next));
        Ok(())
    }
}
