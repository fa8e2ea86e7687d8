//! Kafka's message schemas, parsed: the parts that the generator uses.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// An inclusive range of versions; no upper end means "and all later".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub from: i16,
    pub to: Option<i16>,
}

/// One message: a record, a request, a response or data of its own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    #[serde(default)]
    pub api_key: i16,
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    valid_versions: String,
    flexible_versions: Option<String>,
    /// Whether the highest version is not stable yet. It can be read and written, but is not served.
    #[serde(default)]
    latest_version_unstable: bool,
    #[serde(default)]
    pub fields: Vec<Field>,
    #[serde(default)]
    pub common_structs: Vec<Struct>,
}

/// A struct that several fields share.
#[derive(Debug, Clone, Deserialize)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// One field of a record or struct.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    versions: Option<String>,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    flexible_versions: Option<String>,
    pub tag: Option<u32>,
    default: Option<Value>,
    #[serde(default)]
    pub ignorable: bool,
    #[serde(default)]
    pub fields: Vec<Self>,
}

impl Schema {
    /// The versions that exist.
    pub fn valid(&self) -> Versions {
        parse_versions(&self.valid_versions).unwrap_or(Versions {
            from: 0,
            to: Some(0),
        })
    }

    /// Whether any version still exists.
    pub fn exists(&self) -> bool {
        parse_versions(&self.valid_versions).is_some()
    }

    /// The highest version.
    pub fn highest(&self) -> i16 {
        let valid = self.valid();
        valid.to.unwrap_or(valid.from)
    }

    /// The highest version that is served.
    pub fn highest_stable(&self) -> i16 {
        self.highest() - i16::from(self.latest_version_unstable)
    }

    /// The first flexible version; `i16::MAX` if there is none.
    pub fn flexible_from(&self) -> i16 {
        let flexible = self.flexible_versions.as_deref().and_then(parse_versions);
        flexible.map_or(i16::MAX, |versions| versions.from)
    }
}

impl Versions {
    /// The versions of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.into_iter().chain(other.to).min(),
        }
    }

    /// Whether there is no version.
    pub fn is_empty(self) -> bool {
        self.to.is_some_and(|to| to < self.from)
    }
}

impl Field {
    /// The versions that carry the field.
    pub fn versions(&self) -> Versions {
        let text = self.versions.as_deref().or(self.tagged_versions.as_deref());
        text.and_then(parse_versions)
            .unwrap_or(Versions { from: 0, to: None })
    }

    /// Whether the field may be null in some version.
    pub fn nullable(&self) -> bool {
        self.nullable_versions().is_some()
    }

    /// The versions in which the field may be null.
    pub fn nullable_versions(&self) -> Option<Versions> {
        self.nullable_versions.as_deref().and_then(parse_versions)
    }

    /// Whether the field keeps its inflexible encoding in flexible versions.
    pub fn inflexible(&self) -> bool {
        self.flexible_versions.as_deref() == Some("none")
    }

    /// Whether the field is tagged (in all the versions that carry it, as in every record of Kafka).
    pub fn tagged(&self) -> bool {
        self.tagged_versions
            .as_deref()
            .and_then(parse_versions)
            .is_some()
    }

    /// The default as text; `null` for null.
    pub fn default(&self) -> Option<String> {
        self.default.as_ref().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

/// Parses a schema file: JSON with whole-line comments.
pub fn parse(text: &str) -> Result<Schema> {
    let json: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    serde_json::from_str(&json).with_context(|| format!("schema is not understood:\n{json}"))
}

/// `"0+"`, `"1-3"`, `"2"`; `None` for `"none"`.
fn parse_versions(text: &str) -> Option<Versions> {
    if text == "none" {
        return None;
    }
    if let Some(from) = text.strip_suffix('+') {
        return Some(Versions {
            from: from.parse().ok()?,
            to: None,
        });
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some(Versions {
        from: from.parse().ok()?,
        to: Some(to.parse().ok()?),
    })
}
