//! Strings of the wire, which share the bytes of the message that they came in.

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

    /// A string of the program itself.
    pub const fn from_static(text: &'static str) -> Self {
        Self {
            utf8: Bytes::from_static(text.as_bytes()),
        }
    }

    /// The text. It is checked again: without `unsafe`, nothing remembers that it has been.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.utf8).expect("the bytes were UTF-8 when they became a string")
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.utf8
    }

    /// How many bytes, not letters, there are.
    pub const fn len(&self) -> usize {
        self.utf8.len()
    }

    /// Whether there are none.
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
