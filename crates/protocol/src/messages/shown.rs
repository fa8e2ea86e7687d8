//! The fields of a record under the names of its schema, for code that prints records.

use bytes::Bytes;

use super::field::{At, KafkaUuid};

/// A record, a field of it or an element.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A nullable field without a value.
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// A string or an id.
    Text(String),
    Bytes(Bytes),
    /// An array.
    List(Vec<Self>),
    /// A struct: its fields in the order of the schema.
    Fields(Vec<(&'static str, Self)>),
}

/// A type whose value can be shown.
pub trait Show {
    /// The value, with the fields that the version `at` has.
    fn show(&self, at: At) -> Shown;
}

macro_rules! primitive {
    ($($ty:ty: $shown:ident;)*) => {$(
        impl Show for $ty {
            fn show(&self, _: At) -> Shown {
                Shown::$shown((*self).into())
            }
        }
    )*};
}

primitive! {
    bool: Bool;
    i8: Integer;
    i16: Integer;
    u16: Integer;
    i32: Integer;
    i64: Integer;
    f64: Float;
}

impl Show for KafkaUuid {
    fn show(&self, _: At) -> Shown {
        Shown::Text(self.to_string())
    }
}

impl Show for String {
    fn show(&self, _: At) -> Shown {
        Shown::Text(self.clone())
    }
}

impl Show for Bytes {
    fn show(&self, _: At) -> Shown {
        Shown::Bytes(self.clone())
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self, at: At) -> Shown {
        Shown::List(self.iter().map(|item| item.show(at)).collect())
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, at: At) -> Shown {
        self.as_ref().map_or(Shown::Null, |value| value.show(at))
    }
}
