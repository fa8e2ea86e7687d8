//! Finds deletions of configs that would delete nothing. A broker accepts the deletion of any key,
//! even of one that is not set or does not exist.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use ottla_client::Cluster;
use ottla_client::admin::{ConfigChange, Documentation, Resource};
use ottla_metadata::config_keys;
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;

/// Removes deletions of keys that are not set from the changes, and returns these keys. A key that
/// does not exist for the resource is an error. When the broker does not describe the configs, all
/// changes are passed on.
pub async fn take_out(
    cluster: &Cluster,
    resource: &Resource,
    changes: &mut BTreeMap<String, ConfigChange>,
) -> Result<Vec<String>> {
    if !changes
        .values()
        .any(|change| *change == ConfigChange::Delete)
    {
        return Ok(Vec::new());
    }
    let described = cluster.describe_configs(resource, Documentation::Omitted);
    let Ok(described) = described.await else {
        return Ok(Vec::new());
    };
    let mut known: BTreeSet<String> = names(&described);
    if *resource == Resource::BrokerDefaults {
        // DescribeConfigs of the defaults returns only keys that are set; a broker's own returns
        // all keys.
        let metadata = cluster.metadata();
        let Some(node) = metadata.nodes.keys().next() else {
            return Ok(Vec::new());
        };
        let of_broker = Resource::Broker(*node);
        let of_broker = cluster.describe_configs(&of_broker, Documentation::Omitted);
        let Ok(of_broker) = of_broker.await else {
            return Ok(Vec::new());
        };
        known.extend(names(&of_broker));
    }
    let set = described.iter().filter(|config| is_set(config, resource));
    let set: BTreeSet<_> = set.map(|config| config.name.as_str()).collect();
    let mut unset = Vec::new();
    for (key, change) in &*changes {
        if *change != ConfigChange::Delete || set.contains(key.as_str()) {
            continue;
        }
        if !known.contains(key) {
            bail!("{}", unknown(key, &known));
        }
        unset.push(key.clone());
    }
    changes.retain(|key, _| !unset.contains(key));
    Ok(unset)
}

fn names(configs: &[DescribeConfigsResourceResult]) -> BTreeSet<String> {
    configs
        .iter()
        .map(|config| config.name.to_string())
        .collect()
}

/// Whether the config was set for the resource itself. If a source with a higher priority overrides
/// it, the resource's own value is among the synonyms.
fn is_set(config: &DescribeConfigsResourceResult, resource: &Resource) -> bool {
    let own = match resource {
        Resource::Topic(_) => 1,
        Resource::Broker(_) => 2,
        Resource::BrokerDefaults => 3,
        Resource::Group(_) => 8,
    };
    config.config_source == own || config.synonyms.iter().any(|synonym| synonym.source == own)
}

fn unknown(key: &str, known: &BTreeSet<String>) -> String {
    match config_keys::nearest_of(known.iter().map(String::as_str), key) {
        Some(nearest) => format!("there is no config {key}; did you mean {nearest}?"),
        None => {
            format!("there is no config {key}; `ottla config describe --all` shows those there are")
        }
    }
}

/// The message for a deletion of a config that was not set.
pub fn note(key: &str) -> String {
    format!("note: {key} was not set")
}
