//! Finds the errors in an answer, which are counted by API and code.

use std::any::Any;

use ottla_protocol::messages::{
    ApiKey, CreatePartitionsResponseData, CreateTopicsResponseData, DeleteTopicsResponseData,
    FetchResponseData, FindCoordinatorResponseData, HeartbeatResponseData,
    InitProducerIdResponseData, JoinGroupResponseData, LeaveGroupResponseData,
    ListOffsetsResponseData, MetadataResponseData, OffsetCommitResponseData,
    OffsetFetchResponseData, ProduceResponseData, SyncGroupResponseData,
};

use super::Metrics;

/// Counts the errors in an answer. APIs that are not listed in this file are not counted.
pub fn count(metrics: &Metrics, api: ApiKey, response: &dyn Any) {
    each(response, &mut |code| metrics.error(api, code));
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
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::FetchResponseData;
    use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};

    use super::each;

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
}
