//! `AlterConfigs` (key 33), versions 0 to 2; they differ in encoding only.
//!
//! The legacy call: what is not named goes back to its default.

use std::collections::BTreeMap;

use ottla_controller::alter_configs;
use ottla_metadata::{ConfigResource, ResourceKind};
use ottla_protocol::messages::alter_configs_request::AlterConfigsResource;
use ottla_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{
    AlterConfigsRequestData, AlterConfigsResponseData, ErrorCode, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Replaces configs, each resource by itself.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AlterConfigsRequestData,
) -> AlterConfigsResponseData {
    let mut responses = Vec::new();
    let mut resources = Vec::new();
    for resource in request.resources {
        let (kind, name) = (resource.resource_type, resource.resource_name.clone());
        match values(resource) {
            Ok(values) => resources.push(values),
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
        .decide(move |view, _| alter_configs::decide_replacing(view, &resources, validate_only))
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
    AlterConfigsResponseData::default().with_responses(responses)
}

fn response(kind: i8, name: KafkaString) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(kind)
        .with_resource_name(name)
}

fn values(
    resource: AlterConfigsResource,
) -> Result<(ConfigResource, BTreeMap<String, String>), String> {
    let kind = ResourceKind::from_code(resource.resource_type)
        .ok_or_else(|| format!("unknown resource type {}", resource.resource_type))?;
    let mut values = BTreeMap::new();
    for config in resource.configs {
        let name = config.name.as_str().to_owned();
        let Some(value) = config.value else {
            return Err(format!("null value not supported for: {name}"));
        };
        if values
            .insert(name.clone(), value.as_str().to_owned())
            .is_some()
        {
            return Err(format!("error due to duplicate config keys: {name}"));
        }
    }
    let name = resource.resource_name.as_str().to_owned();
    Ok((ConfigResource { kind, name }, values))
}
