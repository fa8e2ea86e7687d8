//! The shared part of AlterConfigs and IncrementalAlterConfigs: each resource is changed or refused by itself, and answered.

use std::collections::BTreeSet;

use ottla_controller::{Operation, alter_configs};
use ottla_metadata::config_keys::{self, Update, WhenChanged};
use ottla_metadata::{ConfigResource, MetadataImage, ResourceKind};
use ottla_protocol::messages::{ErrorCode, KafkaString};

use crate::cluster::channel::Controller;

/// The outcome for one resource.
#[derive(Debug)]
pub struct Outcome {
    /// The wire's number of the resource's type.
    pub kind: i8,
    pub name: KafkaString,
    pub code: i16,
    /// Why it was refused.
    pub message: Option<KafkaString>,
}

/// The changes that a request has for one resource.
#[derive(Debug)]
pub struct Wanted<T> {
    /// The wire's number of the resource's type.
    pub kind: i8,
    pub name: KafkaString,
    /// The changes, or why the request makes no sense.
    pub changes: Result<T, String>,
}

impl<T> Wanted<T> {
    fn resource(self) -> Result<(ConfigResource, T), Outcome> {
        let Self {
            kind,
            name,
            changes,
        } = self;
        let known = ResourceKind::from_code(kind);
        let known = known.ok_or_else(|| format!("unknown resource type {kind}"));
        match known.and_then(|kind| Ok((kind, changes?))) {
            Ok((kind, changes)) => {
                let name = name.as_str().to_owned();
                Ok((ConfigResource { kind, name }, changes))
            }
            Err(why) => Err(Outcome {
                kind,
                name,
                code: ErrorCode::InvalidRequest.code(),
                message: Some(why.into()),
            }),
        }
    }
}

/// Sends the changes that make sense to the controller, and returns the outcome for every resource.
///
/// `set` names the configs that get a value. Once they are stored, those without effect are logged.
pub async fn change<T, O: Operation<Reply = alter_configs::Reply>>(
    controller: &Controller,
    wanted: impl Iterator<Item = Wanted<T>>,
    set: impl Fn(&T) -> Vec<String>,
    ask: impl FnOnce(Vec<(ConfigResource, T)>) -> O,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut resources = Vec::new();
    for one in wanted {
        match one.resource() {
            Ok(resource) => resources.push(resource),
            Err(refused) => outcomes.push(refused),
        }
    }
    let asked: Vec<(ConfigResource, Vec<String>)> = resources
        .iter()
        .map(|(resource, changes)| (resource.clone(), set(changes)))
        .collect();
    let decided = controller.ask_here(ask(resources)).await;
    let of = |resource: ConfigResource, code: ErrorCode, message: Option<String>| Outcome {
        kind: resource.kind.code(),
        name: resource.name.into(),
        code: code.code(),
        message: message.map(KafkaString::from),
    };
    let Ok(reply) = decided else {
        let unavailable = |(resource, _)| of(resource, ErrorCode::NotController, None);
        outcomes.extend(asked.into_iter().map(unavailable));
        return outcomes;
    };
    let was_taken = |resource: &ConfigResource| {
        let mut reply = reply.iter();
        reply.any(|(known, result)| known == resource && result.is_ok())
    };
    for (resource, names) in asked.iter().filter(|(resource, _)| was_taken(resource)) {
        warn_of_set(resource, names.iter().map(String::as_str));
    }
    outcomes.extend(reply.into_iter().map(|(resource, result)| match result {
        Ok(()) => of(resource, ErrorCode::None, None),
        Err(refusal) => of(resource, refusal.code(), Some(refusal.to_string())),
    }));
    outcomes
}

/// Logs which of the configs that were set on a resource have no effect, or none before the next start.
pub fn warn_of_set<'a>(resource: &ConfigResource, names: impl Iterator<Item = &'a str>) {
    let (mut without_effect, mut from_next_start) = (Vec::new(), Vec::new());
    for name in names {
        match config_keys::find(resource.kind, name).map(config_keys::ConfigKey::when_changed) {
            Some(WhenChanged::NoEffect) => without_effect.push(name),
            Some(WhenChanged::NextStart) => from_next_start.push(name),
            _ => {}
        }
    }
    if !without_effect.is_empty() {
        let configs = without_effect.join(", ");
        tracing::warn!(of = %resource, %configs, "configs were set that have no effect in this release");
    }
    if !from_next_start.is_empty() {
        let configs = from_next_start.join(", ");
        tracing::warn!(of = %resource, %configs, "configs were set that take effect at the next start");
    }
}

/// Logs at a start which stored configs have no effect. Apache Kafka or an earlier release has accepted them.
pub fn warn_of_stored(image: &MetadataImage) {
    let idle = stored_without_effect(image);
    if !idle.is_empty() {
        let configs = idle.into_iter().collect::<Vec<_>>().join(", ");
        tracing::warn!(%configs, "stored configs have no effect in this release");
    }
}

fn stored_without_effect(image: &MetadataImage) -> BTreeSet<&str> {
    let mut idle = BTreeSet::new();
    for (resource, configs) in &image.configs {
        let is_idle = |name: &&String| {
            let Some(key) = config_keys::find(resource.kind, name) else {
                return false;
            };
            let is_nowhere = match key.update {
                Update::ReadOnly | Update::PerListener => resource.kind == ResourceKind::Broker,
                Update::PerBroker => resource.name.is_empty(),
                Update::ClusterWide => false,
            };
            let when = key.when_changed();
            is_nowhere || matches!(when, WhenChanged::NoEffect | WhenChanged::Refused)
        };
        idle.extend(configs.keys().filter(is_idle).map(String::as_str));
    }
    idle
}

#[cfg(test)]
mod tests {
    use super::stored_without_effect;
    use ottla_metadata::{ConfigResource, MetadataImage};

    #[test]
    fn stored_configs_that_do_nothing_are_known_by_name() {
        let mut image = MetadataImage::default();
        let stored = [
            (ConfigResource::cluster(), "log.retention.ms"),
            (ConfigResource::cluster(), "num.io.threads"),
            (ConfigResource::broker(1), "listeners"),
            (ConfigResource::broker(1), "max.connections"),
            (ConfigResource::broker(1), "some.plugin"),
            (ConfigResource::topic("t"), "preallocate"),
            (ConfigResource::topic("t"), "retention.ms"),
            (ConfigResource::group("g"), "share.isolation.level"),
        ];
        for (resource, name) in stored {
            let configs = image.configs.entry(resource).or_default();
            configs.insert(name.to_owned(), "x".to_owned());
        }
        let found: Vec<_> = stored_without_effect(&image).into_iter().collect();
        assert_eq!(
            found,
            [
                "listeners",
                "num.io.threads",
                "preallocate",
                "share.isolation.level"
            ]
        );
    }
}
