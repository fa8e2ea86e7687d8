//! `AlterReplicaLogDirs` (key 34), versions 1 and 2; they differ in encoding only.
//!
//! This release does not move replicas between the directories of a node. A request for the directory that holds the
//! replica already succeeds; any other is refused with `POLICY_VIOLATION`.

use std::collections::BTreeMap;
use std::path::Path;

use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequestData, AlterReplicaLogDirsResponseData, ErrorCode, KafkaString,
};

use super::describe_log_dirs::shown;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::replicas::Found;

/// Answers for each replica whether it is in the requested directory.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AlterReplicaLogDirsRequestData,
) -> AlterReplicaLogDirsResponseData {
    // Where a replica is named more than once, the last directory counts.
    let mut wanted: BTreeMap<String, BTreeMap<i32, KafkaString>> = BTreeMap::new();
    for directory in request.dirs {
        for topic in directory.topics {
            let partitions = wanted.entry(topic.name.as_str().to_owned()).or_default();
            let path = || directory.path.clone();
            partitions.extend(topic.partitions.iter().map(|index| (*index, path())));
        }
    }
    let results = wanted.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, path)| {
            let code = place(broker, path.as_str(), &topic, index);
            AlterReplicaLogDirPartitionResult::default()
                .with_partition_index(index)
                .with_error_code(code.code())
        });
        AlterReplicaLogDirTopicResult::default()
            .with_partitions(partitions.collect())
            .with_topic_name(topic.into())
    });
    AlterReplicaLogDirsResponseData::default().with_results(results.collect())
}

fn place(broker: &Broker, path: &str, topic: &str, index: i32) -> ErrorCode {
    let wanted = shown(Path::new(path));
    let directories = broker.replicas.directories();
    let exists = directories
        .iter()
        .any(|directory| shown(directory.log.path()) == wanted);
    if !exists {
        return ErrorCode::LogDirNotFound;
    }
    let partition = match broker.replicas.by_name(topic, PartitionIndex(index)) {
        Found::Here(partition) => partition,
        Found::Elsewhere => return ErrorCode::ReplicaNotAvailable,
        Found::UnknownTopic | Found::UnknownTopicId | Found::UnknownPartition => {
            return ErrorCode::UnknownTopicOrPartition;
        }
    };
    if shown(partition.directory().log.path()) == wanted {
        ErrorCode::None
    } else {
        ErrorCode::PolicyViolation
    }
}
