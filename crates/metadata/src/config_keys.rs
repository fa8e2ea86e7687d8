//! The tables of all config keys: name, type, default, bounds, where each may be changed, and what it does.
//!
//! `server.properties`, the validation of topic configs, DescribeConfigs and `docs/config.md` all use these tables. A key
//! whose effect is [`Effect::NotYet`] is accepted, and the log says that it has no effect.

mod broker;
mod client_metrics;
mod definition;
mod group;
mod later;
mod ottla;
mod removed;
mod security;
pub mod together;
mod topic;
mod value;

pub use definition::{
    Bounds, ConfigKey, Effect, FROM_NEXT_START, Importance, Synonym, Unit, Update, ValueType,
    WITHOUT_EFFECT, WhenChanged,
};
pub use removed::{Removed, removed};
pub use value::{InvalidValue, connections_by_address};

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::ResourceKind;

/// The keys of each kind by name. A change of a broker config looks up many keys for every topic, so this must be fast.
static BY_NAME: LazyLock<BTreeMap<ResourceKind, BTreeMap<&str, &ConfigKey>>> =
    LazyLock::new(|| {
        let kinds = [
            ResourceKind::Topic,
            ResourceKind::Broker,
            ResourceKind::Group,
            ResourceKind::ClientMetrics,
        ];
        let keys = |kind| all(kind).map(|key| (key.name, key)).collect();
        kinds.into_iter().map(|kind| (kind, keys(kind))).collect()
    });

/// The broker configs that are one setting in different units, by each of their names, the strongest first.
static FAMILIES: LazyLock<BTreeMap<&str, Vec<&str>>> = LazyLock::new(|| {
    let mut families = BTreeMap::new();
    for key in all(ResourceKind::Topic) {
        let names: Vec<_> = key.synonyms.iter().map(|synonym| synonym.name).collect();
        let of_each = names.iter().map(|name| (*name, names.clone()));
        families.extend(of_each);
    }
    families
});

/// The key of this name among a resource's configs.
pub fn find(kind: ResourceKind, name: &str) -> Option<&'static ConfigKey> {
    BY_NAME.get(&kind)?.get(name).copied()
}

/// This broker config and those that are the same setting in other units, the strongest first.
pub fn family(key: &'static ConfigKey) -> Vec<&'static str> {
    let family = FAMILIES.get(key.name).cloned();
    family.unwrap_or_else(|| vec![key.name])
}

/// All keys that a resource may have, Kafka's first.
pub fn all(kind: ResourceKind) -> impl Iterator<Item = &'static ConfigKey> {
    let tables: &[&[ConfigKey]] = match kind {
        ResourceKind::Topic => &[topic::TOPIC, ottla::TOPIC],
        ResourceKind::Broker => &[
            broker::BROKER,
            security::SECURITY,
            later::LATER,
            ottla::BROKER,
        ],
        ResourceKind::Group => &[group::GROUP],
        ResourceKind::ClientMetrics => &[client_metrics::CLIENT_METRICS],
        ResourceKind::BrokerLogger => &[],
    };
    tables.iter().copied().flatten()
}

/// The known key that is most similar to a misspelt name, if one is similar enough.
pub fn nearest(kind: ResourceKind, name: &str) -> Option<&'static str> {
    nearest_of(all(kind).map(|key| key.name), name)
}

/// The name that is most similar to a misspelt one, if one is similar enough.
pub fn nearest_of<'a>(names: impl Iterator<Item = &'a str>, misspelt: &str) -> Option<&'a str> {
    let tolerated = (misspelt.len() / 6).clamp(1, 4);
    names
        .map(|name| (edit_distance(misspelt, name), name))
        .min()
        .filter(|(distance, _)| *distance <= tolerated)
        .map(|(_, nearest)| nearest)
}

/// The number of edits (insert, delete, replace, swap of neighbours) that turn one name into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{FROM_NEXT_START, ResourceKind, WITHOUT_EFFECT, WhenChanged, all, find, nearest};
    use std::collections::BTreeSet;

    const KINDS: [ResourceKind; 4] = [
        ResourceKind::Topic,
        ResourceKind::Broker,
        ResourceKind::Group,
        ResourceKind::ClientMetrics,
    ];

    #[test]
    fn every_default_is_a_valid_value() {
        for key in KINDS.into_iter().flat_map(all) {
            if let Some(default) = key.default {
                assert_eq!(key.check(default), Ok(()), "{}", key.name);
            }
        }
    }

    #[test]
    fn the_text_of_a_key_says_when_a_change_takes_effect() {
        for key in KINDS.into_iter().flat_map(all) {
            let is_idle = key.documentation == WITHOUT_EFFECT;
            let waits = key.documentation.ends_with(FROM_NEXT_START);
            let when = key.when_changed();
            assert_eq!(is_idle, when == WhenChanged::NoEffect, "{}", key.name);
            assert_eq!(waits, when == WhenChanged::NextStart, "{}", key.name);
        }
    }

    #[test]
    fn every_name_is_unique() {
        for kind in KINDS {
            let names: Vec<_> = all(kind).map(|key| key.name).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        }
    }

    #[test]
    fn every_synonym_is_a_broker_config_with_the_same_default() {
        for key in all(ResourceKind::Topic).chain(all(ResourceKind::Group)) {
            for synonym in key.synonyms {
                let broker = find(ResourceKind::Broker, synonym.name).expect(synonym.name);
                if let Some(default) = broker.default
                    && synonym.unit == super::Unit::Same
                {
                    assert_eq!(Some(default), key.default, "{}", key.name);
                }
            }
        }
    }

    #[test]
    fn a_misspelt_key_finds_the_one_that_was_meant() {
        let meant = |name| nearest(ResourceKind::Broker, name);
        assert_eq!(meant("num.partition"), Some("num.partitions"));
        assert_eq!(meant("log.retnetion.hours"), Some("log.retention.hours"));
        assert_eq!(meant("confluent.metrics.reporter.bootstrap.servers"), None);
    }
}
