//! `AlterConfigs` (key 33), versions 0 to 2; they differ in encoding only.
//!
//! The older API: configs that are not named go back to their defaults.

use std::collections::BTreeMap;

use ottla_controller::request::AlterConfigs;
use ottla_protocol::messages::alter_configs_request::AlterableConfig;
use ottla_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{AlterConfigsRequestData, AlterConfigsResponseData};

use crate::broker::Broker;
use crate::config_changes::{self, Outcome, Wanted};
use crate::context::RequestContext;

/// Replaces configs, each resource by itself.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AlterConfigsRequestData,
) -> AlterConfigsResponseData {
    let validate_only = request.validate_only;
    let resources = request.resources.into_iter();
    let wanted = resources.map(|resource| Wanted {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: values(resource.configs),
    });
    let set = |values: &BTreeMap<String, String>| {
        if validate_only {
            Vec::new()
        } else {
            values.keys().cloned().collect()
        }
    };
    let ask = |resources| AlterConfigs {
        resources,
        validate_only,
    };
    let outcomes = config_changes::change(&broker.controller, wanted, set, ask);
    let responses = outcomes.await.into_iter().map(response);
    AlterConfigsResponseData::default().with_responses(responses.collect())
}

fn response(outcome: Outcome) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse::default()
        .with_resource_type(outcome.kind)
        .with_resource_name(outcome.name)
        .with_error_code(outcome.code)
        .with_error_message(outcome.message)
}

fn values(configs: Vec<AlterableConfig>) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for config in configs {
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
    Ok(values)
}
