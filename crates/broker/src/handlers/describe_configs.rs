//! `DescribeConfigs` (key 32), versions 1 to 4.
//!
//! - 1: where each value comes from, and its synonyms. 3: types and documentation.

use ottla_controller::topic_names;
use ottla_metadata::config_keys::Update;
use ottla_metadata::effective::{self, ConfigSource, EffectiveConfig, Stated};
use ottla_metadata::{ConfigResource, MetadataImage, ResourceKind};
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::messages::{
    DescribeConfigsRequestData, DescribeConfigsResponseData, ErrorCode, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Why a resource's configs are not shown.
type Refused = (ErrorCode, Option<String>);

/// What the caller wants of each config.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

/// Describes the configs of each resource by itself.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeConfigsRequestData,
) -> DescribeConfigsResponseData {
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let image = broker.controller.image();
    let unknown = |resource: &DescribeConfigsResource| {
        ResourceKind::from_code(resource.resource_type).is_none()
    };
    if request.resources.iter().any(unknown) {
        let refused = request.resources.into_iter().map(of_unknown_type);
        return DescribeConfigsResponseData::default().with_results(refused.collect());
    }
    let results = request
        .resources
        .into_iter()
        .map(|resource| describe(broker, &image, resource, detail));
    DescribeConfigsResponseData::default().with_results(results.collect())
}

/// A type that does not exist refuses the whole request.
fn of_unknown_type(resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let why = KafkaString::from_static("a resource type of this request does not exist");
    DescribeConfigsResult::default()
        .with_error_code(ErrorCode::InvalidRequest.code())
        .with_error_message(Some(why))
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name)
}

fn describe(
    broker: &Broker,
    image: &MetadataImage,
    resource: DescribeConfigsResource,
    detail: Detail,
) -> DescribeConfigsResult {
    let kind = ResourceKind::from_code(resource.resource_type);
    let name = resource.resource_name.as_str();
    let configs = match kind {
        Some(ResourceKind::Topic) => of_topic(broker, image, name),
        Some(ResourceKind::Broker) => of_broker(broker, image, name),
        Some(ResourceKind::Group) => of_group(image, name),
        Some(ResourceKind::BrokerLogger | ResourceKind::ClientMetrics) | None => Err((
            ErrorCode::InvalidRequest,
            Some("configs of this resource type are not served in this release".to_owned()),
        )),
    };
    let asked = resource
        .configuration_keys
        .as_deref()
        .filter(|keys| !keys.is_empty());
    let wanted = |config: &EffectiveConfig| {
        asked.is_none_or(|keys| keys.iter().any(|key| key.as_str() == config.key.name))
    };
    let result = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
    let result = match configs {
        Ok(configs) => {
            let is_topic = kind == Some(ResourceKind::Topic);
            let shown = configs.iter().filter(|config| wanted(config));
            result.with_configs(
                shown
                    .map(|config| entry(config, is_topic, detail))
                    .collect(),
            )
        }
        Err((code, message)) => result
            .with_error_code(code.code())
            .with_error_message(message.map(KafkaString::from)),
    };
    result.with_resource_name(resource.resource_name)
}

fn of_topic(
    broker: &Broker,
    image: &MetadataImage,
    name: &str,
) -> Result<Vec<EffectiveConfig>, Refused> {
    topic_names::check(name).map_err(|refusal| (refusal.code(), Some(refusal.to_string())))?;
    if image.topic(name).is_none() {
        return Err((ErrorCode::UnknownTopicOrPartition, None));
    }
    Ok(effective::topic(image, &broker.config.statics, name))
}

fn of_broker(
    broker: &Broker,
    image: &MetadataImage,
    name: &str,
) -> Result<Vec<EffectiveConfig>, Refused> {
    if name.is_empty() {
        return Ok(effective::cluster(image));
    }
    let node = broker.config.node_id;
    if name.parse() == Ok(node.0) {
        return Ok(effective::broker(image, &broker.config.statics));
    }
    let why = format!("unexpected broker id, expected {node} or empty string, but received {name}");
    Err((ErrorCode::InvalidRequest, Some(why)))
}

fn of_group(image: &MetadataImage, name: &str) -> Result<Vec<EffectiveConfig>, Refused> {
    if name.is_empty() {
        let why = "group name must not be empty".to_owned();
        return Err((ErrorCode::InvalidRequest, Some(why)));
    }
    let resource = ConfigResource::group(name);
    let keys = ottla_metadata::config_keys::all(ResourceKind::Group);
    Ok(keys
        .map(|key| {
            let own = image.config(&resource, key.name).map(str::to_owned);
            let default = key.default.map(str::to_owned);
            let source = if own.is_some() {
                ConfigSource::Group
            } else {
                ConfigSource::Default
            };
            let stated = |value, source| Stated {
                name: key.name,
                value,
                source,
            };
            let mut all = vec![stated(default.clone(), ConfigSource::Default)];
            if own.is_some() {
                all.insert(0, stated(own.clone(), ConfigSource::Group));
            }
            EffectiveConfig {
                key,
                value: own.or(default),
                source,
                stated: all,
            }
        })
        .collect())
}

fn entry(
    config: &EffectiveConfig,
    is_topic: bool,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let key = config.key;
    let shown = |value: &Option<String>| {
        if key.is_sensitive() {
            None
        } else {
            value.clone().map(KafkaString::from)
        }
    };
    let synonyms = config.stated.iter().map(|stated| {
        DescribeConfigsSynonym::default()
            .with_name(stated.name.to_owned().into())
            .with_value(shown(&stated.value))
            .with_source(stated.source.code())
    });
    DescribeConfigsResourceResult::default()
        .with_name(key.name.to_owned().into())
        .with_value(shown(&config.value))
        .with_read_only(!is_topic && key.update == Update::ReadOnly)
        .with_config_source(config.source.code())
        .with_is_sensitive(key.is_sensitive())
        .with_synonyms(if detail.synonyms {
            synonyms.collect()
        } else {
            Vec::new()
        })
        .with_config_type(key.value_type.code())
        .with_documentation(
            detail
                .documentation
                .then(|| key.documentation.to_owned().into()),
        )
}
