//! How one field of a generated record stands on the wire.
//!
//! Generated code names fields, versions and defaults; everything about bytes is here, once, over the
//! primitives of the codec crate. `flexible` chooses the compact encodings of KIP-482.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kacrab_protocol as wire;
pub use kacrab_protocol::{
    KafkaUuid, RawTaggedField, UnsupportedFieldVersion, UnsupportedVersion, read_tagged_fields,
    write_tagged_fields,
};
use wire::KafkaString;
use wire::error::Result;

/// The version that a record is being read or written at, and whether that version is flexible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The record's version.
    pub version: i16,
    /// Whether lengths are varints and tagged fields follow.
    pub flexible: bool,
}

/// What a record holds, by the names of its schema: for those who show records and do not act on them.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A nullable field without a value.
    Null,
    /// A truth.
    Bool(bool),
    /// A number without a fraction.
    Integer(i64),
    /// A number with one.
    Float(f64),
    /// A string or an id.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// An array.
    List(Vec<Self>),
    /// A struct: its fields in the order of the schema.
    Fields(Vec<(&'static str, Self)>),
}

/// A type that stands in a record as one field, or as one element of an array.
pub trait Field: Sized {
    /// Takes the field from the front of `buf`.
    fn read(buf: &mut Bytes, at: At) -> Result<Self>;
    /// Appends the field to `buf`.
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()>;
    /// The field as `at` carries it.
    fn show(&self, at: At) -> Shown;
}

macro_rules! primitive {
    ($($ty:ty: $read:ident, $write:ident, $shown:ident;)*) => {$(
        impl Field for $ty {
            fn read(buf: &mut Bytes, _: At) -> Result<Self> {
                Ok(wire::$read(buf)?)
            }
            fn write(&self, buf: &mut BytesMut, _: At) -> Result<()> {
                wire::$write(buf, *self);
                Ok(())
            }
            fn show(&self, _: At) -> Shown {
                Shown::$shown((*self).into())
            }
        }
    )*};
}

primitive! {
    bool: read_bool, write_bool, Bool;
    i8: read_i8, write_i8, Integer;
    i16: read_i16, write_i16, Integer;
    u16: read_u16, write_u16, Integer;
    i32: read_i32, write_i32, Integer;
    i64: read_i64, write_i64, Integer;
    f64: read_f64, write_f64, Float;
}

impl Field for KafkaUuid {
    fn read(buf: &mut Bytes, _: At) -> Result<Self> {
        wire::read_uuid(buf)
    }
    fn write(&self, buf: &mut BytesMut, _: At) -> Result<()> {
        wire::write_uuid(buf, self);
        Ok(())
    }
    fn show(&self, _: At) -> Shown {
        Shown::Text(self.to_string())
    }
}

/// The string's bytes are copied: a record outlives the batch it came in, and must not keep it alive.
impl Field for String {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let text = if at.flexible {
            wire::read_compact_string(buf)?
        } else {
            wire::read_string(buf)?
        };
        Ok(text.as_str().to_owned())
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        let text = KafkaString::from(self.clone());
        if at.flexible {
            wire::write_compact_string(buf, &text)?;
        } else {
            wire::write_string(buf, &text)?;
        }
        Ok(())
    }
    fn show(&self, _: At) -> Shown {
        Shown::Text(self.clone())
    }
}

/// Shares the bytes of the message that it came in.
impl Field for KafkaString {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let text = if at.flexible {
            wire::read_compact_string(buf)?
        } else {
            wire::read_string(buf)?
        };
        Ok(text)
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        if at.flexible {
            wire::write_compact_string(buf, self)?;
        } else {
            wire::write_string(buf, self)?;
        }
        Ok(())
    }
    fn show(&self, _: At) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Field for Option<KafkaString> {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let text = if at.flexible {
            wire::read_compact_nullable_string(buf)?
        } else {
            wire::read_nullable_string(buf)?
        };
        Ok(text)
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        if at.flexible {
            wire::write_compact_nullable_string(buf, self.as_ref())?;
        } else {
            wire::write_nullable_string(buf, self.as_ref())?;
        }
        Ok(())
    }
    fn show(&self, at: At) -> Shown {
        self.as_ref().map_or(Shown::Null, |text| text.show(at))
    }
}

impl Field for Option<String> {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let text = if at.flexible {
            wire::read_compact_nullable_string(buf)?
        } else {
            wire::read_nullable_string(buf)?
        };
        Ok(text.map(|text| text.as_str().to_owned()))
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        let text = self.clone().map(KafkaString::from);
        if at.flexible {
            wire::write_compact_nullable_string(buf, text.as_ref())?;
        } else {
            wire::write_nullable_string(buf, text.as_ref())?;
        }
        Ok(())
    }
    fn show(&self, _: At) -> Shown {
        self.clone().map_or(Shown::Null, Shown::Text)
    }
}

impl Field for Bytes {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let bytes = if at.flexible {
            wire::read_compact_bytes(buf)?
        } else {
            wire::read_bytes(buf)?
        };
        Ok(Self::copy_from_slice(&bytes))
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        if at.flexible {
            wire::write_compact_bytes(buf, self)?;
        } else {
            wire::write_bytes(buf, self)?;
        }
        Ok(())
    }
    fn show(&self, _: At) -> Shown {
        Shown::Bytes(self.clone())
    }
}

impl Field for Option<Bytes> {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let bytes = if at.flexible {
            wire::read_compact_nullable_bytes(buf)?
        } else {
            wire::read_nullable_bytes(buf)?
        };
        Ok(bytes.map(|bytes| Bytes::copy_from_slice(&bytes)))
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        let bytes = self.as_deref();
        if at.flexible {
            wire::write_compact_nullable_bytes(buf, bytes)?;
        } else {
            wire::write_nullable_bytes(buf, bytes)?;
        }
        Ok(())
    }
    fn show(&self, _: At) -> Shown {
        self.clone().map_or(Shown::Null, Shown::Bytes)
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        // A null array where the schema allows none reads as an empty one, as a length below it does.
        Ok(Option::<Self>::read(buf, at)?.unwrap_or_default())
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        write_length(buf, i32::try_from(self.len()).unwrap_or(i32::MAX), at);
        self.iter().try_for_each(|item| item.write(buf, at))
    }
    fn show(&self, at: At) -> Shown {
        Shown::List(self.iter().map(|item| item.show(at)).collect())
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read(buf: &mut Bytes, at: At) -> Result<Self> {
        let length = if at.flexible {
            wire::read_compact_array_length(buf)?
        } else {
            wire::read_array_length(buf)?
        };
        if length < 0 {
            return Ok(None);
        }
        let mut items = Vec::with_capacity(wire::array_read_capacity(length, buf.remaining()));
        for _ in 0..length {
            items.push(T::read(buf, at)?);
        }
        Ok(Some(items))
    }
    fn write(&self, buf: &mut BytesMut, at: At) -> Result<()> {
        match self {
            None => {
                write_length(buf, -1, at);
                Ok(())
            }
            Some(items) => items.write(buf, at),
        }
    }
    fn show(&self, at: At) -> Shown {
        show_nullable(self.as_ref(), at)
    }
}

fn write_length(buf: &mut BytesMut, length: i32, at: At) {
    if at.flexible {
        wire::write_compact_array_length(buf, length);
    } else {
        wire::write_array_length(buf, length);
    }
}

/// A field that may be null.
pub fn show_nullable<T: Field>(value: Option<&T>, at: At) -> Shown {
    value.map_or(Shown::Null, |value| value.show(at))
}

/// A struct that may be null: one byte, negative for null, before the struct itself.
pub fn read_nullable_struct<T: Field>(buf: &mut Bytes, at: At) -> Result<Option<T>> {
    if wire::read_i8(buf)? < 0 {
        return Ok(None);
    }
    T::read(buf, at).map(Some)
}

/// The counterpart of [`read_nullable_struct`].
pub fn write_nullable_struct<T: Field>(
    value: Option<&T>,
    buf: &mut BytesMut,
    at: At,
) -> Result<()> {
    match value {
        None => {
            buf.put_i8(-1);
            Ok(())
        }
        Some(value) => {
            buf.put_i8(1);
            value.write(buf, at)
        }
    }
}

/// A tagged struct that may be null: a varint, zero for null, before the struct itself.
///
/// Unlike [`read_nullable_struct`], where a byte below zero says null.
pub fn read_nullable_tagged_struct<T: Field>(buf: &mut Bytes, at: At) -> Result<Option<T>> {
    if wire::primitives::read_unsigned_varint(buf)? == 0 {
        return Ok(None);
    }
    T::read(buf, at).map(Some)
}

/// The counterpart of [`read_nullable_tagged_struct`].
pub fn write_nullable_tagged_struct<T: Field>(
    value: Option<&T>,
    buf: &mut BytesMut,
    at: At,
) -> Result<()> {
    wire::primitives::write_unsigned_varint(buf, u32::from(value.is_some()));
    value.map_or(Ok(()), |value| value.write(buf, at))
}

/// Reads the content of a tagged field, which must be one `T` and nothing else.
pub fn read_tagged<T>(data: &Bytes, read: impl FnOnce(&mut Bytes) -> Result<T>) -> Result<T> {
    let mut data = data.clone();
    read(&mut data)
}

/// Encodes the content of tagged field `tag`.
pub fn tagged(tag: u32, write: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<RawTaggedField> {
    let mut data = BytesMut::new();
    write(&mut data)?;
    Ok(RawTaggedField {
        tag,
        data: data.freeze(),
    })
}
