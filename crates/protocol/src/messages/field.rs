//! The encoding of each type of field in a generated message.
//!
//! Generated code names fields, versions and defaults. This file says how each type is encoded, with the bytes that
//! [`Reader`] and [`Writer`] take and append. [`At::flexible`] chooses the compact encodings of KIP-482.

use bytes::{Bytes, BytesMut};

pub use super::error::{ProtocolError, Result};
pub use super::reader::Reader;
pub use super::string::KafkaString;
pub use super::tagged::RawTaggedField;
pub use super::writer::Writer;
pub use crate::uuid::Uuid as KafkaUuid;

/// The version at which a message is read or written, and whether that version is flexible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The message's version.
    pub version: i16,
    /// Whether lengths are varints and tagged fields follow.
    pub flexible: bool,
}

/// A type that can be one field of a message, or one element of an array.
pub trait Field {
    /// Reads the field from `from`.
    fn read_from(&mut self, from: &mut Reader<'_>);
    /// Appends the field to `to`.
    fn write_to(&self, to: &mut Writer<'_>);
}

/// Reads a whole body from the front of `buf`. Its strings and bytes stay slices of `buf`.
pub fn read_body<T: Field + Default>(buf: &mut Bytes, at: At) -> Result<T> {
    read(Reader::new(buf, at))
}

/// Reads a whole record from the front of `buf`. Its bytes are copied, because the record may live longer than the batch and
/// must not keep its memory.
pub fn read_record<T: Field + Default>(buf: &mut Bytes, at: At) -> Result<T> {
    read(Reader::copying(buf, at))
}

fn read<T: Field + Default>(mut from: Reader<'_>) -> Result<T> {
    let mut body = T::default();
    body.read_from(&mut from);
    from.finish()?;
    Ok(body)
}

/// Appends a whole body to `buf`.
pub fn write_body(body: &impl Field, buf: &mut BytesMut, at: At, api_key: i16) -> Result<()> {
    let mut to = Writer::new(buf, at, api_key);
    body.write_to(&mut to);
    to.finish()
}

/// The encoding of `version`, which must be one of `versions` and is flexible from `flexible` on.
pub fn at(
    api_key: i16,
    version: i16,
    versions: std::ops::RangeInclusive<i16>,
    flexible: i16,
) -> Result<At> {
    if !versions.contains(&version) {
        return Err(ProtocolError::UnsupportedVersion { api_key, version });
    }
    Ok(At {
        version,
        flexible: version >= flexible,
    })
}

macro_rules! number {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            fn read_from(&mut self, from: &mut Reader<'_>) {
                *self = Self::from_be_bytes(from.fixed());
            }
            fn write_to(&self, to: &mut Writer<'_>) {
                to.fixed(self.to_be_bytes());
            }
        }
    )*};
}

number!(i8, i16, u16, i32, i64, f64);

impl Field for bool {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = from.fixed() != [0];
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.fixed([u8::from(*self)]);
    }
}

impl Field for KafkaUuid {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = Self::from_bytes(from.fixed());
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.fixed(self.to_bytes());
    }
}

/// The string is a slice of the message.
impl Field for KafkaString {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        let text = from.text();
        *self = from.required(text);
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.text(Some(self.as_bytes()));
    }
}

impl Field for Option<KafkaString> {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = from.text();
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.text(self.as_ref().map(KafkaString::as_bytes));
    }
}

/// The string's bytes are copied.
impl Field for String {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        let text = from.text();
        from.required(text).as_str().clone_into(self);
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.text(Some(self.as_bytes()));
    }
}

impl Field for Option<String> {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = from.text().map(|text| text.as_str().to_owned());
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.text(self.as_ref().map(String::as_bytes));
    }
}

impl Field for Bytes {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        let bytes = from.bytes();
        *self = from.required(bytes);
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.bytes(Some(self));
    }
}

impl Field for Option<Bytes> {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = from.bytes();
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.bytes(self.as_deref());
    }
}

/// An array that may not be null. A null, or any negative length, is read as an empty array.
impl<T: Field + Default> Field for Vec<T> {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = from.array().unwrap_or_default();
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.array(Some(self));
    }
}

impl<T: Field + Default> Field for Option<Vec<T>> {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        *self = from.array();
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        to.array(self.as_deref());
    }
}

/// Encoded like the struct in the box.
impl<T: Field> Field for Box<T> {
    fn read_from(&mut self, from: &mut Reader<'_>) {
        (**self).read_from(from);
    }
    fn write_to(&self, to: &mut Writer<'_>) {
        (**self).write_to(to);
    }
}

/// Defines `read` and `write` of a request, a response or another whole body, at the versions that the generated code names.
macro_rules! body {
    ($name:ident, any version, flexible from $flexible:literal) => {
        impl $name {
            /// Reads the body at `version` from the front of `buf`.
            pub fn read(
                buf: &mut bytes::Bytes,
                version: i16,
            ) -> $crate::messages::field::Result<Self> {
                let flexible = version >= $flexible;
                let at = $crate::messages::field::At { version, flexible };
                $crate::messages::field::read_body(buf, at)
            }

            /// Appends the body at `version` to `buf`.
            pub fn write(
                &self,
                buf: &mut bytes::BytesMut,
                version: i16,
            ) -> $crate::messages::field::Result<()> {
                let flexible = version >= $flexible;
                let at = $crate::messages::field::At { version, flexible };
                $crate::messages::field::write_body(self, buf, at, -1)
            }
        }
    };
    (
        $name:ident, api $api_key:literal,
        versions $from:literal to $to:literal, flexible from $flexible:literal
    ) => {
        impl $name {
            /// Reads the body at `version` from the front of `buf`.
            pub fn read(
                buf: &mut bytes::Bytes,
                version: i16,
            ) -> $crate::messages::field::Result<Self> {
                use $crate::messages::field;
                field::read_body(buf, field::at($api_key, version, $from..=$to, $flexible)?)
            }

            /// Appends the body at `version` to `buf`.
            pub fn write(
                &self,
                buf: &mut bytes::BytesMut,
                version: i16,
            ) -> $crate::messages::field::Result<()> {
                use $crate::messages::field;
                let at = field::at($api_key, version, $from..=$to, $flexible)?;
                field::write_body(self, buf, at, $api_key)
            }
        }
    };
}
pub(crate) use body;

/// Defines `decode` and `encode` of a record, at the versions that the generated code names.
macro_rules! record {
    (
        $name:ident, type $api_key:literal,
        versions $from:literal to $to:literal, flexible from $flexible:literal
    ) => {
        impl $name {
            /// The number that names this record type.
            pub const API_KEY: i16 = $api_key;
            /// The lowest version.
            pub const MIN_VERSION: i16 = $from;
            /// The highest version.
            pub const MAX_VERSION: i16 = $to;

            /// Reads the body of a record of `version` from the front of `buf`.
            pub fn decode(
                buf: &mut bytes::Bytes,
                version: i16,
            ) -> $crate::messages::field::Result<Self> {
                use $crate::messages::field;
                field::read_record(buf, field::at($api_key, version, $from..=$to, $flexible)?)
            }

            /// Appends the body of a record of `version` to `buf`.
            pub fn encode(
                &self,
                buf: &mut bytes::BytesMut,
                version: i16,
            ) -> $crate::messages::field::Result<()> {
                use $crate::messages::field;
                let at = field::at($api_key, version, $from..=$to, $flexible)?;
                field::write_body(self, buf, at, $api_key)
            }
        }
    };
}
pub(crate) use record;

/// Defines `with_field(value)` for the fields of a struct.
macro_rules! setters {
    ($name:ident { $($with:ident $field:ident: $ty:ty,)* }) => {
        impl $name {
            $(
                #[doc = concat!("With this `", stringify!($field), "`.")]
                #[must_use]
                #[inline]
                pub fn $with(mut self, value: $ty) -> Self {
                    self.$field = value;
                    self
                }
            )*
        }
    };
}
pub(crate) use setters;
