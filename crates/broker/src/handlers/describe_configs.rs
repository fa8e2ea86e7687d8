//! `DescribeConfigs` (key 32), versions 1 to 4.
//!
//! - 1: where each value comes from, and its synonyms. 3: types and documentation.

use ottla_controller::{Refusal, topic_names};
use ottla_metadata::config_keys::Update;
use ottla_metadata::effective::{self, EffectiveConfig};
use ottla_metadata::{MetadataImage, ResourceKind};
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::messages::{
    DescribeConfigsRequestData, DescribeConfigsResponseData, ErrorCode, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The config source of a logger's level.
const OF_A_LOGGER: i8 = 6;

/// Why a resource's configs are not shown.
type Refused = (ErrorCode, Option<String>);

/// What the client asks for about each config.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

/// Describes the configs of each resource; an error concerns one resource.
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

/// The answer for each resource of a request in which one has an unknown type. The whole request is refused.
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
    let mut entries = if kind == Some(ResourceKind::BrokerLogger) {
        loggers(broker, name)
    } else {
        configs(broker, image, (kind, name)).map(|configs| {
            let configs = configs.iter();
            configs.map(|config| entry(config, kind, detail)).collect()
        })
    };
    let asked = resource.configuration_keys.as_deref();
    if let (Ok(entries), Some(asked)) = (&mut entries, asked.filter(|asked| !asked.is_empty())) {
        entries.retain(|entry| asked.contains(&entry.name));
    }
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name);
    match entries {
        // Without an error Kafka's message is empty, not null.
        Ok(entries) => result
            .with_configs(entries)
            .with_error_message(Some(KafkaString::default())),
        Err((code, message)) => result
            .with_error_code(code.code())
            .with_error_message(Some(KafkaString::from(message.unwrap_or_default()))),
    }
}

fn configs(
    broker: &Broker,
    image: &MetadataImage,
    (kind, name): (Option<ResourceKind>, &str),
) -> Result<Vec<EffectiveConfig>, Refused> {
    let invalid = |why: &str| Err((ErrorCode::InvalidRequest, Some(why.to_owned())));
    match kind {
        Some(ResourceKind::Topic) => of_topic(broker, image, name),
        Some(ResourceKind::Broker) => of_broker(broker, image, name),
        Some(ResourceKind::Group) if name.is_empty() => invalid("group name must not be empty"),
        Some(ResourceKind::Group) => Ok(effective::group(image, &broker.config.statics, name)),
        Some(ResourceKind::ClientMetrics) if name.is_empty() => {
            invalid("the name of a subscription to client metrics must not be empty")
        }
        Some(ResourceKind::ClientMetrics) => Ok(effective::client_metrics(image, name)),
        Some(ResourceKind::BrokerLogger) | None => invalid("there are no configs of this type"),
    }
}

fn of_topic(
    broker: &Broker,
    image: &MetadataImage,
    name: &str,
) -> Result<Vec<EffectiveConfig>, Refused> {
    let refused = |refusal: Refusal| (refusal.code(), Some(refusal.to_string()));
    topic_names::check(name).map_err(|invalid| refused(invalid.into()))?;
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
    check_is_this(broker, name, " or empty string")?;
    Ok(effective::broker(image, &broker.config.statics))
}

/// The loggers of the process, each with its level.
fn loggers(broker: &Broker, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    if name.is_empty() {
        let why = "broker id must not be empty".to_owned();
        return Err((ErrorCode::InvalidRequest, Some(why)));
    }
    check_is_this(broker, name, "")?;
    let levels = broker.log_levels.all().into_iter();
    let entry = |(logger, level): (String, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(logger.into())
            .with_value(Some(level.into()))
            .with_config_source(OF_A_LOGGER)
    };
    Ok(levels.map(entry).collect())
}

/// Refuses another broker: only that broker knows its configs.
fn check_is_this(broker: &Broker, name: &str, besides: &str) -> Result<(), Refused> {
    let node = broker.config.node_id;
    let why = match name.parse::<i32>() {
        Ok(id) if id == node.0 => return Ok(()),
        Ok(_) => format!("unexpected broker id, expected {node}{besides}, but received {name}"),
        Err(_) => format!("broker id must be an integer, but it is: {name}"),
    };
    Err((ErrorCode::InvalidRequest, Some(why)))
}

fn entry(
    config: &EffectiveConfig,
    kind: Option<ResourceKind>,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let key = config.key;
    let shown = |value: &str| (!key.is_sensitive()).then(|| KafkaString::from(value.to_owned()));
    let synonyms = config.stated.iter().map(|stated| {
        DescribeConfigsSynonym::default()
            .with_name(stated.name.to_owned().into())
            .with_value(shown(&stated.value))
            .with_source(stated.source.code())
    });
    let is_fixed = kind == Some(ResourceKind::Broker) && key.update == Update::ReadOnly;
    DescribeConfigsResourceResult::default()
        .with_name(key.name.to_owned().into())
        .with_value(config.value.as_deref().and_then(shown))
        .with_read_only(is_fixed)
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
