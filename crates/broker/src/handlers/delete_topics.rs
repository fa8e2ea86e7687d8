//! `DeleteTopics` (key 20), versions 1 to 6.
//!
//! - 5: an error message. 6: topics by name or id.

use ottla_controller::delete_topics::{Named, TopicReference};
use ottla_controller::request::DeleteTopics;
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{
    DeleteTopicsRequestData, DeleteTopicsResponseData, ErrorCode, KafkaString, KafkaUuid,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Deletes topics; an error concerns one topic.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteTopicsRequestData,
) -> DeleteTopicsResponseData {
    let by_name = |name: KafkaString| DeleteTopicState::default().with_name(Some(name));
    let asked: Vec<DeleteTopicState> = if context.version >= 6 {
        request.topics
    } else {
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut responses = Vec::new();
    let mut references = Vec::new();
    for topic in asked {
        match reference(&topic) {
            Some(reference) => references.push(reference),
            None => responses.push(contradiction(topic)),
        }
    }
    let asked = DeleteTopics(references.clone());
    match broker.controller.ask_here(asked).await {
        Ok(reply) => responses.extend(reply.into_iter().map(|(named, result)| {
            match result {
                Ok(()) => of(named),
                Err(refusal) => of(named)
                    .with_error_code(refusal.code().code())
                    .with_error_message(Some(refusal.to_string().into())),
            }
        })),
        Err(_) => responses.extend(references.iter().map(|reference| {
            of(reference.into()).with_error_code(ErrorCode::NotController.code())
        })),
    }
    DeleteTopicsResponseData::default().with_responses(responses)
}

/// The topic, which must be named by either its name or its id.
fn reference(topic: &DeleteTopicState) -> Option<TopicReference> {
    match (&topic.name, topic.topic_id) {
        (Some(name), KafkaUuid::ZERO) => Some(TopicReference::Name(name.as_str().to_owned())),
        (None, id) if id != KafkaUuid::ZERO => Some(TopicReference::Id(id)),
        _ => None,
    }
}

fn contradiction(topic: DeleteTopicState) -> DeletableTopicResult {
    let why = "a topic must be named either by its name or by its id";
    DeletableTopicResult::default()
        .with_name(topic.name)
        .with_topic_id(topic.topic_id)
        .with_error_code(ErrorCode::InvalidRequest.code())
        .with_error_message(Some(why.to_owned().into()))
}

fn of(named: Named) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(named.name.map(KafkaString::from))
        .with_topic_id(named.id.unwrap_or(KafkaUuid::ZERO))
}
