//! `meta.properties`: the cluster and node to which a log directory belongs. Written once, when it is formatted.
//!
//! A Java properties file: `key=value` lines, `#` and `!` comments, `\` before a character that is meant literally.

use ottla_log::files::{self, FileError, Files};
use ottla_protocol::ids::{NodeId, Uuid};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The file's name.
pub const META_PROPERTIES: &str = "meta.properties";

const SIZE_LIMIT: u64 = 64 * 1024;

/// The identity of a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// 22 characters of base64url, unless the operator chose another text.
    pub cluster_id: String,
    pub node_id: NodeId,
    /// Absent in directories of Kafka before 3.7.
    pub directory_id: Option<Uuid>,
}

/// Why `meta.properties` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetaPropertiesError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key is missing.
    #[error(
        "{path} has no {key}: it is not the file that formatting wrote; restore it from a copy"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        key: &'static str,
    },
    /// A value is not valid.
    #[error("{path} says {key}={value}: {expected} is expected")]
    Invalid {
        /// The file.
        path: PathBuf,
        key: &'static str,
        value: String,
        expected: &'static str,
    },
}

impl MetaProperties {
    /// Reads the file in `directory`; `None` without a file.
    pub fn read<F: Files>(
        files: &F,
        directory: &Path,
    ) -> Result<Option<Self>, MetaPropertiesError> {
        let path = directory.join(META_PROPERTIES);
        let Some(bytes) = files::read_whole(files, &path, SIZE_LIMIT)? else {
            return Ok(None);
        };
        Self::parse(&String::from_utf8_lossy(&bytes), &path).map(Some)
    }

    /// Writes the file in `directory` durably.
    pub fn write<F: Files>(&self, files: &F, directory: &Path) -> Result<(), FileError> {
        let path = directory.join(META_PROPERTIES);
        files::replace_durably(files, &path, self.render().as_bytes())
    }

    fn render(&self) -> String {
        let mut text = format!("node.id={}\n", self.node_id);
        if let Some(directory_id) = self.directory_id {
            let _ = writeln!(text, "directory.id={directory_id}");
        }
        text.push_str("version=1\n");
        let _ = writeln!(text, "cluster.id={}", escape(&self.cluster_id));
        text
    }

    fn parse(text: &str, path: &Path) -> Result<Self, MetaPropertiesError> {
        let values = properties(text);
        let required = |key: &'static str| {
            values.get(key).ok_or_else(|| MetaPropertiesError::Missing {
                path: path.to_path_buf(),
                key,
            })
        };
        let invalid = |key, value: &str, expected| MetaPropertiesError::Invalid {
            path: path.to_path_buf(),
            key,
            value: value.to_owned(),
            expected,
        };
        let version = required("version")?;
        if version != "1" {
            return Err(invalid(
                "version",
                version,
                "1, as Kafka 3.3 and later write it,",
            ));
        }
        let node_id = required("node.id")?;
        let directory_id = values
            .get("directory.id")
            .map(|id| {
                Uuid::from_base64(id)
                    .map_err(|_| invalid("directory.id", id, "a 22-character base64url id"))
            })
            .transpose()?;
        Ok(Self {
            cluster_id: required("cluster.id")?.clone(),
            node_id: NodeId(
                node_id
                    .parse()
                    .map_err(|_| invalid("node.id", node_id, "a number"))?,
            ),
            directory_id,
        })
    }
}

fn properties(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
        .filter_map(|line| line.split_once(['=', ':']))
        .map(|(key, value)| (unescape(key.trim_end()), unescape(value.trim_start())))
        .collect()
}

fn escape(value: &str) -> String {
    let mut out = String::new();
    for character in value.chars() {
        if matches!(character, '=' | ':' | '#' | '!' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn unescape(value: &str) -> String {
    let mut out = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::MetaProperties;
    use ottla_protocol::ids::{NodeId, Uuid};
    use std::path::Path;

    #[test]
    fn reads_what_kafka_writes() {
        let text = "#\n#Tue Nov 24 02:47:38 UTC 2026\nnode.id=1\ndirectory.id=gS1tia1bRA24yBTUpGlmnw\n\
                    version=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qk\n";
        let read = MetaProperties::parse(text, Path::new("meta.properties")).unwrap();
        assert_eq!(read.cluster_id, "MkU3OEVBNTcwNTJENDM2Qk");
        assert_eq!(read.node_id, NodeId(1));
        assert_eq!(
            read.directory_id,
            Some(Uuid::from_base64("gS1tia1bRA24yBTUpGlmnw").unwrap())
        );
    }

    #[test]
    fn special_characters_in_the_cluster_id_survive() {
        let written = MetaProperties {
            cluster_id: "a=b:c\\#!".into(),
            node_id: NodeId(7),
            directory_id: None,
        };
        let read = MetaProperties::parse(&written.render(), Path::new("meta.properties")).unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = MetaProperties::parse("version=1\nnode.id=1\n", Path::new("meta.properties"))
            .unwrap_err();
        assert!(error.to_string().contains("cluster.id"), "{error}");
    }
}
