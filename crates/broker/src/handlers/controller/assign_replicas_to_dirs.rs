//! `AssignReplicasToDirs` (key 73), version 0: in which log directories the replicas of a broker are (KIP-858).

use ottla_controller::directories::{Located, Reply};
use ottla_controller::request::AssignReplicasToDirs;
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::assign_replicas_to_dirs_request::DirectoryData as Asked;
use ottla_protocol::messages::assign_replicas_to_dirs_response::{
    DirectoryData, PartitionData, TopicData,
};
use ottla_protocol::messages::{
    AssignReplicasToDirsRequestData, AssignReplicasToDirsResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Records the directories, of each replica by itself.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AssignReplicasToDirsRequestData,
) -> AssignReplicasToDirsResponseData {
    let operation = AssignReplicasToDirs {
        broker: NodeId(request.broker_id),
        epoch: request.broker_epoch,
        located: located(&request.directories),
    };
    let decided = match broker.controller.ask_here(operation).await {
        Ok(decided) => decided.map_err(|refusal| refusal.code()),
        Err(_) => Err(ErrorCode::NotController),
    };
    match decided {
        Ok(reply) => answer(&request.directories, &reply),
        Err(code) => AssignReplicasToDirsResponseData::default().with_error_code(code.code()),
    }
}

fn located(directories: &[Asked]) -> Vec<Located> {
    let mut located = Vec::new();
    for directory in directories {
        for topic in &directory.topics {
            let partitions = topic.partitions.iter();
            located.extend(partitions.map(|partition| {
                let index = PartitionIndex(partition.partition_index);
                ((topic.topic_id, index), directory.id)
            }));
        }
    }
    located
}

/// The answer has the shape of the request; `reply` has its partitions in order.
fn answer(asked: &[Asked], reply: &Reply) -> AssignReplicasToDirsResponseData {
    let mut outcomes = reply.iter();
    let mut code = || {
        let outcome = outcomes.next().expect("the reply has each partition");
        outcome.map_or_else(|refusal| refusal.code().code(), |()| 0)
    };
    let mut directories = Vec::with_capacity(asked.len());
    for directory in asked {
        let mut topics = Vec::with_capacity(directory.topics.len());
        for topic in &directory.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                PartitionData::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code())
            });
            let topic = TopicData::default().with_topic_id(topic.topic_id);
            topics.push(topic.with_partitions(partitions.collect()));
        }
        let directory = DirectoryData::default().with_id(directory.id);
        directories.push(directory.with_topics(topics));
    }
    AssignReplicasToDirsResponseData::default().with_directories(directories)
}
