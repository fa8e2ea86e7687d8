//! Which names a topic may have (`org.apache.kafka.common.internals.Topic` defines the same set).

/// With `-` and the partition's number after it, the name must still fit a directory's name.
const MAX_LENGTH: usize = 249;

/// The metadata log. It has the name of a topic, and tools show it as one, but no request creates it.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Why a topic cannot have a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    #[error("topic name is invalid: the empty string is not allowed")]
    Empty,
    /// The names of this and of the parent directory.
    #[error("topic name is invalid: '.' or '..' is not allowed")]
    Dots,
    #[error(
        "topic name is invalid: the length of '{0}' is longer than the maximum of {MAX_LENGTH}"
    )]
    TooLong(String),
    #[error(
        "topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
    /// The two would be one metric.
    #[error("topic '{name}' collides with existing topic: {existing}")]
    Collides { name: String, existing: String },
}

/// Refuses a name that no topic may have.
pub fn check(name: &str) -> Result<(), InvalidTopicName> {
    if name.is_empty() {
        return Err(InvalidTopicName::Empty);
    }
    if name == "." || name == ".." {
        return Err(InvalidTopicName::Dots);
    }
    if name.len() > MAX_LENGTH {
        return Err(InvalidTopicName::TooLong(name.to_owned()));
    }
    let allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    if !name.bytes().all(allowed) {
        return Err(InvalidTopicName::Characters(name.to_owned()));
    }
    Ok(())
}

/// Whether two names would be one name of a metric, where `.` becomes `_`.
pub fn collide(a: &str, b: &str) -> bool {
    let unified = |letter: u8| if letter == b'.' { b'_' } else { letter };
    a.len() == b.len() && a.bytes().map(unified).eq(b.bytes().map(unified))
}

/// Whether a name can collide with another at all.
pub fn has_collision_characters(name: &str) -> bool {
    name.contains(['.', '_'])
}
