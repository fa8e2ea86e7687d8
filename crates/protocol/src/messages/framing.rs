//! The prefixes of record bodies, which name the type and version of a record.
//!
//! Metadata records: `uvarint frame version (1)`, `uvarint api key`, `uvarint version`, body (KRaft, see
//! `org.apache.kafka.raft` for the reader). Coordinator records: `int16` in front of the key (the record
//! type) and in front of the value (the schema version). Trailing bytes are an error in both.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::ProtocolError;
use super::field::At;
use super::reader::Reader;
use super::writer::Writer;

/// The only frame version of metadata records.
const METADATA_FRAME_VERSION: u32 = 1;
/// How a frame itself is encoded.
const FRAME: At = At {
    version: 0,
    flexible: true,
};

/// Why a record could not be decoded or encoded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The frame of a metadata record has a version other than 1.
    #[error("unknown metadata frame version {0}")]
    UnknownFrame(u32),
    /// A record type that this release does not know.
    #[error("unknown record type {0}")]
    UnknownType(i32),
    /// Bytes after the end of the record.
    #[error("{0} bytes follow the record")]
    Trailing(usize),
    /// A coordinator record without a key, or shorter than its prefix.
    #[error("record is shorter than its type prefix")]
    NoPrefix,
    /// The body does not follow its schema, or its version is not known.
    #[error(transparent)]
    Malformed(#[from] ProtocolError),
}

/// Reads the prefix of a metadata record: (api key, version).
pub fn read_metadata_prefix(buf: &mut Bytes) -> Result<(i16, i16), RecordError> {
    let frame = read_varint(buf)?;
    if frame != METADATA_FRAME_VERSION {
        return Err(RecordError::UnknownFrame(frame));
    }
    let api_key = read_varint(buf)?;
    let version = read_varint(buf)?;
    let out_of_range = |number: u32| RecordError::UnknownType(number.cast_signed());
    Ok((
        i16::try_from(api_key).map_err(|_| out_of_range(api_key))?,
        i16::try_from(version).map_err(|_| out_of_range(version))?,
    ))
}

fn read_varint(buf: &mut Bytes) -> Result<u32, ProtocolError> {
    let mut from = Reader::new(buf, FRAME);
    let value = from.varint();
    from.finish()?;
    Ok(value)
}

/// Appends the prefix of a metadata record.
pub fn write_metadata_prefix(buf: &mut BytesMut, api_key: i16, version: i16) {
    let mut to = Writer::new(buf, FRAME, api_key);
    to.varint(METADATA_FRAME_VERSION);
    to.varint(u32::from(api_key.cast_unsigned()));
    to.varint(u32::from(version.cast_unsigned()));
}

/// Reads the `int16` in front of a coordinator record's key or value.
pub fn read_coordinator_prefix(buf: &mut Bytes) -> Result<i16, RecordError> {
    buf.try_get_i16().map_err(|_| RecordError::NoPrefix)
}

/// Encodes a coordinator record's key behind its type, or its value behind its version.
pub fn write_prefixed(
    number: i16,
    write: impl FnOnce(&mut BytesMut) -> Result<(), ProtocolError>,
) -> Result<Bytes, RecordError> {
    let mut buf = BytesMut::new();
    buf.put_i16(number);
    write(&mut buf)?;
    Ok(buf.freeze())
}

/// Decodes a coordinator record's value, which must be one record and nothing else.
pub fn read_value<T>(
    mut value: Bytes,
    read: impl FnOnce(&mut Bytes, i16) -> Result<T, ProtocolError>,
) -> Result<T, RecordError> {
    let version = read_coordinator_prefix(&mut value)?;
    let record = read(&mut value, version)?;
    expect_end(&value)?;
    Ok(record)
}

/// Refuses bytes after the end of a record.
pub fn expect_end(buf: &Bytes) -> Result<(), RecordError> {
    if buf.has_remaining() {
        return Err(RecordError::Trailing(buf.remaining()));
    }
    Ok(())
}
