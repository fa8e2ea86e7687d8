//! Why a message cannot be read from bytes, or cannot be written at a version.

use std::str::Utf8Error;

/// What is wrong with the bytes, or with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("{needed} bytes are needed, {available} are there")]
    Truncated {
        /// The smallest size of the field.
        needed: usize,
        /// The number of bytes left.
        available: usize,
    },
    #[error("a varint is longer than {0} bytes")]
    LongVarint(usize),
    /// An array is longer than Kafka can count.
    #[error("an array of {0} elements is too long")]
    LongArray(u32),
    /// A field is null that may not be null at this version.
    #[error("null, or a negative length, in a field that may not be null")]
    UnexpectedNull,
    #[error("a string is not UTF-8: {0}")]
    InvalidUtf8(Utf8Error),
    /// A string, bytes or an array is longer than the length field of the version can express.
    #[error("a value of length {0} is too long")]
    TooLong(usize),
    /// Tagged fields are not in the order of their tags, or two have the same tag.
    #[error("tagged field {tag} follows {before}")]
    TagOrder {
        tag: u32,
        /// The tag of the field before it.
        before: u32,
    },
    /// The message does not exist at this version.
    #[error("API or record {api_key} has no version {version}")]
    UnsupportedVersion {
        /// The number of the API, or of the record's type.
        api_key: i16,
        /// The version.
        version: i16,
    },
    /// A field is set that the version does not have and that must not be lost.
    #[error("version {version} of API or record {api_key} cannot carry {field}")]
    UnsupportedField {
        /// The number of the API, or of the record's type.
        api_key: i16,
        /// The field.
        field: &'static str,
        /// The version.
        version: i16,
    },
}

/// The outcome of reading or writing a message.
pub type Result<T> = std::result::Result<T, ProtocolError>;
