//! Changes to the dynamic configs of one resource: what they come to, and whether they may be.

use std::collections::BTreeMap;

use ottla_metadata::config_keys::{self, ConfigKey, Effect, Update, ValueType};
use ottla_metadata::{ConfigResource, MetadataImage, ResourceKind, effective, ottla_configs};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::Refusal;
use crate::refusal::MAX_CONFIG_VALUE_BYTES;

/// A change to one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// To this value.
    Set(String),
    /// Back to its default.
    Delete,
    /// These items added to a list.
    Append(String),
    /// These items taken from a list.
    Subtract(String),
}

/// The records that make `changes` to the configs of `resource`, which exists or is just being created.
///
/// `topic` is the topic's id, where the resource is one: Ottla's own settings stand under it.
pub fn set(
    image: &MetadataImage,
    resource: &ConfigResource,
    topic: Option<Uuid>,
    changes: &[(String, Change)],
) -> Result<Vec<MetadataRecord>, Refusal> {
    let current = current(image, resource);
    let mut after = current.clone();
    for (name, change) in changes {
        let is_taken_back = *change == Change::Delete && after.remove(name).is_some();
        let is_served = |key: &ConfigKey| key.effect != Effect::Refused;
        if is_taken_back && !config_keys::find(resource.kind, name).is_some_and(is_served) {
            // Kafka has set what is not served here, or an older one what nobody knows any more.
            continue;
        }
        let key = key(resource.kind, name)?;
        match result(key, change, after.get(name))? {
            Some(value) => after.insert(name.clone(), value),
            None => after.remove(name),
        };
    }
    check_together(resource, &after)?;
    let touched = changes.iter().map(|(name, _)| name);
    let differing = touched.filter(|name| {
        // A broker is told again even if nothing differs: it may have to reload what a value names.
        resource.kind == ResourceKind::Broker || current.get(*name) != after.get(*name)
    });
    Ok(differing
        .map(|name| record(resource, topic, name, after.get(name).cloned()))
        .collect())
}

/// The records that make the configs of `resource` exactly `values`.
pub fn replace(
    image: &MetadataImage,
    resource: &ConfigResource,
    topic: Option<Uuid>,
    values: &BTreeMap<String, String>,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let gone = current(image, resource)
        .into_keys()
        .filter(|name| !values.contains_key(name));
    let mut changes: Vec<(String, Change)> = gone.map(|name| (name, Change::Delete)).collect();
    changes.extend(
        values
            .iter()
            .map(|(name, value)| (name.clone(), Change::Set(value.clone()))),
    );
    set(image, resource, topic, &changes)
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

fn key(kind: ResourceKind, name: &str) -> Result<&'static ConfigKey, Refusal> {
    let what = match kind {
        ResourceKind::Topic => "topic",
        ResourceKind::Broker => "broker",
        ResourceKind::Group => "group",
        ResourceKind::ClientMetrics => "client metrics",
        ResourceKind::BrokerLogger => "broker logger",
    };
    let Some(key) = config_keys::find(kind, name) else {
        let hint = config_keys::nearest(kind, name).map(|near| format!("; did you mean {near}?"));
        return Err(Refusal::InvalidConfig(format!(
            "unknown {what} config name: {name}{}",
            hint.unwrap_or_default()
        )));
    };
    if kind == ResourceKind::Broker && key.update == Update::ReadOnly {
        return Err(Refusal::InvalidRequest(format!(
            "cannot update {name} dynamically: set it in the broker's file and restart"
        )));
    }
    if key.effect == Effect::Refused {
        return Err(Refusal::InvalidConfig(format!(
            "{name} is not served in this release"
        )));
    }
    Ok(key)
}

fn result(
    key: &ConfigKey,
    change: &Change,
    current: Option<&String>,
) -> Result<Option<String>, Refusal> {
    let listed = || {
        if key.value_type != ValueType::List {
            return Err(Refusal::InvalidConfig(format!(
                "can't append to or subtract from key {} because its type is not LIST",
                key.name
            )));
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
            let taken: Vec<&str> = items.split(',').map(str::trim).collect();
            let mut list = listed()?;
            list.retain(|item| !taken.contains(item));
            list.join(",")
        }
    };
    if value.len() > MAX_CONFIG_VALUE_BYTES {
        return Err(Refusal::InvalidConfig(format!(
            "the configuration value cannot be added because it exceeds the maximum value size of \
             {MAX_CONFIG_VALUE_BYTES} bytes"
        )));
    }
    key.check(&value)
        .map_err(|invalid| Refusal::InvalidConfig(invalid.to_string()))?;
    Ok(Some(value))
}

/// Bounds that hold between configs.
fn check_together(
    resource: &ConfigResource,
    after: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    if resource.kind != ResourceKind::Topic {
        return Ok(());
    }
    let number = |name: &str| {
        after
            .get(name)
            .and_then(|value| value.trim().parse::<i64>().ok())
    };
    if let (Some(min), Some(max)) = (
        number("min.compaction.lag.ms"),
        number("max.compaction.lag.ms"),
    ) && min > max
    {
        return Err(Refusal::InvalidConfig(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    Ok(())
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
mod tests {
    use super::{Change, replace, set};
    use ottla_metadata::{ConfigResource, MetadataDelta, MetadataImage, ottla_configs};
    use ottla_protocol::messages::metadata::MetadataRecord;
    use std::collections::BTreeMap;

    /// What Kafka 3 allowed to be set, and Kafka 4 has kept in the log.
    const REMOVED: &str = "message.format.version";
    /// What Kafka serves.
    const UNSERVED: &str = "cordoned.log.dirs";

    fn after(image: MetadataImage, records: &[MetadataRecord]) -> Vec<String> {
        let mut delta = MetadataDelta::new(image);
        for record in records {
            delta.replay(record);
        }
        let configs = delta.finish().0.configs;
        configs
            .values()
            .flat_map(|configs| configs.keys().cloned())
            .collect()
    }

    #[test]
    fn a_config_that_is_not_known_or_not_served_can_only_be_taken_back() {
        check_that_it_can_only_be_taken_back(&ConfigResource::topic("t"), REMOVED);
        check_that_it_can_only_be_taken_back(&ConfigResource::broker(1), UNSERVED);
    }

    fn check_that_it_can_only_be_taken_back(owner: &ConfigResource, name: &str) {
        let mut delta = MetadataDelta::new(MetadataImage::default());
        let old = ottla_configs::record(owner, name.to_owned(), Some("3.0".to_owned()));
        delta.replay(&old.into());
        let image = delta.finish().0;
        let change = |change| [(name.to_owned(), change)];

        let replaced = replace(&image, owner, None, &BTreeMap::new()).unwrap();
        assert_eq!(after(image.clone(), &replaced), [""; 0]);
        let deleted = set(&image, owner, None, &change(Change::Delete)).unwrap();
        assert_eq!(after(image.clone(), &deleted), [""; 0]);

        let new = Change::Set("3.1".to_owned());
        assert!(set(&image, owner, None, &change(new)).is_err());
        let unset = MetadataImage::default();
        assert!(set(&unset, owner, None, &change(Change::Delete)).is_err());
    }
}
