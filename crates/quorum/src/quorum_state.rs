//! `quorum-state`: the epoch of this node, and its leader or vote, in Kafka's JSON.
//!
//! The file is replaced durably before an epoch is used, so that epochs never regress.

use ottla_log::files::{self, FileError, Files};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Uuid};
use serde_json::Value;
use std::path::{Path, PathBuf};

const FILE: &str = "quorum-state";
/// The id of no node.
const NOBODY: NodeId = NodeId(-1);
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

/// An epoch, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Election<'a> {
    pub(crate) leader: Option<NodeId>,
    pub(crate) epoch: LeaderEpoch,
    /// The node for which this one has voted, and its directory.
    pub(crate) voted: Option<(NodeId, Uuid)>,
    pub(crate) kraft_version: i16,
    /// Written only if the voters are not in the log.
    pub(crate) cluster_id: &'a str,
    /// The same.
    pub(crate) voters: &'a [NodeId],
}

/// What a controller has promised: it leads, follows or has voted for nobody else in this epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) epoch: LeaderEpoch,
    /// The node that it has voted for, or else the one that it knows as the leader.
    pub(crate) to: Option<NodeId>,
    /// Whether the leader is known.
    pub(crate) has_leader: bool,
    /// The voters, if they are not in the log.
    pub(crate) voters: Vec<NodeId>,
}

/// The epoch in the file in `directory`; `None` without a file.
pub(crate) fn read_epoch<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Option<LeaderEpoch>, QuorumStateError> {
    let promise = read(files, directory)?;
    Ok(promise.map(|promise| promise.epoch))
}

/// What the file in `directory` says; `None` without a file.
pub(crate) fn read<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Option<Promise>, QuorumStateError> {
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
    let epoch = number(state.get("leaderEpoch"))
        .ok_or_else(|| malformed("leaderEpoch is not an epoch".to_owned()))?;
    let to = number(state.get("votedId")).or_else(|| number(state.get("leaderId")));
    let voters = state.get("currentVoters").and_then(Value::as_array);
    let voters = voters.into_iter().flatten();
    Ok(Some(Promise {
        epoch: LeaderEpoch(epoch),
        to: to.map(NodeId),
        has_leader: number(state.get("leaderId")).is_some(),
        voters: voters
            .filter_map(|voter| number(voter.get("voterId")).map(NodeId))
            .collect(),
    }))
}

/// A number that is not negative.
fn number(value: Option<&Value>) -> Option<i32> {
    let number = value.and_then(Value::as_i64)?;
    i32::try_from(number).ok().filter(|number| *number >= 0)
}

/// Replaces the file in `directory` durably.
pub(crate) fn write<F: Files>(
    files: &F,
    directory: &Path,
    election: &Election<'_>,
) -> Result<(), FileError> {
    let path = directory.join(FILE);
    files::replace_durably(files, &path, render(election).as_bytes())
}

fn render(election: &Election<'_>) -> String {
    let leader = election.leader.unwrap_or(NOBODY);
    let epoch = election.epoch;
    let (voted, directory) = election.voted.unwrap_or((NOBODY, Uuid::ZERO));
    if election.kraft_version > 0 {
        format!(
            "{{\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
             \"votedDirectoryId\":\"{directory}\",\"data_version\":1}}"
        )
    } else {
        let cluster_id = Value::from(election.cluster_id);
        let voters = election.voters.iter();
        let voters: Vec<String> = voters.map(|id| format!("{{\"voterId\":{id}}}")).collect();
        let voters = voters.join(",");
        format!(
            "{{\"clusterId\":{cluster_id},\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
             \"appliedOffset\":0,\"currentVoters\":[{voters}],\"data_version\":0}}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Election, FILE, Promise, read, read_epoch, render, write};
    use ottla_log::files::simulated::Simulated;
    use ottla_log::files::{Files, replace_durably};
    use ottla_protocol::ids::{LeaderEpoch, NodeId};
    use std::path::Path;

    fn leading(kraft_version: i16) -> Election<'static> {
        Election {
            leader: Some(NodeId(1)),
            epoch: LeaderEpoch(1),
            voted: None,
            kraft_version,
            cluster_id: "c",
            voters: &[NodeId(1)],
        }
    }

    #[test]
    fn is_byte_for_byte_what_kafka_writes() {
        assert_eq!(
            render(&leading(1)),
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
            write(&files, directory, &leading(kraft_version)).unwrap();
            assert_eq!(read_epoch(&files, directory).unwrap(), Some(LeaderEpoch(1)));
        }
    }

    fn read_back(text: &str) -> Promise {
        let files = Simulated::new();
        let directory = Path::new("/d");
        files.create_directory(directory).unwrap();
        replace_durably(&files, &directory.join(FILE), text.as_bytes()).unwrap();
        read(&files, directory).unwrap().unwrap()
    }

    #[test]
    fn a_vote_is_a_promise_and_so_is_a_known_leader() {
        let voted = read_back(
            "{\"leaderId\":-1,\"leaderEpoch\":4,\"votedId\":2,\
             \"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAQ\",\"data_version\":1}",
        );
        assert_eq!((voted.epoch, voted.to), (LeaderEpoch(4), Some(NodeId(2))));
        let follows = read_back(
            "{\"clusterId\":\"\",\"leaderId\":3,\"leaderEpoch\":9,\"votedId\":-1,\"appliedOffset\":0,\
             \"currentVoters\":[{\"voterId\":1},{\"voterId\":3}],\"data_version\":0}",
        );
        assert_eq!(follows.to, Some(NodeId(3)));
        assert_eq!(follows.voters, [NodeId(1), NodeId(3)]);
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
