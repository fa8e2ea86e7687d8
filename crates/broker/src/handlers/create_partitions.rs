//! `CreatePartitions` (key 37), versions 0 to 3; they differ in encoding and in quota semantics only.

use ottla_controller::create_partitions::Growth;
use ottla_controller::request::CreatePartitions;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::{
    CreatePartitionsRequestData, CreatePartitionsResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Adds partitions to topics; an error concerns one topic.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: CreatePartitionsRequestData,
) -> CreatePartitionsResponseData {
    let growths: Vec<Growth> = request
        .topics
        .into_iter()
        .map(|topic| Growth {
            topic: topic.name.as_str().to_owned(),
            count: topic.count,
            assignments: topic.assignments.map(|list| {
                let replicas = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
                list.into_iter()
                    .map(|partition| replicas(partition.broker_ids))
                    .collect()
            }),
        })
        .collect();
    let names: Vec<String> = growths.iter().map(|growth| growth.topic.clone()).collect();
    let asked = CreatePartitions {
        growths,
        validate_only: request.validate_only,
    };
    let decided = broker.controller.ask_here(asked).await;
    let result = |name: String| CreatePartitionsTopicResult::default().with_name(name.into());
    let results = match decided {
        Ok(reply) => reply
            .into_iter()
            .map(|(name, outcome)| match outcome {
                Ok(()) => result(name),
                Err(refusal) => result(name)
                    .with_error_code(refusal.code().code())
                    .with_error_message(Some(refusal.to_string().into())),
            })
            .collect(),
        Err(_) => names
            .into_iter()
            .map(|name| result(name).with_error_code(ErrorCode::NotController.code()))
            .collect(),
    };
    CreatePartitionsResponseData::default().with_results(results)
}
