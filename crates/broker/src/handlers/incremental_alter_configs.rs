//! `IncrementalAlterConfigs` (key 44), versions 0 and 1; they differ in encoding only.

use bytes::BytesMut;
use ottla_controller::configs::Change;
use ottla_controller::request::IncrementalAlterConfigs;
use ottla_metadata::ResourceKind;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{
    ErrorCode, IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData,
};

use crate::broker::Broker;
use crate::cluster::forward::forward;
use crate::cluster::remote_controller::RemoteController;
use crate::config_changes::{self, Outcome, Wanted};
use crate::context::{ListenerRole, RequestContext};
use crate::process::log_levels::NotChanged;

/// Changes configs; an error concerns one resource.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: IncrementalAlterConfigsRequestData,
) -> IncrementalAlterConfigsResponseData {
    let validate_only = request.validate_only;
    let is_of_loggers = |resource: &AlterConfigsResource| {
        resource.resource_type == ResourceKind::BrokerLogger.code()
    };
    let (loggers, configs): (Vec<_>, Vec<_>) =
        request.resources.into_iter().partition(is_of_loggers);
    let mut responses: Vec<AlterConfigsResourceResponse> = loggers
        .into_iter()
        .map(|resource| log_levels(broker, resource, validate_only))
        .collect();
    if context.connection.role == ListenerRole::Broker
        && let Some(controller) = broker.controller.remote()
    {
        responses.extend(forwarded(controller, context, (configs, validate_only)).await);
        return IncrementalAlterConfigsResponseData::default().with_responses(responses);
    }
    let wanted = configs.into_iter().map(|resource| Wanted {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: resource.configs.into_iter().map(change).collect(),
    });
    let set = |changes: &Vec<(String, Change)>| {
        let set = changes
            .iter()
            .filter(|(_, change)| *change != Change::Delete);
        if validate_only {
            Vec::new()
        } else {
            set.map(|(name, _)| name.clone()).collect()
        }
    };
    let ask = |resources| IncrementalAlterConfigs {
        resources,
        validate_only,
    };
    let outcomes = config_changes::change(&broker.controller, wanted, set, ask);
    responses.extend(outcomes.await.into_iter().map(response));
    IncrementalAlterConfigsResponseData::default().with_responses(responses)
}

/// The controller's answers for all resources but the loggers, which belong to this process.
async fn forwarded(
    controller: &RemoteController,
    context: &RequestContext,
    (resources, validate_only): (Vec<AlterConfigsResource>, bool),
) -> Vec<AlterConfigsResourceResponse> {
    if resources.is_empty() {
        return Vec::new();
    }
    let request = IncrementalAlterConfigsRequestData::default()
        .with_resources(resources)
        .with_validate_only(validate_only);
    let mut body = BytesMut::new();
    let written = request.write(&mut body, context.version);
    if written.is_ok()
        && let Ok(mut answer) = forward(controller, context, body.freeze()).await
        && let Ok(answer) = IncrementalAlterConfigsResponseData::read(&mut answer, context.version)
    {
        return answer.responses;
    }
    let unavailable = |resource: AlterConfigsResource| {
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(ErrorCode::NotController.code())
    };
    request.resources.into_iter().map(unavailable).collect()
}

/// Changes the levels of loggers, all of them or none. The levels belong to this process and are not stored.
fn log_levels(
    broker: &Broker,
    resource: AlterConfigsResource,
    validate_only: bool,
) -> AlterConfigsResourceResponse {
    let refused = |why: String| (ErrorCode::InvalidRequest, why);
    let name = resource.resource_name.as_str();
    let changed = match name.parse::<i32>() {
        Err(_) => Err(refused(format!(
            "node id must be an integer, but it is: {name}"
        ))),
        Ok(id) if id != broker.config.node_id.0 => Err(refused(format!(
            "unexpected node id: expected {}, but received {id}",
            broker.config.node_id
        ))),
        Ok(_) => levels(resource.configs)
            .map_err(refused)
            .and_then(|changes| change_levels(broker, &changes, validate_only)),
    };
    let (code, message) = match changed {
        Ok(()) => (ErrorCode::None, None),
        Err((code, why)) => (code, Some(why.into())),
    };
    AlterConfigsResourceResponse::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name)
        .with_error_code(code.code())
        .with_error_message(message)
}

fn change_levels(
    broker: &Broker,
    changes: &[(String, Option<String>)],
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    let levels = &broker.log_levels;
    let outcome = if validate_only {
        levels.check(changes)
    } else {
        levels.set(changes)
    };
    outcome.map_err(|why| {
        let code = match why {
            NotChanged::Invalid(_) => ErrorCode::InvalidConfig,
            NotChanged::Refused(_) => ErrorCode::InvalidRequest,
            NotChanged::Failed(_) => ErrorCode::UnknownServerError,
        };
        (code, why.to_string())
    })
}

/// The wanted level of each logger; none for the level that it had at the start.
fn levels(configs: Vec<AlterableConfig>) -> Result<Vec<(String, Option<String>)>, String> {
    let level = |config| match change(config)? {
        (logger, Change::Set(level)) => Ok((logger, Some(level))),
        (logger, Change::Delete) => Ok((logger, None)),
        (_, Change::Append(_) | Change::Subtract(_)) => {
            Err("APPEND and SUBTRACT are not allowed for the BROKER_LOGGER resource".to_owned())
        }
    };
    configs.into_iter().map(level).collect()
}

fn response(outcome: Outcome) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(outcome.kind)
        .with_resource_name(outcome.name)
        .with_error_code(outcome.code)
        .with_error_message(outcome.message)
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
