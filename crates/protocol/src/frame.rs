//! Frames: a length, a header, a body.
//!
//! A length is checked against the caller's limit before anything is allocated for it. Headers are read and
//! written here, bodies by [`messages`](crate::messages). Limits and sockets are the caller's.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::api_key::{self, ApiKey};
use crate::messages::{KafkaString, ProtocolError, RequestHeaderData, ResponseHeaderData};

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = size_of::<i32>();
/// Initial capacity of a response. It is enough for most.
const FIRST_PIECE_BYTES: usize = 256;

/// Why a frame's length is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLength {
    #[error("the frame length {0} is negative")]
    Negative(i32),
    #[error("a frame of {length} bytes is larger than the limit of {limit}")]
    TooLarge { length: usize, limit: usize },
}

/// Why a request's header is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadHeader {
    /// The frame ends before API key and version.
    #[error("a frame of {0} bytes is too short for a request header")]
    TooShort(usize),
    /// There is no API of this number.
    #[error("unknown API key {0}")]
    UnknownApi(i16),
    /// The API does not have this version, or does not have it any more.
    #[error("{api:?} has no version {version}")]
    UnknownVersion {
        /// The API.
        api: ApiKey,
        version: i16,
    },
    /// The header cannot be decoded.
    #[error("the request header cannot be decoded: {0}")]
    Malformed(#[from] ProtocolError),
}

/// The length in the first four bytes of `buf`, checked against `limit`; `None` until they are there.
pub fn length(buf: &[u8], limit: usize) -> Result<Option<usize>, BadLength> {
    let Some(bytes) = buf.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let announced = i32::from_be_bytes(*bytes);
    let length = usize::try_from(announced).map_err(|_| BadLength::Negative(announced))?;
    if length > limit {
        return Err(BadLength::TooLarge { length, limit });
    }
    Ok(Some(length))
}

/// A request's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The API.
    pub api: ApiKey,
    /// The version of request and response.
    pub version: i16,
    /// The response carries the same number.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<KafkaString>,
}

impl RequestHead {
    /// Reads the header from the front of a frame; the rest is the body.
    ///
    /// Only `ApiVersions` is accepted in a version that does not exist: see [`Self::is_unknown_version`].
    pub fn read(frame: &mut Bytes) -> Result<Self, BadHeader> {
        let mut peek = &frame[..];
        let (Ok(key), Ok(version)) = (peek.try_get_i16(), peek.try_get_i16()) else {
            return Err(BadHeader::TooShort(frame.len()));
        };
        let api = api_key::from_number(key).ok_or(BadHeader::UnknownApi(key))?;
        let versions = api_key::versions(api);
        if !versions.contains(&version) && api != ApiKey::ApiVersions {
            return Err(BadHeader::UnknownVersion { api, version });
        }
        let header_version = api_key::request_header_version(api, version);
        let header = RequestHeaderData::read(frame, header_version)?;
        Ok(Self {
            api,
            version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
        })
    }

    /// Whether this is an `ApiVersions` request in a version that does not exist. It is answered in version 0 with
    /// `UNSUPPORTED_VERSION`, and its body is ignored.
    pub fn is_unknown_version(&self) -> bool {
        !api_key::versions(self.api).contains(&self.version)
    }
}

/// Appends a request frame: length, header, and what `body` writes. If `body` fails, nothing is appended.
pub fn write_request(
    out: &mut BytesMut,
    head: &RequestHead,
    body: impl FnOnce(&mut BytesMut) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    let start = out.len();
    out.put_i32(0);
    let header = RequestHeaderData {
        request_api_key: head.api as i16,
        request_api_version: head.version,
        correlation_id: head.correlation_id,
        client_id: head.client_id.clone(),
        ..RequestHeaderData::default()
    };
    let header_version = api_key::request_header_version(head.api, head.version);
    let written = header.write(out, header_version).and_then(|()| body(out));
    match written {
        Ok(()) => fill_length(out, start, 0),
        Err(_) => out.truncate(start),
    }
    written
}

/// The start of a response frame: length, header, and what `body` appends. `body` returns how many more bytes of the
/// frame follow, which the caller sends itself.
pub fn response<T>(
    (api, version): (ApiKey, i16),
    correlation_id: i32,
    body: impl FnOnce(&mut BytesMut) -> Result<(usize, T), ProtocolError>,
) -> Result<(Bytes, T), ProtocolError> {
    let mut out = BytesMut::with_capacity(FIRST_PIECE_BYTES);
    out.put_i32(0);
    let header = ResponseHeaderData {
        correlation_id,
        ..ResponseHeaderData::default()
    };
    header.write(&mut out, api_key::response_header_version(api, version))?;
    let (following, rest) = body(&mut out)?;
    fill_length(&mut out, 0, following);
    Ok((out.freeze(), rest))
}

/// Writes the length of the frame that begins at `start` of `out` and has `beyond` more bytes after it.
fn fill_length(out: &mut BytesMut, start: usize, beyond: usize) {
    let length = out.len() - start - LENGTH_BYTES + beyond;
    let length = i32::try_from(length).expect("a frame is below 2 GiB");
    if let Some(place) = out.get_mut(start..start + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::{BadHeader, BadLength, RequestHead, length, response, write_request};
    use crate::api_key::ApiKey;
    use crate::messages::{KafkaString, MetadataRequestData};

    fn head(api: ApiKey, version: i16) -> RequestHead {
        RequestHead {
            api,
            version,
            correlation_id: 7,
            client_id: Some(KafkaString::from_static("me")),
        }
    }

    fn header_of(key: i16, version: i16) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_i16(-1);
        frame.put_u8(0);
        frame.freeze()
    }

    #[test]
    fn a_length_is_checked_before_its_bytes_arrive() {
        assert_eq!(length(&[0, 0, 0], 10), Ok(None));
        assert_eq!(length(&[0, 0, 0, 10], 10), Ok(Some(10)));
        let too_large = BadLength::TooLarge {
            length: 11,
            limit: 10,
        };
        assert_eq!(length(&[0, 0, 0, 11], 10), Err(too_large));
        assert_eq!(length(&[255; 4], 10), Err(BadLength::Negative(-1)));
    }

    #[test]
    fn request_comes_back_with_its_body_left() {
        for version in [8, 13] {
            let head = head(ApiKey::Metadata, version);
            let mut out = BytesMut::from(&b"before"[..]);
            let request = MetadataRequestData::default();
            write_request(&mut out, &head, |out| request.write(out, version)).unwrap();
            let mut frame = out.split_off(6).freeze();
            let size = length(&frame, 1000).unwrap().unwrap();
            let _ = frame.split_to(4);
            assert_eq!(frame.len(), size);
            assert_eq!(RequestHead::read(&mut frame).unwrap(), head);
            assert_eq!(
                MetadataRequestData::read(&mut frame, version).unwrap(),
                request
            );
            assert!(frame.is_empty());
        }
    }

    #[test]
    fn unknown_apis_and_versions_are_told_apart() {
        let read = |key, version| RequestHead::read(&mut header_of(key, version));
        assert!(matches!(read(93, 0), Err(BadHeader::UnknownApi(93))));
        assert!(matches!(read(-1, 0), Err(BadHeader::UnknownApi(-1))));
        assert!(matches!(
            read(ApiKey::Produce as i16, 2),
            Err(BadHeader::UnknownVersion { version: 2, .. })
        ));
        assert!(matches!(
            RequestHead::read(&mut Bytes::from_static(&[0, 18, 0])),
            Err(BadHeader::TooShort(3))
        ));
        assert!(matches!(
            RequestHead::read(&mut Bytes::from_static(&[0, 18, 0, 3, 0])),
            Err(BadHeader::Malformed(_))
        ));
    }

    #[test]
    fn api_versions_of_an_unknown_version_can_be_answered() {
        for version in [99, -1] {
            let head = RequestHead::read(&mut header_of(18, version)).unwrap();
            assert!(head.is_unknown_version());
            assert_eq!(head.correlation_id, 7);
        }
        let known = RequestHead::read(&mut header_of(18, 4)).unwrap();
        assert!(!known.is_unknown_version());
    }

    #[test]
    fn response_carries_the_header_of_its_version() {
        let body = |out: &mut BytesMut| {
            out.put_u8(9);
            Ok((0, ()))
        };
        let (front, ()) = response((ApiKey::Metadata, 9), 7, body).unwrap();
        assert_eq!(front, [0, 0, 0, 6, 0, 0, 0, 7, 0, 9].as_slice());
        let (front, ()) = response((ApiKey::ApiVersions, 4), 7, body).unwrap();
        assert_eq!(front, [0, 0, 0, 5, 0, 0, 0, 7, 9].as_slice());
    }

    #[test]
    fn the_length_of_a_response_counts_what_follows_its_front() {
        let body = |_: &mut BytesMut| Ok((3, "rest"));
        let (front, rest) = response((ApiKey::Fetch, 4), 7, body).unwrap();
        assert_eq!(front, [0, 0, 0, 7, 0, 0, 0, 7].as_slice());
        assert_eq!(rest, "rest");
    }

    #[test]
    fn a_body_that_cannot_be_written_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        let head = head(ApiKey::Metadata, 13);
        let request = MetadataRequestData::default();
        assert!(write_request(&mut out, &head, |out| request.write(out, 99)).is_err());
        assert_eq!(&out[..], b"before");
    }
}
