//! A schema's field as a field of a Rust struct: its name, type, default and versions.

use super::names::snake;
use super::schema::{Field, Schema, Versions};

/// The kind of Rust type that a schema becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// A record of a log. Its strings are copied out of the batch, and it can be shown. A tagged field that is set, and that
    /// the version does not have, is an error.
    Record,
    /// A request, a response, or data in one of them. A nullable struct is boxed, nullable fields are null unless they are
    /// set, and fields have `with_field(value)`. Tagged fields that the version does not have are left out.
    Body,
}

impl Flavour {
    /// The macro that defines how a message is read and written, and the macro's word for the number of the message.
    pub fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::Record => ("record", "type"),
            Self::Body => ("body", "api"),
        }
    }

    /// What follows the schema's name in the name of the struct.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Record => "",
            Self::Body => "Data",
        }
    }

    /// The type of a string.
    fn text(self) -> &'static str {
        match self {
            Self::Record => "String",
            Self::Body => "KafkaString",
        }
    }

    /// The Rust type of a field.
    pub fn rust_type(self, field: &Field) -> String {
        let base = self.base_type(&field.type_name);
        match (field.nullable(), self == Self::Body && is_struct(field)) {
            (false, _) => base,
            (true, false) => format!("Option<{base}>"),
            (true, true) => format!("Option<Box<{base}>>"),
        }
    }

    fn base_type(self, type_name: &str) -> String {
        if let Some(element) = type_name.strip_prefix("[]") {
            return format!("Vec<{}>", self.base_type(element));
        }
        match type_name {
            "bool" => "bool",
            "int8" => "i8",
            "int16" => "i16",
            "uint16" => "u16",
            "int32" => "i32",
            "int64" => "i64",
            "float64" => "f64",
            "string" => self.text(),
            "uuid" => "KafkaUuid",
            "bytes" | "records" => "Bytes",
            structure => structure,
        }
        .to_owned()
    }

    /// The default of a field, as an expression.
    pub fn default(self, field: &Field) -> String {
        let text = field.default();
        if field.nullable() && (self == Self::Body || text.as_deref() == Some("null")) {
            return "None".to_owned();
        }
        let value = match field.type_name.as_str() {
            "bool" => text.map_or_else(|| "false".to_owned(), |text| text.to_lowercase()),
            "float64" => format!("{}_f64", text.unwrap_or_else(|| "0.0".to_owned())),
            "string" => match text.as_deref() {
                None | Some("") => format!("{}::default()", self.text()),
                Some(text) => format!("{}::from({text:?}.to_owned())", self.text()),
            },
            "uuid" => "KafkaUuid::ZERO".to_owned(),
            "bytes" | "records" => "Bytes::new()".to_owned(),
            array if array.starts_with("[]") => "Vec::new()".to_owned(),
            number if number.contains("int") => text.unwrap_or_else(|| "0".to_owned()),
            structure => format!("{structure}::default()"),
        };
        if field.nullable() {
            format!("Some({value})")
        } else {
            value
        }
    }

    /// Whether the field's default is the one that `#[derive(Default)]` gives.
    pub fn has_type_default(self, field: &Field) -> bool {
        let value = self.default(field);
        let plain = [
            "0",
            "false",
            "0.0_f64",
            "KafkaUuid::ZERO",
            "Bytes::new()",
            "Vec::new()",
            "None",
        ];
        plain.contains(&value.as_str()) || value.ends_with("::default()")
    }

    /// The Rust condition for "the field is not at its default".
    pub fn differs(self, field: &Field) -> String {
        let name = field_name(field);
        let text = format!("{}::default()", self.text());
        match self.default(field).as_str() {
            "None" => format!("self.{name}.is_some()"),
            "Vec::new()" | "Bytes::new()" => format!("!self.{name}.is_empty()"),
            value if value == text => format!("!self.{name}.is_empty()"),
            "false" => format!("self.{name}"),
            "true" => format!("!self.{name}"),
            value => format!("self.{name} != {value}"),
        }
    }
}

/// The name of a field.
pub fn field_name(field: &Field) -> String {
    let name = snake(&field.name);
    if matches!(name.as_str(), "type" | "match") {
        format!("r#{name}")
    } else {
        name
    }
}

/// The type of a field's elements, or of the field.
pub fn element(field: &Field) -> &str {
    let name = &field.type_name;
    name.strip_prefix("[]").unwrap_or(name)
}

/// Whether the field is one struct.
pub fn is_struct(field: &Field) -> bool {
    field
        .type_name
        .starts_with(|letter: char| letter.is_ascii_uppercase())
}

/// Versions in words.
pub fn versions_text(versions: Versions) -> String {
    match versions.to {
        None => format!("versions {} and later", versions.from),
        Some(to) if to == versions.from => format!("version {to}"),
        Some(to) => format!("versions {} to {to}", versions.from),
    }
}

/// The Rust condition, about `version`, for "this version carries the field"; `None` when all do.
pub fn carried(schema: &Schema, field: &Field, version: &str) -> Option<String> {
    condition(field.versions(), schema.valid(), version)
}

/// The Rust condition for "the field may be null in this version", of those that carry it; `None` when it may in all.
pub fn may_be_null(schema: &Schema, field: &Field) -> Option<String> {
    let carrying = field.versions().and(schema.valid());
    let nullable = field.nullable_versions()?;
    // A schema may name removed versions only, so that no version is left in which the field may be null.
    if nullable.and(carrying).is_empty() {
        return None;
    }
    condition(nullable, carrying, "version")
}

fn condition(inner: Versions, outer: Versions, version: &str) -> Option<String> {
    let low = (inner.from > outer.from).then(|| format!("{version} >= {}", inner.from));
    let high = inner
        .to
        .filter(|to| outer.to.is_none_or(|last| *to < last))
        .map(|to| format!("{version} <= {to}"));
    match (low, high) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one),
        (Some(_), Some(_)) if inner.to == Some(inner.from) => {
            Some(format!("{version} == {}", inner.from))
        }
        (Some(_), Some(_)) => inner
            .to
            .map(|to| format!("({}..={to}).contains(&{version})", inner.from)),
    }
}
