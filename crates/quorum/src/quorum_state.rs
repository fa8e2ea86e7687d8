//! `quorum-state`: the epoch of this node, and its leader or vote, in Kafka's JSON.
//!
//! The file is replaced durably before an epoch is used, so that epochs never regress.

use ottla_log::files::{self, FileError, Files};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Uuid};
use serde_json::Value;
use std::path::{Path, PathBuf};

const FILE: &str = "quorum-state";
const SIZE_LIMIT: u64 = 1024 * 1024;

/// Why `quorum-state` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QuorumStateError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not the JSON that Kafka writes.
    #[error(
        "{path} is not a quorum state: {problem}; restore it from a copy, epochs must never regress"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        problem: String,
    },
}

/// An epoch in which this node leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership<'a> {
    pub(crate) leader: NodeId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) kraft_version: i16,
    /// Written only if the voters are not in the log.
    pub(crate) cluster_id: &'a str,
}

/// The epoch in the file in `directory`; `None` without a file.
pub(crate) fn read_epoch<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Option<LeaderEpoch>, QuorumStateError> {
    let path = directory.join(FILE);
    let Some(bytes) = files::read_whole(files, &path, SIZE_LIMIT)? else {
        return Ok(None);
    };
    let malformed = |problem: String| QuorumStateError::Malformed {
        path: path.clone(),
        problem,
    };
    let state: Value =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    match state.get("data_version").and_then(Value::as_i64) {
        Some(0 | 1) => {}
        other => return Err(malformed(format!("data_version is {other:?}"))),
    }
    let epoch = state
        .get("leaderEpoch")
        .and_then(Value::as_i64)
        .and_then(|epoch| i32::try_from(epoch).ok())
        .filter(|epoch| *epoch >= 0)
        .ok_or_else(|| malformed("leaderEpoch is not an epoch".to_owned()))?;
    Ok(Some(LeaderEpoch(epoch)))
}

/// Replaces the file in `directory` durably.
pub(crate) fn write<F: Files>(
    files: &F,
    directory: &Path,
    leadership: &Leadership<'_>,
) -> Result<(), FileError> {
    let path = directory.join(FILE);
    files::replace_durably(files, &path, render(leadership).as_bytes())
}

fn render(leadership: &Leadership<'_>) -> String {
    let Leadership {
        leader,
        epoch,
        kraft_version,
        cluster_id,
    } = leadership;
    if *kraft_version > 0 {
        let nobody = Uuid::ZERO;
        format!(
            "{{\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":-1,\"votedDirectoryId\":\"{nobody}\",\
             \"data_version\":1}}"
        )
    } else {
        let cluster_id = Value::from(*cluster_id);
        format!(
            "{{\"clusterId\":{cluster_id},\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":-1,\
             \"appliedOffset\":0,\"currentVoters\":[{{\"voterId\":{leader}}}],\"data_version\":0}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE, Leadership, read_epoch, render, write};
    use ottla_log::files::simulated::Simulated;
    use ottla_log::files::{Files, replace_durably};
    use ottla_protocol::ids::{LeaderEpoch, NodeId};
    use std::path::Path;

    fn leadership(kraft_version: i16) -> Leadership<'static> {
        Leadership {
            leader: NodeId(1),
            epoch: LeaderEpoch(1),
            kraft_version,
            cluster_id: "c",
        }
    }

    #[test]
    fn is_byte_for_byte_what_kafka_writes() {
        assert_eq!(
            render(&leadership(1)),
            "{\"leaderId\":1,\"leaderEpoch\":1,\"votedId\":-1,\
             \"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"data_version\":1}"
        );
    }

    #[test]
    fn both_versions_read_back() {
        let files = Simulated::new();
        let directory = Path::new("/d");
        files.create_directory(directory).unwrap();
        assert_eq!(read_epoch(&files, directory).unwrap(), None);
        for kraft_version in [0, 1] {
            write(&files, directory, &leadership(kraft_version)).unwrap();
            assert_eq!(read_epoch(&files, directory).unwrap(), Some(LeaderEpoch(1)));
        }
    }

    #[test]
    fn an_unreadable_state_is_refused() {
        let files = Simulated::new();
        let directory = Path::new("/d");
        files.create_directory(directory).unwrap();
        replace_durably(
            &files,
            &directory.join(FILE),
            b"{\"leaderEpoch\":-4,\"data_version\":1}",
        )
        .unwrap();
        assert!(read_epoch(&files, directory).is_err());
    }
}
