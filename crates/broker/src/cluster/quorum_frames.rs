//! The frames that carry Raft messages from one controller to another, over the listener of the controllers.
//!
//! A frame begins as a request of Kafka does, with a key that is none of Kafka's. The first frame of a connection is a
//! [`Hello`], which is answered; all others are messages, which are not. Integers are big-endian.
//!
//! | frame | bytes |
//! |---|---|
//! | length of the rest | 4 |
//! | key, 20308; version, 2 | 2 + 2 |
//! | hello: 0; length of the cluster id, and the cluster id; node id and directory id; number of static voters, and their ids; number of endpoints, and the endpoints | 1 + 2 + n + 4 + 16 + 1 + 4n + 1 + n |
//! | endpoint: length of the listener's name, and the name; length of the host, and the host; port | 2 + n + 2 + n + 2 |
//! | message: 1, and the message | 1 + n |
//! | answer to a hello: 0 if it is accepted, else 1 and why not, in UTF-8 | 1 + n |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_quorum::{Voter, VoterEndpoint};

/// The key of the frames; it reads `OT`.
const KEY: i16 = 0x4f54;
const VERSION: i16 = 2;
const HELLO: u8 = 0;
const MESSAGE: u8 = 1;
/// Upper bound of a frame. The library bounds what it sends to an entry, or to one MiB of several.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Upper bound of the answer to a hello.
pub const MAX_ANSWER: usize = 4096;

/// What a controller says of itself to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub cluster_id: String,
    /// Its node, the directory of its metadata log, and where it listens.
    pub controller: Voter,
    /// The ids in `controller.quorum.voters`, in order; none if the log names the voters.
    pub static_voters: Vec<NodeId>,
}

/// A frame from another controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Hello(Hello),
    Message(Bytes),
}

/// The bytes are no frame of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPeerFrame {
    #[error("a frame of a controller ends too early")]
    Short,
    #[error("a frame of a controller has {0} bytes; at most {MAX_FRAME} are accepted")]
    Size(usize),
    #[error("a frame of a controller has an unknown key, version or kind")]
    Unknown,
    #[error("a frame of a controller is malformed")]
    Malformed,
}

impl From<bytes::TryGetError> for BadPeerFrame {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

/// Whether a frame, without its length, begins like one of a controller.
pub fn is_of_controller(frame: &[u8]) -> bool {
    frame.starts_with(&KEY.to_be_bytes())
}

/// Takes a whole frame off the front, without its length; `None` until it is there.
pub fn take(from: &mut BytesMut) -> Result<Option<Bytes>, BadPeerFrame> {
    let Some(length) = from.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_FRAME {
        return Err(BadPeerFrame::Size(length));
    }
    if from.len() < 4 + length {
        return Ok(None);
    }
    from.advance(4);
    Ok(Some(from.split_to(length).freeze()))
}

impl Frame {
    /// Reads a frame without its length.
    pub fn read(mut from: Bytes) -> Result<Self, BadPeerFrame> {
        if (from.try_get_i16()?, from.try_get_i16()?) != (KEY, VERSION) {
            return Err(BadPeerFrame::Unknown);
        }
        match from.try_get_u8()? {
            HELLO => Hello::read(from).map(Self::Hello),
            MESSAGE => Ok(Self::Message(from)),
            _ => Err(BadPeerFrame::Unknown),
        }
    }
}

impl Hello {
    fn read(mut from: Bytes) -> Result<Self, BadPeerFrame> {
        let cluster_id = read_text(&mut from)?;
        let node_id = NodeId(from.try_get_i32()?);
        let directory_id = from.try_get_u128()?;
        let count = from.try_get_u8()?;
        let voters: Result<Vec<_>, _> =
            (0..count).map(|_| from.try_get_i32().map(NodeId)).collect();
        let static_voters = voters?;
        let count = from.try_get_u8()?;
        let endpoints: Result<Vec<_>, _> = (0..count).map(|_| read_endpoint(&mut from)).collect();
        let endpoints = endpoints?;
        if !from.is_empty() {
            return Err(BadPeerFrame::Malformed);
        }
        Ok(Self {
            cluster_id,
            controller: Voter {
                node_id,
                directory_id: Uuid::from_bytes(directory_id.to_be_bytes()),
                endpoints,
            },
            static_voters,
        })
    }

    /// The frame, with its length.
    pub fn write(&self) -> Bytes {
        let mut body = vec![HELLO];
        put_text(&mut body, &self.cluster_id);
        body.put_i32(self.controller.node_id.0);
        body.put_slice(&self.controller.directory_id.to_bytes());
        body.put_u8(u8::try_from(self.static_voters.len()).unwrap_or(u8::MAX));
        for voter in self.static_voters.iter().take(usize::from(u8::MAX)) {
            body.put_i32(voter.0);
        }
        let endpoints = &self.controller.endpoints;
        body.put_u8(u8::try_from(endpoints.len()).unwrap_or(u8::MAX));
        for endpoint in endpoints.iter().take(usize::from(u8::MAX)) {
            put_text(&mut body, &endpoint.listener);
            put_text(&mut body, &endpoint.host);
            body.put_u16(endpoint.port);
        }
        frame(&body)
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.put_u16(u16::try_from(text.len()).unwrap_or(0));
    to.put_slice(
        text.as_bytes()
            .get(..usize::from(u16::MAX))
            .unwrap_or(text.as_bytes()),
    );
}

fn read_text(from: &mut Bytes) -> Result<String, BadPeerFrame> {
    let length = usize::from(from.try_get_u16()?);
    if length > from.len() {
        return Err(BadPeerFrame::Short);
    }
    let text = from.split_to(length).to_vec();
    String::from_utf8(text).map_err(|_| BadPeerFrame::Malformed)
}

fn read_endpoint(from: &mut Bytes) -> Result<VoterEndpoint, BadPeerFrame> {
    Ok(VoterEndpoint {
        listener: read_text(from)?,
        host: read_text(from)?,
        port: from.try_get_u16()?,
    })
}

/// The frame of a message, with its length.
pub fn message(message: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(1 + message.len());
    body.put_u8(MESSAGE);
    body.put_slice(message);
    frame(&body)
}

fn frame(body: &[u8]) -> Bytes {
    let mut to = BytesMut::with_capacity(8 + body.len());
    to.put_u32(u32::try_from(4 + body.len()).expect("the library bounds a message"));
    to.put_i16(KEY);
    to.put_i16(VERSION);
    to.put_slice(body);
    to.freeze()
}

/// The answer to a hello, with its length; `Err` has the reason of a refusal.
pub fn answer(verdict: &Result<(), String>) -> Bytes {
    let reason = verdict.as_ref().err().map_or("", String::as_str);
    let mut cut = reason.len().min(MAX_ANSWER - 1);
    while !reason.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut to = BytesMut::new();
    to.put_u32(u32::try_from(1 + cut).expect("bounded above"));
    to.put_u8(u8::from(verdict.is_err()));
    to.put_slice(reason.as_bytes().get(..cut).unwrap_or_default());
    to.freeze()
}

/// Reads the answer to a hello, without its length.
pub fn read_answer(from: &[u8]) -> Result<Result<(), String>, BadPeerFrame> {
    match from {
        [0] => Ok(Ok(())),
        [1, reason @ ..] => Ok(Err(String::from_utf8_lossy(reason).into_owned())),
        _ => Err(BadPeerFrame::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPeerFrame, Frame, Hello, MAX_FRAME, answer, message, read_answer, take};
    use bytes::{BufMut, Bytes, BytesMut};
    use ottla_protocol::api_key;
    use ottla_protocol::ids::{NodeId, Uuid};
    use ottla_quorum::{Voter, VoterEndpoint};

    fn hello() -> Hello {
        Hello {
            cluster_id: "AAAAAAAAAAAAAAAAAAAABg".to_owned(),
            controller: Voter {
                node_id: NodeId(7),
                directory_id: Uuid::from_parts(5, 6),
                endpoints: vec![VoterEndpoint {
                    listener: "CONTROLLER".to_owned(),
                    host: "a".to_owned(),
                    port: 93,
                }],
            },
            static_voters: vec![NodeId(1), NodeId(7)],
        }
    }

    #[test]
    fn frames_come_back_whole_and_in_order() {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&hello().write());
        bytes.put_slice(&message(b"raft"));
        bytes.put_slice(&message(b"torn")[..9]);
        let mut frames = Vec::new();
        while let Some(frame) = take(&mut bytes).unwrap() {
            frames.push(Frame::read(frame).unwrap());
        }
        let message = Frame::Message(Bytes::from_static(b"raft"));
        assert_eq!(frames, [Frame::Hello(hello()), message]);
        assert_eq!(bytes.len(), 9, "it waits for the rest");
    }

    #[test]
    fn no_prefix_and_no_longer_hello_is_accepted() {
        let whole = hello().write().slice(4..);
        for end in 0..whole.len() {
            assert!(Frame::read(whole.slice(..end)).is_err(), "{end} bytes");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(Frame::read(longer.into()), Err(BadPeerFrame::Malformed));
        assert_eq!(api_key::from_number(super::KEY), None, "Kafka has the key");
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_bytes_come() {
        let mut bytes = BytesMut::new();
        bytes.put_u32(u32::try_from(MAX_FRAME).unwrap() + 1);
        assert_eq!(take(&mut bytes), Err(BadPeerFrame::Size(MAX_FRAME + 1)));
    }

    #[test]
    fn a_reason_is_told_and_cut_at_a_letter() {
        for verdict in [Ok(()), Err("another cluster".to_owned())] {
            let told = answer(&verdict);
            assert_eq!(read_answer(&told[4..]), Ok(verdict));
        }
        let long = answer(&Err("ü".repeat(4000)));
        assert!(
            read_answer(&long[4..])
                .unwrap()
                .unwrap_err()
                .starts_with('ü')
        );
        assert!(read_answer(&[2]).is_err() && read_answer(&[]).is_err());
    }
}
