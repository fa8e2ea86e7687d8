//! Checks the values of a file, the environment and the command line against the table of keys; collects every problem.

use std::collections::BTreeMap;

use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys::{ConfigKey, Effect, find, nearest, removed};

use super::Variable;
use super::problems::Problems;
use super::properties;
use super::values::Values;

/// The place of built-in values. They are not checked, and nothing is logged about them.
const BASE: &str = "no configuration file";

/// The values of a file, the environment and a command line, not checked yet: by key, with the place that set it.
#[derive(Debug, Default)]
pub struct Settings {
    entries: BTreeMap<String, (String, String)>,
}

impl Settings {
    /// Adds a properties file. Where it names a key twice, the last value counts, as in Kafka.
    pub fn add_file(&mut self, name: &str, text: &str) {
        for entry in properties::parse(text) {
            let place = format!("{name}, line {}", entry.line);
            self.entries.insert(entry.key, (entry.value, place));
        }
    }

    /// Adds built-in values for the keys that are not set.
    pub fn add_base(&mut self, base: &[(&str, &str)]) {
        for (key, value) in base {
            let value = ((*value).to_owned(), BASE.to_owned());
            self.entries.entry((*key).to_owned()).or_insert(value);
        }
    }

    /// Whether the file, the environment or the command line sets a key.
    pub fn is_set(&self, key: &str) -> bool {
        let set = self.entries.get(key);
        set.is_some_and(|(_, place)| place != BASE)
    }

    /// Whether a list is not set, or has this item.
    pub fn may_be(&self, key: &str, item: &str) -> bool {
        let set = self.entries.get(key);
        set.is_none_or(|(list, _)| list.split(',').any(|one| one.trim() == item))
    }

    /// Adds `listener` to `listeners`, where those are set and do not name it.
    pub fn add_listener(&mut self, name: &str, listener: &str) {
        if let Some((listeners, _)) = self.entries.get_mut("listeners")
            && !listeners.to_uppercase().contains(&format!("{name}://"))
        {
            listeners.push(',');
            listeners.push_str(listener);
        }
    }

    /// Removes a listener from `listeners`, where those are set.
    pub fn remove_listener(&mut self, name: &str) {
        let prefix = format!("{}://", name.to_uppercase());
        if let Some((listeners, _)) = self.entries.get_mut("listeners") {
            let kept = listeners.split(',');
            let kept = kept.filter(|one| !one.trim().to_uppercase().starts_with(&prefix));
            *listeners = kept.collect::<Vec<_>>().join(",");
        }
    }

    /// The host of the first of `listeners`; none if they are not set.
    pub fn first_host(&self) -> Option<String> {
        let (listeners, _) = self.entries.get("listeners")?;
        let (_, address) = listeners.split(',').next()?.split_once("://")?;
        Some(address.rsplit_once(':')?.0.to_owned())
    }

    /// Adds the value of an environment variable, which overrides the file.
    pub fn add_variable(&mut self, key: String, (name, value): &Variable) {
        let place = format!("environment variable {name}");
        self.entries.insert(key, (value.trim().to_owned(), place));
    }

    /// Adds one `key=value` of the command line, which overrides the file and the environment.
    pub fn add_override(&mut self, text: &str, problems: &mut Problems) {
        match text.split_once('=') {
            Some((key, value)) => {
                let value = (value.trim().to_owned(), "--override".to_owned());
                self.entries.insert(key.trim().to_owned(), value);
            }
            None => problems.add(text, "--override takes KEY=VALUE".to_owned()),
        }
    }
}

/// Keys that were accepted and have no effect; they are logged once at the start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Kafka's keys that only tune something, and have no effect here yet.
    pub without_effect: Vec<String>,
    /// Unknown keys that resemble no known one; they may be a plugin's.
    pub unknown: Vec<String>,
}

/// Checks each setting against the table of keys.
pub fn check(settings: Settings, problems: &mut Problems) -> (Values, Notes) {
    let mut values = BTreeMap::new();
    let mut notes = Notes::default();
    for (name, (value, place)) in settings.entries {
        if place == BASE {
            values.insert(name, value);
            continue;
        }
        if let Some(text) = refusal(&name, &value, &mut notes) {
            problems.add_at(&name, Some(place), text);
            continue;
        }
        values.insert(name, value);
    }
    (Values::new(values), notes)
}

/// Why a setting is refused, if it is. A setting that is accepted without effect is added to `notes`.
fn refusal(name: &str, value: &str, notes: &mut Notes) -> Option<String> {
    let base = listener_key(name).unwrap_or(name);
    let Some(key) = find(ResourceKind::Broker, base) else {
        return unknown(name, base, notes);
    };
    if let Err(invalid) = key.check(value) {
        return Some(format!("{}, but it is {}", invalid.reason, invalid.value));
    }
    let changes = !is_default(key, value);
    match key.effect {
        Effect::Refused if changes => Some(
            "it asks for something that is not built yet, and a start without it would be less than what was \
             asked for; remove it"
                .to_owned(),
        ),
        Effect::NotYet if changes => {
            notes.without_effect.push(name.to_owned());
            None
        }
        // A value for one listener has no effect yet.
        Effect::Works if base != name => {
            notes.without_effect.push(name.to_owned());
            None
        }
        Effect::Refused | Effect::NotYet | Effect::Works => None,
    }
}

fn unknown(name: &str, base: &str, notes: &mut Notes) -> Option<String> {
    if let Some(removed) = removed(base) {
        return Some(format!("it was removed in Kafka 4: {}", removed.instead));
    }
    if let Some(topic) = find(ResourceKind::Topic, base) {
        let broker = topic.synonyms.first().map_or("", |synonym| synonym.name);
        return Some(format!(
            "it is a topic's config; its default for all topics is {broker}"
        ));
    }
    if let Some(meant) = nearest(ResourceKind::Broker, base) {
        return Some(format!("it is not known; did you mean {meant}?"));
    }
    notes.unknown.push(name.to_owned());
    None
}

/// The key in `listener.name.<listener>.<key>`, or in `listener.name.<listener>.<mechanism>.<key>`.
fn listener_key(name: &str) -> Option<&str> {
    let (_listener, key) = name.strip_prefix("listener.name.")?.split_once('.')?;
    if find(ResourceKind::Broker, key).is_none()
        && let Some((_mechanism, key)) = key.split_once('.')
        && find(ResourceKind::Broker, key).is_some()
    {
        return Some(key);
    }
    Some(key)
}

fn is_default(key: &ConfigKey, value: &str) -> bool {
    let value = value.trim();
    value.is_empty()
        || key
            .default
            .is_some_and(|default| default.eq_ignore_ascii_case(value))
}
