//! Appends the fields of one message to a buffer.
//!
//! Writing a field does not fail. The first error is kept, and [`Writer::finish`] returns it. After an error the buffer
//! holds a part of the message, which the caller truncates or drops.

use bytes::{BufMut, BytesMut};

use super::error::{ProtocolError, Result};
use super::field::{At, Field};
use super::tagged::RawTaggedField;

/// Writes one message at one version.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut BytesMut,
    at: At,
    /// The API or record type, for errors.
    api_key: i16,
    error: Option<ProtocolError>,
}

impl<'a> Writer<'a> {
    /// Appends to `buf`.
    pub const fn new(buf: &'a mut BytesMut, at: At, api_key: i16) -> Self {
        Self {
            buf,
            at,
            api_key,
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
    }

    /// Reports that `field` differs from its default, and that the version does not have it.
    #[cold]
    pub fn cannot_carry(&mut self, field: &'static str) {
        self.fail(ProtocolError::UnsupportedField {
            api_key: self.api_key,
            field,
            version: self.at.version,
        });
    }

    /// Bytes of a fixed number.
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        self.buf.extend_from_slice(&bytes);
    }

    pub(super) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value.to_le_bytes()[0]);
    }

    /// A compact length: the varint 0 for null, else the length plus 1.
    fn compact_length(&mut self, length: Option<usize>) {
        let Some(length) = length else {
            return self.varint(0);
        };
        match u32::try_from(length).ok().and_then(|it| it.checked_add(1)) {
            Some(length) => self.varint(length),
            None => self.fail(ProtocolError::TooLong(length)),
        }
    }

    /// A length and the bytes, or null.
    pub(super) fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.count(bytes.map(<[u8]>::len));
        self.buf.extend_from_slice(bytes.unwrap_or_default());
    }

    /// A length and the string, or null.
    pub(super) fn text(&mut self, text: Option<&[u8]>) {
        let length = text.map(<[u8]>::len);
        if self.at.flexible {
            self.compact_length(length);
        } else {
            match length.map_or(Ok(-1), i16::try_from) {
                Ok(length) => self.buf.put_i16(length),
                Err(_) => self.fail(ProtocolError::TooLong(length.unwrap_or_default())),
            }
        }
        self.buf.extend_from_slice(text.unwrap_or_default());
    }

    /// The number of elements of an array, or of bytes, or null.
    fn count(&mut self, count: Option<usize>) {
        if self.at.flexible {
            return self.compact_length(count);
        }
        match count.map_or(Ok(-1), i32::try_from) {
            Ok(count) => self.buf.put_i32(count),
            Err(_) => self.fail(ProtocolError::TooLong(count.unwrap_or_default())),
        }
    }

    /// An array, or null.
    pub(super) fn array<T: Field>(&mut self, items: Option<&[T]>) {
        self.count(items.map(<[T]>::len));
        for item in items.unwrap_or_default() {
            item.write_to(self);
        }
    }

    /// The counterpart of [`Reader::present`](super::reader::Reader::present): null becomes the empty value.
    pub fn present<T: Field + Default>(&mut self, field: &Option<T>) {
        match field {
            Some(value) => value.write_to(self),
            None => T::default().write_to(self),
        }
    }

    /// The counterpart of [`Reader::inflexible`](super::reader::Reader::inflexible).
    pub fn inflexible(&mut self, field: &impl Field) {
        let flexible = std::mem::replace(&mut self.at.flexible, false);
        field.write_to(self);
        self.at.flexible = flexible;
    }

    /// The counterpart of [`Reader::nullable_struct`](super::reader::Reader::nullable_struct).
    pub fn nullable_struct<T: Field>(&mut self, field: Option<&T>) {
        self.buf.put_i8(if field.is_some() { 1 } else { -1 });
        if let Some(value) = field {
            value.write_to(self);
        }
    }

    /// The tagged fields of a struct that defines none; nothing in a version that is not flexible.
    pub fn unknown_tagged_fields(&mut self, fields: &[RawTaggedField]) {
        if !self.at.flexible {
            return;
        }
        if fields.is_empty() {
            return self.fixed([0]);
        }
        let mut before = None;
        self.varint(u32::try_from(fields.len()).unwrap_or(u32::MAX));
        for RawTaggedField { tag, data } in fields {
            if let Some(before) = before
                && *tag <= before
            {
                self.fail(ProtocolError::TagOrder { tag: *tag, before });
            }
            before = Some(*tag);
            self.varint(*tag);
            match u32::try_from(data.len()) {
                Ok(length) => self.varint(length),
                Err(_) => self.fail(ProtocolError::TooLong(data.len())),
            }
            self.buf.extend_from_slice(data);
        }
    }

    /// The tagged fields of a struct: those that were collected in `known`, and the unknown ones.
    pub fn tagged_fields(&mut self, mut known: Vec<RawTaggedField>, unknown: &[RawTaggedField]) {
        if known.is_empty() {
            return self.unknown_tagged_fields(unknown);
        }
        known.extend_from_slice(unknown);
        known.sort_by_key(|field| field.tag);
        self.unknown_tagged_fields(&known);
    }

    /// Encodes a tagged field and adds it to `fields`.
    pub fn tagged(&mut self, fields: &mut Vec<RawTaggedField>, tag: u32, field: &impl Field) {
        self.inside(fields, tag, |inner| field.write_to(inner));
    }

    /// As [`Self::tagged`], for a struct that may be null: a varint comes before it, which is 0 for null.
    pub fn tagged_nullable_struct<T: Field>(
        &mut self,
        fields: &mut Vec<RawTaggedField>,
        tag: u32,
        field: Option<&T>,
    ) {
        self.inside(fields, tag, |inner| {
            inner.varint(u32::from(field.is_some()));
            if let Some(value) = field {
                value.write_to(inner);
            }
        });
    }

    fn inside(
        &mut self,
        fields: &mut Vec<RawTaggedField>,
        tag: u32,
        write: impl FnOnce(&mut Writer<'_>),
    ) {
        let mut data = BytesMut::new();
        let mut inner = Writer::new(&mut data, self.at, self.api_key);
        write(&mut inner);
        if let Some(error) = inner.error {
            self.fail(error);
        }
        let data = data.freeze();
        fields.push(RawTaggedField { tag, data });
    }
}
