//! Validates changes to the dynamic configs of one resource, and turns them into records.

use std::collections::BTreeMap;

use ottla_metadata::config_keys::{self, ConfigKey, ValueType, together};
use ottla_metadata::{ConfigResource, MetadataImage, ResourceKind, effective, ottla_configs};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::{ClearElrRecord, MetadataRecord};

use crate::config_refusal::{ConfigRefusal, MAX_CONFIG_VALUE_BYTES};
use crate::{View, changeable};

/// The config that decides when a replica becomes an eligible leader (KIP-966): then all brokers must have one value.
pub(crate) const MIN_IN_SYNC: &str = "min.insync.replicas";

/// A change to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// To this value.
    Set(String),
    /// Back to the default.
    Delete,
    /// These items added to a list.
    Append(String),
    /// These items taken from a list.
    Subtract(String),
}

/// The records that make `changes` to the configs of `resource`, which exists or is just being created.
///
/// `topic` is the id of the topic, if the resource is one: Ottla's own settings are stored under it.
pub fn set(
    view: View<'_>,
    resource: &ConfigResource,
    topic: Option<Uuid>,
    changes: &[(String, Change)],
) -> Result<Vec<MetadataRecord>, ConfigRefusal> {
    let is_deletion = |change: &Change| *change == Change::Delete;
    let set = changes.iter().filter(|(_, change)| !is_deletion(change));
    let set: Vec<&str> = set.map(|(name, _)| name.as_str()).collect();
    changeable::check(resource, &set)?;
    check_min_in_sync(view.image, resource, changes)?;
    let current = current(view.image, resource);
    let mut after = current.clone();
    for (name, change) in changes {
        // An unknown or unserved config can always be deleted: Kafka, or an older release, has set it.
        let value = if is_deletion(change) {
            None
        } else {
            let key = changeable::served(resource.kind, name)?;
            result(resource.kind, key, change, after.get(name))?
        };
        match value {
            Some(value) => after.insert(name.clone(), value),
            None => after.remove(name),
        };
    }
    check_together(view, resource, (&after, &set))?;
    let touched = changes.iter().map(|(name, _)| name);
    let differing = touched.filter(|name| {
        // A broker's config is recorded even if its value stays: the broker may have to reload the file it names.
        let is_recorded_again = resource.kind == ResourceKind::Broker && after.contains_key(*name);
        is_recorded_again || current.get(*name) != after.get(*name)
    });
    let mut records: Vec<MetadataRecord> = differing
        .map(|name| record(resource, topic, name, after.get(name).cloned()))
        .collect();
    records.extend(clear_eligible_leaders(view.image, &records));
    Ok(records)
}

/// The records that make the configs of `resource` exactly `values`.
pub fn replace(
    view: View<'_>,
    resource: &ConfigResource,
    topic: Option<Uuid>,
    values: &BTreeMap<String, String>,
) -> Result<Vec<MetadataRecord>, ConfigRefusal> {
    let gone = current(view.image, resource)
        .into_keys()
        .filter(|name| !values.contains_key(name));
    let mut changes: Vec<(String, Change)> = gone.map(|name| (name, Change::Delete)).collect();
    changes.extend(
        values
            .iter()
            .map(|(name, value)| (name.clone(), Change::Set(value.clone()))),
    );
    set(view, resource, topic, &changes)
}

fn current(image: &MetadataImage, resource: &ConfigResource) -> BTreeMap<String, String> {
    if resource.kind == ResourceKind::Topic {
        return effective::topic_overrides(image, &resource.name);
    }
    let configs = image.configs.get(resource).into_iter().flatten();
    configs
        .filter(|(name, _)| !ottla_configs::is_stored(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// While partitions have eligible leader replicas, all brokers must have one `min.insync.replicas`.
fn check_min_in_sync(
    image: &MetadataImage,
    resource: &ConfigResource,
    changes: &[(String, Change)],
) -> Result<(), ConfigRefusal> {
    let change = changes.iter().find(|(name, _)| name == MIN_IN_SYNC);
    let (ResourceKind::Broker, Some((_, change)), true) =
        (resource.kind, change, image.has_eligible_leader_replicas())
    else {
        return Ok(());
    };
    match (resource.name.as_str(), change) {
        ("", Change::Delete) => Err(ConfigRefusal::MinInSyncOfCluster),
        ("", _) => Ok(()),
        _ => Err(ConfigRefusal::MinInSyncOfBroker),
    }
}

/// A new `min.insync.replicas` changes which replicas are eligible leaders, so those that are known are cleared.
fn clear_eligible_leaders(
    image: &MetadataImage,
    records: &[MetadataRecord],
) -> Vec<MetadataRecord> {
    if !image.has_eligible_leader_replicas() {
        return Vec::new();
    }
    let cleared = records.iter().filter_map(|record| {
        let MetadataRecord::Config(config) = record else {
            return None;
        };
        let is_of_topic = config.resource_type == ResourceKind::Topic.code();
        let topic_name = if is_of_topic {
            config.resource_name.clone()
        } else {
            String::new()
        };
        let clear = ClearElrRecord {
            topic_name,
            ..ClearElrRecord::default()
        };
        (config.name == MIN_IN_SYNC).then(|| clear.into())
    });
    cleared.collect()
}

fn result(
    kind: ResourceKind,
    key: &ConfigKey,
    change: &Change,
    current: Option<&String>,
) -> Result<Option<String>, ConfigRefusal> {
    let listed = || {
        if key.value_type != ValueType::List {
            return Err(ConfigRefusal::NotAList(key.name));
        }
        let text = current
            .map(String::as_str)
            .or(key.default)
            .unwrap_or_default();
        Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .collect::<Vec<_>>())
    };
    let value = match change {
        Change::Delete => return Ok(None),
        Change::Set(value) => value.clone(),
        Change::Append(items) => {
            let mut list = listed()?;
            for item in items.split(',').map(str::trim) {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
            list.join(",")
        }
        Change::Subtract(items) => {
            let mut list = listed()?;
            for item in items.split(',').map(str::trim) {
                // Of an item that is listed twice one is removed.
                if let Some(at) = list.iter().position(|known| *known == item) {
                    list.remove(at);
                }
            }
            list.join(",")
        }
    };
    if value.len() > MAX_CONFIG_VALUE_BYTES {
        return Err(ConfigRefusal::TooLong);
    }
    key.check(&value).map_err(|invalid| {
        let is_number = value.trim().parse::<i32>().is_ok();
        let is_of_request =
            kind == ResourceKind::Broker || (kind == ResourceKind::ClientMetrics && is_number);
        // Kafka's brokers check these before they ask the controller, and answer another code.
        if is_of_request {
            ConfigRefusal::InvalidForBroker(invalid)
        } else {
            ConfigRefusal::Invalid(invalid)
        }
    })?;
    Ok(Some(value))
}

/// Checks the bounds between configs. `set` are the configs that the request gives a value.
fn check_together(
    view: View<'_>,
    resource: &ConfigResource,
    (after, set): (&BTreeMap<String, String>, &[&str]),
) -> Result<(), ConfigRefusal> {
    let own = |name: &str| after.get(name).cloned();
    let checked = match resource.kind {
        ResourceKind::Topic => together::of_topic(&own),
        ResourceKind::Broker => return check_of_broker(view, resource, (after, set)),
        ResourceKind::Group if !after.is_empty() => {
            let group = effective::group_with(view.image, &view.settings.statics, after);
            let value = |name: &str| {
                let mut group = group.iter();
                let config = group.find(|config| config.key.name == name)?;
                config.value.clone()
            };
            together::of_group(&value, &|name| of_broker(view, view.image, name))
        }
        _ => Ok(()),
    };
    checked.map_err(ConfigRefusal::Bound)
}

/// Refuses a change that breaks a bound between configs of brokers. A bound that the file or a stored value has broken
/// before does not stop changes of other configs, nor deletions of its own.
fn check_of_broker(
    view: View<'_>,
    resource: &ConfigResource,
    (after, set): (&BTreeMap<String, String>, &[&str]),
) -> Result<(), ConfigRefusal> {
    let mut image = view.image.clone();
    let configs = after.iter().map(|(k, v)| (k.clone(), v.clone()));
    image.configs.insert(resource.clone(), configs.collect());
    let broken = together::of_broker(&|name| of_broker(view, &image, name));
    if broken.is_empty() {
        return Ok(());
    }
    let before = together::of_broker(&|name| of_broker(view, view.image, name));
    let is_caused = |broken: &together::Broken| {
        let is_set = broken.keys.iter().any(|key| set.contains(&key.as_str()));
        is_set || before.iter().all(|known| known.keys != broken.keys)
    };
    match broken.into_iter().find(is_caused) {
        Some(broken) => Err(ConfigRefusal::BoundOfBroker(broken)),
        None => Ok(()),
    }
}

/// The effective value of a broker config.
fn of_broker(view: View<'_>, image: &MetadataImage, name: &str) -> Option<String> {
    let key = config_keys::find(ResourceKind::Broker, name)?;
    effective::broker_key(image, &view.settings.statics, key).value
}

fn record(
    resource: &ConfigResource,
    topic: Option<Uuid>,
    name: &str,
    value: Option<String>,
) -> MetadataRecord {
    let (owner, name) = match topic {
        Some(id) if name.starts_with(ottla_configs::PREFIX) => (
            &ConfigResource::cluster(),
            ottla_configs::stored_name(id, name),
        ),
        _ => (resource, name.to_owned()),
    };
    ottla_configs::record(owner, name, value).into()
}

#[cfg(test)]
mod tests;
