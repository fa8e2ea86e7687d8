//! The names of partitions' directories.
//!
//! The directory of a partition that is not in the metadata is renamed to end in `-stray`, and not removed, because it
//! may belong to another cluster. The directory of a deleted partition is renamed to end in `-delete`, and removed
//! later.

use ottla_log::checkpoint;
use ottla_log::files::{FileError, Files};
use ottla_protocol::ids::{PartitionIndex, Uuid};

use super::LogsError;
use crate::{Directory, Host};

/// The directory of the metadata log, which is not a partition of a topic.
const METADATA_LOG: &str = "__cluster_metadata-0";
/// The suffix of a directory that will be removed.
pub const DELETE_SUFFIX: &str = "-delete";
/// The suffix of a directory that is not in the metadata.
const STRAY_SUFFIX: &str = "-stray";
/// The longest name of a directory in bytes.
const MAX_NAME: usize = 255;

/// The name of a partition's directory.
pub fn directory_name(topic: &str, index: PartitionIndex) -> String {
    format!("{topic}-{index}")
}

/// The name of a partition's directory with `suffix`. As in Kafka, a topic that makes it too long is cut. The partition
/// number stays, because Kafka does not start without it.
pub fn aside_name(name: &str, id: Uuid, suffix: &str) -> String {
    let (topic, index) = name.rsplit_once('-').unwrap_or((name, "0"));
    let id = id.to_string().replace('-', "");
    let end = format!("-{index}.{id}{suffix}");
    let kept = topic.len().min(MAX_NAME - end.len());
    format!("{}{end}", topic.get(..kept).unwrap_or(topic))
}

/// Whether this is the name of a deleted partition's directory.
pub fn is_deleted_partition(name: &str) -> bool {
    let parts = name
        .strip_suffix(DELETE_SUFFIX)
        .and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(partition, id)| is_partition(partition) && !id.is_empty())
}

/// Whether this is the name of a partition's directory.
pub fn is_partition(name: &str) -> bool {
    let is_numbered = name.rsplit_once('-').is_some_and(|(topic, index)| {
        !topic.is_empty() && !index.is_empty() && index.bytes().all(|digit| digit.is_ascii_digit())
    });
    is_numbered && name != METADATA_LOG
}

/// The topic id of the directory `name`; `None` if the directory does not exist, or was not created completely.
pub fn topic_id_of<F: Files, H: Host>(
    directory: &Directory<F, H>,
    name: &str,
) -> Result<Option<Uuid>, FileError> {
    let path = directory.log.path().join(name);
    match checkpoint::read_topic_id(directory.log.files(), &path) {
        Err(error) if error.is_not_found() => Ok(None),
        found => found,
    }
}

/// Renames the directory of a partition that is not in the metadata.
pub fn set_aside<F: Files, H: Host>(
    directory: &Directory<F, H>,
    name: &str,
) -> Result<(), LogsError> {
    let (files, path) = (directory.log.files(), directory.log.path());
    let id = checkpoint::read_topic_id(files, &path.join(name))?.unwrap_or(Uuid::ZERO);
    let renamed = aside_name(name, id, STRAY_SUFFIX);
    tracing::warn!(
        partition = name,
        renamed,
        "set aside a log that is not in the metadata; remove it when it is not needed"
    );
    files.rename(&path.join(name), &path.join(renamed))?;
    directory.log.judge(files.sync_directory(path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{DELETE_SUFFIX, MAX_NAME, aside_name, is_deleted_partition};
    use ottla_protocol::ids::Uuid;

    #[test]
    fn the_longest_topics_directory_keeps_its_partition_when_it_is_renamed() {
        let topic = "t".repeat(249);
        let renamed = aside_name(
            &format!("{topic}-12"),
            Uuid::from_parts(1, 2),
            DELETE_SUFFIX,
        );
        assert_eq!(renamed.len(), MAX_NAME);
        assert!(renamed.contains("t-12."), "{renamed}");
        assert!(is_deleted_partition(&renamed));
        assert!(!is_deleted_partition("notes-delete"));
        assert!(!is_deleted_partition("notes.txt-delete"));
    }
}
