//! `IncrementalAlterConfigs` (key 44), versions 0 and 1; they differ in encoding only.

use ottla_controller::alter_configs;
use ottla_controller::configs::Change;
use ottla_metadata::{ConfigResource, ResourceKind};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{
    IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData,
};

use crate::broker::Broker;
use crate::config_changes::{self, Outcome};
use crate::context::RequestContext;

/// Changes configs, each resource by itself.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: IncrementalAlterConfigsRequestData,
) -> IncrementalAlterConfigsResponseData {
    let validate_only = request.validate_only;
    let wanted = request
        .resources
        .into_iter()
        .map(|resource| {
            let (kind, name) = (resource.resource_type, resource.resource_name.clone());
            changes(resource).map_err(|why| (kind, name, why))
        })
        .collect();
    let outcomes = config_changes::change(&broker.controller, wanted, move |view, resources| {
        alter_configs::decide_incremental(view, resources, validate_only)
    });
    let responses = outcomes.await.into_iter().map(response);
    IncrementalAlterConfigsResponseData::default().with_responses(responses.collect())
}

fn response(outcome: Outcome) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(outcome.kind)
        .with_resource_name(outcome.name)
        .with_error_code(outcome.code)
        .with_error_message(outcome.message)
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
