//! Which names a topic may have (`org.apache.kafka.common.internals.Topic` defines the same set).

use crate::Refusal;

/// The longest name: with `-` and the partition's number it must be a directory's.
const MAX_LENGTH: usize = 249;

/// The metadata log: it looks like a topic in tools, and has a topic's name, but no request creates it.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Refuses a name that no topic may have.
pub fn check(name: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        Err(Refusal::InvalidTopicName(format!(
            "topic name is invalid: {why}"
        )))
    };
    if name.is_empty() {
        return refuse("the empty string is not allowed");
    }
    if name == "." || name == ".." {
        return refuse("'.' or '..' is not allowed");
    }
    if name.len() > MAX_LENGTH {
        return refuse(&format!(
            "the length of '{name}' is longer than the maximum of {MAX_LENGTH}"
        ));
    }
    let allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    if !name.bytes().all(allowed) {
        return refuse(&format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// Whether two names would be the same metric: `.` and `_` are one there.
pub fn collide(a: &str, b: &str) -> bool {
    let unified = |letter: u8| if letter == b'.' { b'_' } else { letter };
    a.len() == b.len() && a.bytes().map(unified).eq(b.bytes().map(unified))
}

/// Whether a name can collide with another at all.
pub fn has_collision_characters(name: &str) -> bool {
    name.contains(['.', '_'])
}
