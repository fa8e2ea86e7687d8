//! Strings of the wire, which are slices of the message that they were read from.

use std::fmt;
use std::str::{self, Utf8Error};

use bytes::Bytes;

/// UTF-8 over shared bytes: cloning copies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KafkaString {
    utf8: Bytes,
}

impl KafkaString {
    /// The string of these bytes, if they are UTF-8.
    pub fn new(bytes: Bytes) -> Result<Self, Utf8Error> {
        str::from_utf8(&bytes)?;
        Ok(Self { utf8: bytes })
    }

    /// A constant string.
    pub const fn from_static(text: &'static str) -> Self {
        Self {
            utf8: Bytes::from_static(text.as_bytes()),
        }
    }

    /// The text. UTF-8 is checked again at each call, because skipping the check would need `unsafe`.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.utf8).expect("the bytes were UTF-8 when they became a string")
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.utf8
    }

    /// The number of bytes, not of letters.
    pub const fn len(&self) -> usize {
        self.utf8.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.utf8.is_empty()
    }
}

impl fmt::Display for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for KafkaString {
    fn from(text: String) -> Self {
        Self {
            utf8: Bytes::from(text.into_bytes()),
        }
    }
}
