//! Whether a config of a resource may be set while the broker runs.
//!
//! The table of keys holds Kafka's rule ([`Update`]) and ours ([`WhenChanged`]); here they become refusals. Every config
//! may be deleted, because Kafka, or an older release, may have stored it. `configs` has the two exceptions:
//! `min.insync.replicas` while eligible leaders depend on it, and a config whose deletion breaks a bound that held.

use ottla_metadata::config_keys::{self, ConfigKey, Update, WhenChanged};
use ottla_metadata::{ConfigResource, ResourceKind};

use crate::config_refusal::ConfigRefusal;

/// The prefix of configs of one listener.
const LISTENER_PREFIX: &str = "listener.name.";
/// Configs of a listener that may be set for all brokers together.
const LISTENER_CONFIGS_OF_ALL_BROKERS: &[&str] = &[
    "max.connection.creation.rate",
    "max.connections",
    "num.network.threads",
];

/// Refuses configs of brokers that cannot be set there, all of one kind together.
pub fn check(resource: &ConfigResource, names: &[&str]) -> Result<(), ConfigRefusal> {
    if resource.kind != ResourceKind::Broker {
        return Ok(());
    }
    let refuse_those = |refused: &dyn Fn(&str) -> bool,
                        refusal: fn(Vec<String>) -> ConfigRefusal| {
        let refused = names.iter().filter(|name| refused(name));
        let refused: Vec<String> = refused.map(|name| (*name).to_owned()).collect();
        if refused.is_empty() {
            Ok(())
        } else {
            Err(refusal(refused))
        }
    };
    let has = |name: &str, update| key(name).is_some_and(|key| key.update == update);
    refuse_those(&|name| has(name, Update::ReadOnly), ConfigRefusal::ReadOnly)?;
    refuse_those(
        &|name| has(name, Update::PerListener),
        ConfigRefusal::PerListener,
    )?;
    if resource.name.is_empty() {
        refuse_those(&is_of_one_broker, ConfigRefusal::PerBroker)?;
    }
    Ok(())
}

/// The key of this name. Refuses a key that cannot be set.
pub fn served(kind: ResourceKind, name: &str) -> Result<&'static ConfigKey, ConfigRefusal> {
    let Some(key) = config_keys::find(kind, name) else {
        return Err(unknown(kind, name));
    };
    if kind != ResourceKind::Broker || key.when_changed() != WhenChanged::Refused {
        return Ok(key);
    }
    Err(match key.effect {
        config_keys::Effect::Works => ConfigRefusal::NotWhileRunning(key.name),
        _ => ConfigRefusal::NotServed(key.name),
    })
}

fn key(name: &str) -> Option<&'static ConfigKey> {
    config_keys::find(ResourceKind::Broker, name)
}

fn is_of_one_broker(name: &str) -> bool {
    let of_listener = name.strip_prefix(LISTENER_PREFIX);
    match of_listener.and_then(|rest| rest.split_once('.')) {
        Some((_listener, base)) => !LISTENER_CONFIGS_OF_ALL_BROKERS.contains(&base),
        None => key(name).is_some_and(|key| key.update == Update::PerBroker),
    }
}

fn unknown(kind: ResourceKind, name: &str) -> ConfigRefusal {
    let name = name.to_owned();
    if kind == ResourceKind::Broker && name.starts_with(LISTENER_PREFIX) {
        return ConfigRefusal::OfListener(name);
    }
    let nearest = config_keys::nearest(kind, &name);
    ConfigRefusal::Unknown {
        kind,
        name,
        nearest,
    }
}

#[cfg(test)]
mod tests {
    use super::{check, served};
    use ottla_metadata::config_keys::{ConfigKey, Update, WhenChanged, all};
    use ottla_metadata::{ConfigResource, ResourceKind};
    use ottla_protocol::error_code::ErrorCode;

    fn refusal(resource: &ConfigResource, names: &[&str]) -> Option<String> {
        match check(resource, names) {
            Ok(()) => None,
            Err(refusal) => {
                assert_eq!(refusal.code(), ErrorCode::InvalidRequest, "{refusal}");
                Some(refusal.to_string())
            }
        }
    }

    #[test]
    fn every_key_is_refused_where_it_cannot_be_set_and_nowhere_else() {
        for key in all(ResourceKind::Broker) {
            let of_one = refusal(&ConfigResource::broker(1), &[key.name]);
            let of_all = refusal(&ConfigResource::cluster(), &[key.name]);
            let expected = match key.update {
                Update::ReadOnly => (Some("dynamically"), Some("dynamically")),
                Update::PerListener => (Some("per-listener"), Some("per-listener")),
                Update::PerBroker => (None, Some("broker id must be specified")),
                Update::ClusterWide => (None, None),
            };
            for (said, expected) in [(of_one, expected.0), (of_all, expected.1)] {
                assert_eq!(said.is_some(), expected.is_some(), "{}: {said:?}", key.name);
                if let (Some(said), Some(expected)) = (said, expected) {
                    assert!(said.contains(expected), "{said}");
                    assert!(said.ends_with(&format!(": [{}]", key.name)), "{said}");
                }
            }
        }
    }

    #[test]
    fn configs_of_a_listener_belong_to_one_broker_except_its_connection_limits() {
        let cluster = ConfigResource::cluster();
        let store = "listener.name.plaintext.ssl.keystore.type";
        assert!(
            refusal(&cluster, &[store, "log.retention.ms"])
                .unwrap()
                .ends_with(&format!("[{store}]"))
        );
        assert_eq!(
            refusal(&cluster, &["listener.name.plaintext.max.connections"]),
            None
        );
        assert_eq!(refusal(&ConfigResource::broker(1), &[store]), None);
        assert!(served(ResourceKind::Broker, store).is_err());
    }

    #[test]
    fn only_keys_marked_as_refused_are_refused() {
        let refused = |key: &&ConfigKey| served(ResourceKind::Broker, key.name).is_err();
        let names: Vec<_> = all(ResourceKind::Broker).filter(refused).collect();
        assert!(names.iter().any(|key| key.name == "listeners"));
        for key in names {
            assert_eq!(key.when_changed(), WhenChanged::Refused, "{}", key.name);
        }
    }
}
