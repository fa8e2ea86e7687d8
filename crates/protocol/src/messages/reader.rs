//! Reads the fields of one message from the front of a buffer.
//!
//! Reading a field does not fail. The first error is kept, and [`Reader::finish`] returns it. The buffer is then empty, and
//! later fields get empty values, so generated code can read its fields without checking each of them. A count or a length
//! is checked against the remaining bytes before memory is allocated for it.

use bytes::{Buf, Bytes};

use super::error::{ProtocolError, Result};
use super::field::{At, Field};
use super::string::KafkaString;
use super::tagged::RawTaggedField;

/// Upper bound of the elements for which memory is allocated before the first of them is read.
const FIRST_ELEMENTS: usize = 1024;
const VARINT_BYTES: usize = 5;

/// Reads one message at one version.
#[derive(Debug)]
pub struct Reader<'a> {
    buf: &'a mut Bytes,
    at: At,
    /// Whether bytes are copied, so that they do not keep the whole buffer alive.
    copies: bool,
    error: Option<ProtocolError>,
}

impl<'a> Reader<'a> {
    /// Reads from the front of `buf`. Strings and bytes are slices of it.
    pub const fn new(buf: &'a mut Bytes, at: At) -> Self {
        Self {
            buf,
            at,
            copies: false,
            error: None,
        }
    }

    /// As [`Self::new`], but bytes are copied.
    pub const fn copying(buf: &'a mut Bytes, at: At) -> Self {
        Self {
            buf,
            at,
            copies: true,
            error: None,
        }
    }

    /// The first error, if there was one.
    pub fn finish(self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }

    /// The version of the message.
    pub const fn version(&self) -> i16 {
        self.at.version
    }

    #[cold]
    fn fail(&mut self, error: ProtocolError) {
        self.error.get_or_insert(error);
        self.buf.clear();
    }

    #[cold]
    fn truncated(&mut self, needed: usize) {
        let available = self.buf.len();
        self.fail(ProtocolError::Truncated { needed, available });
    }

    /// The next `N` bytes. If there are fewer, it is an error, and zeros are returned.
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self) -> [u8; N] {
        let Some(bytes) = self.buf.first_chunk::<N>().copied() else {
            self.truncated(N);
            return [0; N];
        };
        self.buf.advance(N);
        bytes
    }

    /// An unsigned varint of at most 32 bits; bits beyond are dropped, as Kafka's reader does.
    pub(super) fn varint(&mut self) -> u32 {
        let mut value = 0;
        for position in 0..VARINT_BYTES {
            let [byte] = self.fixed();
            value |= u32::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return value;
            }
        }
        self.fail(ProtocolError::LongVarint(VARINT_BYTES));
        0
    }

    /// A compact length: the varint 0 is null, another one is the length plus 1.
    fn compact_length(&mut self) -> Option<usize> {
        let length = self.varint().checked_sub(1)?;
        Some(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The next `length` bytes. If there are fewer, it is an error, and no bytes are returned.
    fn slice(&mut self, length: usize) -> Bytes {
        if length > self.buf.len() {
            self.truncated(length);
            return Bytes::new();
        }
        self.buf.split_to(length)
    }

    /// A length and as many bytes, or null.
    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = if self.at.flexible {
            self.compact_length()
        } else {
            usize::try_from(i32::from_be_bytes(self.fixed())).ok()
        };
        let bytes = self.slice(length?);
        Some(if self.copies {
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes
        })
    }

    /// A length and a string of as many bytes, or null.
    pub(super) fn text(&mut self) -> Option<KafkaString> {
        let length = if self.at.flexible {
            self.compact_length()
        } else {
            usize::try_from(i16::from_be_bytes(self.fixed())).ok()
        };
        let bytes = self.slice(length?);
        match KafkaString::new(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                self.fail(ProtocolError::InvalidUtf8(error));
                None
            }
        }
    }

    /// A value that may not be null. Null is an error, and the default is returned.
    pub(super) fn required<T: Default>(&mut self, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.fail(ProtocolError::UnexpectedNull);
            T::default()
        })
    }

    /// The number of elements of an array, or null. Each element takes at least one byte, which bounds the number.
    fn count(&mut self) -> Option<usize> {
        let count = if self.at.flexible {
            let count = self.varint().checked_sub(1)?;
            if i32::try_from(count).is_err() {
                self.fail(ProtocolError::LongArray(count));
                return None;
            }
            usize::try_from(count).unwrap_or(usize::MAX)
        } else {
            usize::try_from(i32::from_be_bytes(self.fixed())).ok()?
        };
        if count > self.buf.len() {
            self.truncated(count);
            return None;
        }
        Some(count)
    }

    /// An array, or null.
    pub(super) fn array<T: Field + Default>(&mut self) -> Option<Vec<T>> {
        let count = self.count()?;
        let mut items = Vec::with_capacity(count.min(FIRST_ELEMENTS));
        for _ in 0..count {
            let mut item = T::default();
            item.read_from(self);
            if self.error.is_some() {
                return None;
            }
            items.push(item);
        }
        Some(items)
    }

    /// A nullable field, at a version at which it may not be null.
    pub fn present<T: Field + Default>(&mut self, field: &mut Option<T>) {
        field.insert(T::default()).read_from(self);
    }

    /// A field that is not compact in flexible versions either: the client id in the header of a request. A broker must
    /// be able to read it in versions that it does not know.
    pub fn inflexible(&mut self, field: &mut impl Field) {
        let flexible = std::mem::replace(&mut self.at.flexible, false);
        field.read_from(self);
        self.at.flexible = flexible;
    }

    /// A struct that may be null. A byte comes before it, which is negative for null.
    pub fn nullable_struct<T: Field + Default>(&mut self, field: &mut Option<T>) {
        if i8::from_be_bytes(self.fixed()) >= 0 {
            self.present(field);
        } else {
            *field = None;
        }
    }

    /// A tagged struct that may be null. A varint comes before it, which is 0 for null, unlike in
    /// [`Self::nullable_struct`].
    pub fn nullable_tagged_struct<T: Field + Default>(&mut self, field: &mut Option<T>) {
        if self.varint() == 0 {
            *field = None;
        } else {
            self.present(field);
        }
    }

    /// The tagged fields of a struct that defines none.
    pub fn unknown_tagged_fields(&mut self, fields: &mut Vec<RawTaggedField>) {
        if self.at.flexible {
            *fields = self.tagged_fields();
        }
    }

    /// The tagged fields of a struct; none in a version that is not flexible.
    pub fn tagged_fields(&mut self) -> Vec<RawTaggedField> {
        if !self.at.flexible {
            return Vec::new();
        }
        // A tagged field takes at least two bytes, for tag and length.
        let count = usize::try_from(self.varint()).unwrap_or(usize::MAX);
        if count == 0 {
            return Vec::new();
        }
        let mut fields =
            Vec::<RawTaggedField>::with_capacity(count.min(self.buf.len() / 2).min(FIRST_ELEMENTS));
        for _ in 0..count {
            let tag = self.varint();
            if let Some(before) = fields.last().map(|field| field.tag)
                && tag <= before
            {
                self.fail(ProtocolError::TagOrder { tag, before });
            }
            let length = usize::try_from(self.varint()).unwrap_or(usize::MAX);
            let data = self.slice(length);
            if self.error.is_some() {
                return Vec::new();
            }
            fields.push(RawTaggedField { tag, data });
        }
        fields
    }

    /// Reads the value of a tagged field from its data. Bytes after the value are ignored, as in Kafka.
    pub fn tagged(&mut self, data: &Bytes, field: &mut impl Field) {
        self.inside(data, |inner| field.read_from(inner));
    }

    /// As [`Self::tagged`], for a struct that may be null.
    pub fn tagged_nullable_struct<T: Field + Default>(
        &mut self,
        data: &Bytes,
        field: &mut Option<T>,
    ) {
        self.inside(data, |inner| inner.nullable_tagged_struct(field));
    }

    fn inside(&mut self, data: &Bytes, read: impl FnOnce(&mut Reader<'_>)) {
        let mut data = data.clone();
        let mut inner = Reader {
            buf: &mut data,
            at: self.at,
            copies: self.copies,
            error: None,
        };
        read(&mut inner);
        if let Some(error) = inner.error {
            self.fail(error);
        }
    }
}
