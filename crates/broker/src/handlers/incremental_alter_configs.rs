//! `IncrementalAlterConfigs` (key 44), versions 0 and 1; they differ in encoding only.

use ottla_controller::alter_configs;
use ottla_controller::configs::Change;
use ottla_metadata::{ConfigResource, ResourceKind};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{
    ErrorCode, IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Changes configs, each resource by itself.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: IncrementalAlterConfigsRequestData,
) -> IncrementalAlterConfigsResponseData {
    let mut responses = Vec::new();
    let mut resources = Vec::new();
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        match changes(resource) {
            Ok(changes) => resources.push(changes),
            Err(why) => responses.push(
                response(kind, name)
                    .with_error_code(ErrorCode::InvalidRequest.code())
                    .with_error_message(Some(why.into())),
            ),
        }
    }
    let asked: Vec<ConfigResource> = resources
        .iter()
        .map(|(resource, _)| resource.clone())
        .collect();
    let validate_only = request.validate_only;
    let decided = broker
        .controller
        .decide(move |view, _| alter_configs::decide_incremental(view, &resources, validate_only))
        .await;
    let of = |resource: ConfigResource| response(resource.kind.code(), resource.name.into());
    match decided {
        Ok(reply) => responses.extend(reply.into_iter().map(|(resource, result)| {
            match result {
                Ok(()) => of(resource),
                Err(refusal) => of(resource)
                    .with_error_code(refusal.code().code())
                    .with_error_message(Some(refusal.to_string().into())),
            }
        })),
        Err(_) => responses.extend(
            asked
                .into_iter()
                .map(|resource| of(resource).with_error_code(ErrorCode::NotController.code())),
        ),
    }
    IncrementalAlterConfigsResponseData::default().with_responses(responses)
}

fn response(kind: i8, name: KafkaString) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(kind)
        .with_resource_name(name)
}

fn changes(
    resource: AlterConfigsResource,
) -> Result<(ConfigResource, Vec<(String, Change)>), String> {
    let kind = ResourceKind::from_code(resource.resource_type)
        .ok_or_else(|| format!("unknown resource type {}", resource.resource_type))?;
    let changes: Result<_, String> = resource.configs.into_iter().map(change).collect();
    let name = resource.resource_name.as_str().to_owned();
    Ok((ConfigResource { kind, name }, changes?))
}

fn change(config: AlterableConfig) -> Result<(String, Change), String> {
    const DELETE: i8 = 1;
    let name = config.name.as_str().to_owned();
    if config.config_operation == DELETE {
        return Ok((name, Change::Delete));
    }
    let Some(value) = config.value.map(|value| value.as_str().to_owned()) else {
        return Err(format!("null value not supported for: {name}"));
    };
    match config.config_operation {
        0 => Ok((name, Change::Set(value))),
        2 => Ok((name, Change::Append(value))),
        3 => Ok((name, Change::Subtract(value))),
        unknown => Err(format!("unknown config operation {unknown}")),
    }
}
