//! The read side of a connection: a buffer that yields complete frames.
//!
//! A frame's length is checked against `socket.request.max.bytes` when its four bytes have arrived, and against the lower
//! limit of requests without records when its API key has arrived. Frames leave as slices of the buffer, so that records are
//! not copied on their way to the log. An idle connection holds no buffer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::messages::ApiKey;

/// Upper bound of the bytes that one read takes beyond the end of the current frame. A frame of at most this size needs no
/// reservation of request memory.
pub const READ_AHEAD: usize = 128 * 1024;
/// The first read of a connection, enough for any small request.
const FIRST_READ: usize = 4 * 1024;
/// Bytes of a frame's length field.
pub const LENGTH: usize = size_of::<i32>();
const API_KEY: usize = size_of::<i16>();

/// Upper bounds of the size of a frame.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Any frame (`socket.request.max.bytes`).
    pub any: usize,
    /// A frame of any API but Produce (`ottla.request.max.bytes`).
    pub without_records: usize,
}

/// Why a connection's bytes are not Kafka's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The length is negative.
    #[error("the frame length {0} is negative")]
    Negative(i32),
    /// The frame is larger than `socket.request.max.bytes`.
    #[error("a frame of {size} bytes is larger than socket.request.max.bytes, {limit}")]
    TooLarge {
        /// The announced length.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A frame of another API than Produce is larger than `ottla.request.max.bytes`.
    #[error(
        "a frame of {size} bytes for API {api} is larger than ottla.request.max.bytes, {limit}"
    )]
    TooLargeWithoutRecords {
        /// The announced length.
        size: usize,
        /// The API key it starts with.
        api: i16,
        /// What is allowed.
        limit: usize,
    },
    /// The connection begins with a TLS handshake.
    #[error(
        "the client speaks TLS and this listener is plaintext: set security.protocol=PLAINTEXT in the client"
    )]
    Tls,
    /// The connection begins with an HTTP request.
    #[error("the client speaks HTTP and this listener speaks Kafka's protocol")]
    Http,
}

impl BadFrame {
    /// Recognises TLS and HTTP by the first bytes of a connection.
    fn of_other_protocol(first: [u8; LENGTH]) -> Option<Self> {
        match &first {
            // A TLS record: handshake, major version 3 (RFC 8446, section 5.1).
            [22, 3, ..] => Some(Self::Tls),
            b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN"
            | b"TRAC" | b"PRI " => Some(Self::Http),
            _ => None,
        }
    }

    /// The answer that tells the client, in its own protocol, why the connection is closed.
    pub fn farewell(&self) -> &'static [u8] {
        match self {
            // An alert record: fatal, handshake_failure (RFC 8446, section 6).
            Self::Tls => &[21, 3, 3, 0, 2, 2, 40],
            Self::Http => {
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
                  This port speaks Kafka's protocol. Metrics are served at ottla.http.listen.\n"
            }
            Self::Negative(_) | Self::TooLarge { .. } | Self::TooLargeWithoutRecords { .. } => &[],
        }
    }
}

/// The frame at the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Front {
    /// A complete frame, without its length.
    Frame(Bytes),
    /// Not all of the frame has arrived. Its size, once its length field has.
    Incomplete(Option<usize>),
}

/// Received bytes that have not been taken as frames yet.
#[derive(Debug)]
pub struct Inbox {
    bytes: BytesMut,
    limits: FrameLimits,
    read_size: usize,
    /// Whether no frame has been taken yet.
    is_first: bool,
}

impl Inbox {
    /// What has arrived and is in no frame that was taken.
    pub fn into_rest(self) -> BytesMut {
        self.bytes
    }

    pub fn new(limits: FrameLimits) -> Self {
        Self {
            bytes: BytesMut::new(),
            limits,
            read_size: FIRST_READ,
            is_first: true,
        }
    }

    /// Takes the next frame if it is complete.
    pub fn take_frame(&mut self) -> Result<Front, BadFrame> {
        let Some(size) = self.announced()? else {
            return Ok(Front::Incomplete(None));
        };
        if self.bytes.len() < LENGTH + size {
            return Ok(Front::Incomplete(Some(size)));
        }
        self.is_first = false;
        self.bytes.advance(LENGTH);
        Ok(Front::Frame(self.bytes.split_to(size).freeze()))
    }

    /// The buffer with room for what remains of the frame at the front, and for a read ahead.
    pub fn room(&mut self) -> bytes::buf::Limit<&mut BytesMut> {
        let missing = match self.announced() {
            Ok(Some(size)) => (LENGTH + size).saturating_sub(self.bytes.len()),
            Ok(None) | Err(_) => 0,
        };
        let wanted = missing + self.read_size;
        self.bytes.reserve(wanted);
        (&mut self.bytes).limit(wanted)
    }

    /// Doubles the read ahead after a read that filled it.
    pub fn note_read(&mut self, count: usize) {
        if count >= self.read_size {
            self.read_size = (self.read_size * 2).min(READ_AHEAD);
        }
    }

    /// Whether the buffer holds as many bytes as a connection may receive while its requests wait.
    pub fn is_ahead(&self) -> bool {
        self.bytes.len() >= READ_AHEAD
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the buffer is empty and still has memory, which an idle connection gives back.
    pub fn holds_memory(&self) -> bool {
        self.bytes.is_empty() && self.bytes.capacity() > 0
    }

    /// Frees the buffer if it is empty.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.read_size = FIRST_READ;
        }
    }

    /// The length that the frame at the front announces, checked against the limits; `None` before its field has arrived.
    fn announced(&self) -> Result<Option<usize>, BadFrame> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let other = BadFrame::of_other_protocol(*length).filter(|_| self.is_first);
        let length = i32::from_be_bytes(*length);
        let size = usize::try_from(length).map_err(|_| BadFrame::Negative(length))?;
        if size > self.limits.any {
            let limit = self.limits.any;
            return Err(other.unwrap_or(BadFrame::TooLarge { size, limit }));
        }
        if let Some(key) = rest.first_chunk::<API_KEY>() {
            let api = i16::from_be_bytes(*key);
            let limit = self.limits.without_records;
            if size > limit && api != ApiKey::Produce as i16 {
                return Err(BadFrame::TooLargeWithoutRecords { size, api, limit });
            }
        }
        Ok(Some(size))
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::{BadFrame, FrameLimits, Front, Inbox, READ_AHEAD};

    const LIMITS: FrameLimits = FrameLimits {
        any: 1000,
        without_records: 100,
    };

    fn inbox(bytes: &[u8]) -> Inbox {
        let mut inbox = Inbox::new(LIMITS);
        inbox.room().put_slice(bytes);
        inbox
    }

    fn frame(api: i16, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_i32(i32::try_from(size).unwrap());
        bytes.put_i16(api);
        bytes.resize(4 + size, 7);
        bytes
    }

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let mut bytes = frame(0, 500);
        bytes.extend(frame(18, 20));
        let mut inbox = inbox(&bytes[..504 + 10]);
        assert_eq!(
            inbox.take_frame(),
            Ok(Front::Frame(Bytes::copy_from_slice(&bytes[4..504])))
        );
        assert_eq!(inbox.take_frame(), Ok(Front::Incomplete(Some(20))));
        inbox.room().put_slice(&bytes[514..]);
        assert_eq!(
            inbox.take_frame(),
            Ok(Front::Frame(Bytes::copy_from_slice(&bytes[508..])))
        );
        assert_eq!(inbox.take_frame(), Ok(Front::Incomplete(None)));
    }

    #[test]
    fn a_frame_above_a_limit_is_refused_before_its_bytes_arrive() {
        assert_eq!(
            inbox(&(-1_i32).to_be_bytes()).take_frame(),
            Err(BadFrame::Negative(-1))
        );
        let too_large = Err(BadFrame::TooLarge {
            size: 1001,
            limit: 1000,
        });
        assert_eq!(inbox(&1001_i32.to_be_bytes()).take_frame(), too_large);
        assert_eq!(
            inbox(&frame(0, 1000)[..6]).take_frame(),
            Ok(Front::Incomplete(Some(1000)))
        );
        let without_records = Err(BadFrame::TooLargeWithoutRecords {
            size: 101,
            api: 3,
            limit: 100,
        });
        assert_eq!(inbox(&frame(3, 101)[..6]).take_frame(), without_records);
        assert_eq!(
            inbox(&frame(3, 100)[..6]).take_frame(),
            Ok(Front::Incomplete(Some(100)))
        );
    }

    #[test]
    fn another_protocol_is_named_at_the_start_of_a_connection_only() {
        let hello = [22, 3, 1, 2, 0, 1];
        assert_eq!(inbox(&hello).take_frame(), Err(BadFrame::Tls));
        assert_eq!(
            inbox(b"GET / HTTP/1.1\r\n").take_frame(),
            Err(BadFrame::Http)
        );
        let mut later = frame(18, 20);
        later.extend(hello);
        let mut inbox = inbox(&later);
        assert!(matches!(inbox.take_frame(), Ok(Front::Frame(_))));
        assert!(matches!(
            inbox.take_frame(),
            Err(BadFrame::TooLarge { limit: 1000, .. })
        ));
    }

    #[test]
    fn room_is_bounded_by_the_frame_and_the_read_ahead() {
        let mut inbox = inbox(&frame(0, 900)[..6]);
        for _ in 0..20 {
            inbox.note_read(usize::MAX);
        }
        assert_eq!(inbox.room().remaining_mut(), 898 + READ_AHEAD);
        let mut idle = Inbox::new(LIMITS);
        idle.room();
        assert!(idle.holds_memory());
        idle.shrink();
        assert_eq!(idle.bytes.capacity(), 0);
    }
}
