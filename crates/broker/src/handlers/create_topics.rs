//! `CreateTopics` (key 19), versions 2 to 7.
//!
//! - 4: partitions and replicas may be -1, for the defaults. 5: the answer carries the configs. 7: topic ids.

use ottla_controller::Refusal;
use ottla_controller::create_topics::{CreatedTopic, NewTopic};
use ottla_controller::request::CreateTopics;
use ottla_metadata::effective::{ConfigSource, EffectiveConfig};
use ottla_metadata::{ConfigResource, ottla_configs};
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use ottla_protocol::messages::{
    CreateTopicsRequestData, CreateTopicsResponseData, ErrorCode, KafkaString,
};

use crate::broker::Broker;
use crate::config_changes;
use crate::context::RequestContext;
use crate::process::random::random_id;

/// Creates topics; an error concerns one topic.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: CreateTopicsRequestData,
) -> CreateTopicsResponseData {
    let names: Vec<KafkaString> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    let validate_only = request.validate_only;
    let asked = CreateTopics {
        topics: request.topics.into_iter().map(new_topic).collect(),
        validate_only,
    };
    let results = match broker.controller.ask_here(asked).await {
        Ok(reply) => reply
            .into_iter()
            .map(|(name, result)| {
                if let (Ok(created), false) = (&result, validate_only) {
                    warn_of_configs(&name, created);
                }
                answer(name.into(), result)
            })
            .collect(),
        Err(_) => names.into_iter().map(unavailable).collect(),
    };
    CreateTopicsResponseData::default().with_topics(results)
}

fn warn_of_configs(name: &str, created: &CreatedTopic) {
    let own = created.configs.iter();
    let own = own.filter(|config| config.source == ConfigSource::Topic);
    let names = own.map(|config| config.key.name);
    config_changes::warn_of_set(&ConfigResource::topic(name), names);
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let replicas = assignment.broker_ids.into_iter().map(NodeId).collect();
        (PartitionIndex(assignment.partition_index), replicas)
    });
    let text = |value: KafkaString| value.as_str().to_owned();
    let configs = topic
        .configs
        .into_iter()
        .map(|config| (text(config.name), config.value.map(text)));
    NewTopic {
        name: text(topic.name),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
        id: random_id(),
    }
}

fn answer(name: KafkaString, result: Result<CreatedTopic, Refusal>) -> CreatableTopicResult {
    let created = match result {
        Ok(created) => created,
        Err(refusal) => {
            return CreatableTopicResult::default()
                .with_name(name)
                .with_error_code(refusal.code().code())
                .with_error_message(Some(refusal.to_string().into()));
        }
    };
    // Clients look up the configs of this list among those that they know, and some fail on an unknown name.
    let of_kafka = |config: &&EffectiveConfig| !config.key.name.starts_with(ottla_configs::PREFIX);
    let configs = created.configs.iter().filter(of_kafka).map(|config| {
        CreatableTopicConfigs::default()
            .with_name(config.key.name.to_owned().into())
            .with_value(config.value.clone().map(KafkaString::from))
            .with_read_only(false)
            .with_config_source(config.source.code())
            .with_is_sensitive(config.key.is_sensitive())
    });
    CreatableTopicResult::default()
        .with_name(name)
        .with_topic_id(created.id)
        .with_num_partitions(i32::try_from(created.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(created.replication_factor).unwrap_or(i16::MAX))
        .with_configs(Some(configs.collect()))
}

fn unavailable(name: KafkaString) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(ErrorCode::NotController.code())
}
