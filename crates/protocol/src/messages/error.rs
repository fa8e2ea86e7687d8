//! Why bytes are not the message that they should be, or a message cannot be written at a version.

use std::str::Utf8Error;

/// What is wrong with the bytes, or with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes end before the field does.
    #[error("{needed} bytes are needed, {available} are there")]
    Truncated {
        /// What the field takes at least.
        needed: usize,
        /// What is left.
        available: usize,
    },
    /// A varint goes on behind its largest length.
    #[error("a varint is longer than {0} bytes")]
    LongVarint(usize),
    /// An array is longer than Kafka can count.
    #[error("an array of {0} elements is too long")]
    LongArray(u32),
    /// Null stands where the version allows none.
    #[error("null, or a negative length, in a field that may not be null")]
    UnexpectedNull,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8: {0}")]
    InvalidUtf8(Utf8Error),
    /// A string, bytes or an array is longer than the version can say.
    #[error("a value of length {0} is too long")]
    TooLong(usize),
    /// Tagged fields do not stand in the order of their tags.
    #[error("tagged field {tag} follows {before}")]
    TagOrder {
        /// The tag out of order.
        tag: u32,
        /// The one before it.
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
    /// A field is set that the version cannot carry, and may not lose.
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
