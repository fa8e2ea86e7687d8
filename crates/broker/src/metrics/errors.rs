//! Finds the errors in an answer, which are counted by API and code.
//!
//! All APIs that a broker may forward to the controller are among them.

use std::any::Any;

use ottla_protocol::messages::{
    AllocateProducerIdsResponseData, AlterConfigsResponseData,
    AlterPartitionReassignmentsResponseData, ApiKey, CreatePartitionsResponseData,
    CreateTopicsResponseData, DeleteTopicsResponseData, DescribeQuorumResponseData,
    ElectLeadersResponseData, ErrorCode, FetchResponseData, FindCoordinatorResponseData,
    HeartbeatResponseData, IncrementalAlterConfigsResponseData, InitProducerIdResponseData,
    JoinGroupResponseData, LeaveGroupResponseData, ListOffsetsResponseData,
    ListPartitionReassignmentsResponseData, MetadataResponseData, OffsetCommitResponseData,
    OffsetFetchResponseData, ProduceResponseData, SyncGroupResponseData,
    UnregisterBrokerResponseData, UpdateFeaturesResponseData,
};

use super::Metrics;

/// Counts the errors in an answer. APIs that are not listed in this file are not counted. Returns whether the answer says
/// that another controller is the active one.
pub fn count(metrics: &Metrics, api: ApiKey, response: &dyn Any) -> bool {
    let not_controller = match api {
        ApiKey::DescribeQuorum => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::NotController,
    };
    let mut is_not_controller = false;
    each(response, &mut |code| {
        metrics.error(api, code);
        is_not_controller |= code == not_controller.code();
    });
    is_not_controller
}

fn each(response: &dyn Any, note: &mut dyn FnMut(i16)) {
    if let Some(response) = response.downcast_ref::<ProduceResponseData>() {
        let topics = response.responses.iter();
        topics
            .flat_map(|topic| &topic.partition_responses)
            .for_each(|partition| note(partition.error_code));
    } else if let Some(response) = response.downcast_ref::<FetchResponseData>() {
        note(response.error_code);
        let topics = response.responses.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| note(partition.error_code));
    } else if let Some(response) = response.downcast_ref::<MetadataResponseData>() {
        response
            .topics
            .iter()
            .for_each(|topic| note(topic.error_code));
    } else if let Some(response) = response.downcast_ref::<ListOffsetsResponseData>() {
        let topics = response.topics.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| note(partition.error_code));
    } else if let Some(response) = response.downcast_ref::<OffsetCommitResponseData>() {
        let topics = response.topics.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| note(partition.error_code));
    } else {
        each_by_group_or_topic(response, note);
    }
}

fn each_by_group_or_topic(response: &dyn Any, note: &mut dyn FnMut(i16)) {
    if let Some(response) = response.downcast_ref::<OffsetFetchResponseData>() {
        note(response.error_code);
        response
            .groups
            .iter()
            .for_each(|group| note(group.error_code));
    } else if let Some(response) = response.downcast_ref::<FindCoordinatorResponseData>() {
        note(response.error_code);
        let coordinators = response.coordinators.iter();
        coordinators.for_each(|coordinator| note(coordinator.error_code));
    } else if let Some(response) = response.downcast_ref::<JoinGroupResponseData>() {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<SyncGroupResponseData>() {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<HeartbeatResponseData>() {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<LeaveGroupResponseData>() {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<InitProducerIdResponseData>() {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<CreateTopicsResponseData>() {
        response
            .topics
            .iter()
            .for_each(|topic| note(topic.error_code));
    } else if let Some(response) = response.downcast_ref::<DeleteTopicsResponseData>() {
        response
            .responses
            .iter()
            .for_each(|topic| note(topic.error_code));
    } else if let Some(response) = response.downcast_ref::<CreatePartitionsResponseData>() {
        response
            .results
            .iter()
            .for_each(|topic| note(topic.error_code));
    } else {
        each_of_admin(response, note);
    }
}

fn each_of_admin(response: &dyn Any, note: &mut dyn FnMut(i16)) {
    if let Some(response) = response.downcast_ref::<AlterConfigsResponseData>() {
        let resources = response.responses.iter();
        resources.for_each(|resource| note(resource.error_code));
    } else if let Some(response) = response.downcast_ref::<IncrementalAlterConfigsResponseData>() {
        let resources = response.responses.iter();
        resources.for_each(|resource| note(resource.error_code));
    } else if let Some(response) = response.downcast_ref::<ElectLeadersResponseData>() {
        note(response.error_code);
        let topics = response.replica_election_results.iter();
        topics
            .flat_map(|topic| &topic.partition_result)
            .for_each(|partition| note(partition.error_code));
    } else if let Some(response) =
        response.downcast_ref::<AlterPartitionReassignmentsResponseData>()
    {
        note(response.error_code);
        let topics = response.responses.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| note(partition.error_code));
    } else if let Some(response) = response.downcast_ref::<ListPartitionReassignmentsResponseData>()
    {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<UpdateFeaturesResponseData>() {
        note(response.error_code);
        let results = response.results.iter();
        results.for_each(|feature| note(feature.error_code));
    } else if let Some(response) = response.downcast_ref::<UnregisterBrokerResponseData>() {
        note(response.error_code);
    } else if let Some(response) = response.downcast_ref::<DescribeQuorumResponseData>() {
        note(response.error_code);
        let topics = response.topics.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .for_each(|partition| note(partition.error_code));
    } else if let Some(response) = response.downcast_ref::<AllocateProducerIdsResponseData>() {
        note(response.error_code);
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use ottla_protocol::messages::{
        ApiKey, DescribeQuorumResponseData, ErrorCode, FetchResponseData,
        UnregisterBrokerResponseData,
    };

    use super::{count, each};
    use crate::metrics::Metrics;

    #[test]
    fn errors_of_partitions_are_found() {
        let partition = |code| PartitionData::default().with_error_code(code);
        let topic =
            FetchableTopicResponse::default().with_partitions(vec![partition(0), partition(3)]);
        let response = FetchResponseData::default().with_responses(vec![topic]);
        let mut codes = Vec::new();
        each(&response, &mut |code| codes.push(code));
        assert_eq!(codes, [0, 0, 3]);
    }
    #[test]
    fn an_answer_may_say_that_another_controller_is_active() {
        let metrics = Metrics::new(&[ApiKey::UnregisterBroker, ApiKey::DescribeQuorum]);
        let [moved, stale] = [ErrorCode::NotController, ErrorCode::StaleBrokerEpoch]
            .map(|code| UnregisterBrokerResponseData::default().with_error_code(code.code()));
        assert!(count(&metrics, ApiKey::UnregisterBroker, &moved));
        assert!(!count(&metrics, ApiKey::UnregisterBroker, &stale));
        let not_leader = ErrorCode::NotLeaderOrFollower.code();
        let quorum = DescribeQuorumResponseData::default().with_error_code(not_leader);
        assert!(count(&metrics, ApiKey::DescribeQuorum, &quorum));
    }
}
