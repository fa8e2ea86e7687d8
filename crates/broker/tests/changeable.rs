//! Every config that may be changed while the broker runs, from the table of keys: a change takes effect, or it is logged
//! that it has none, or it is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ottla_broker::Running;
use ottla_broker::config::BrokerConfig;
use ottla_broker::handlers::{
    create_topics, describe_configs, incremental_alter_configs, list_config_resources,
};
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::{Found, settings};
use ottla_metadata::config_keys::{
    Bounds, ConfigKey, FROM_NEXT_START, Update, ValueType, WITHOUT_EFFECT, WhenChanged, all, find,
};
use ottla_metadata::{ResourceKind, effective};
use ottla_protocol::ids::PartitionIndex;
use ottla_protocol::messages::{
    ApiKey, CreateTopicsRequestData, DescribeConfigsRequestData,
    IncrementalAlterConfigsRequestData, KafkaString, ListConfigResourcesRequestData,
    create_topics_request, describe_configs_request, describe_configs_response,
    incremental_alter_configs_request,
};

use support::context;

const SET: i8 = 0;
const DELETE: i8 = 1;

/// A broker with a topic `t`.
async fn start(directory: &Path) -> Running {
    let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(KafkaString::from_static("t"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let context = context(ApiKey::CreateTopics);
    let created = create_topics::handle(&running.broker, &context, request).await;
    let created = &created.topics[0];
    assert_eq!(created.error_code, 0);
    let configs = created.configs.as_ref().unwrap();
    assert!(configs.len() > 30);
    let of_ours = |name: &KafkaString| name.as_str().starts_with("ottla.");
    assert!(!configs.iter().any(|config| of_ours(&config.name)));
    running
}

/// Changes configs of one resource; the error's code and message.
async fn alter(
    running: &Running,
    (kind, name): (ResourceKind, &str),
    changes: &[(&str, i8, Option<&str>)],
) -> (i16, String) {
    let configs = changes.iter().map(|(key, operation, value)| {
        incremental_alter_configs_request::AlterableConfig::default()
            .with_name((*key).to_owned().into())
            .with_config_operation(*operation)
            .with_value(value.map(|value| value.to_owned().into()))
    });
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(kind.code())
        .with_resource_name(name.to_owned().into())
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    let context = context(ApiKey::IncrementalAlterConfigs);
    let answer = incremental_alter_configs::handle(&running.broker, &context, request).await;
    let answer = &answer.responses[0];
    let message = answer.error_message.as_ref().map(ToString::to_string);
    (answer.error_code, message.unwrap_or_default())
}

/// What `ottla config set` reads after a change.
fn describe(
    running: &Running,
    (kind, name): (ResourceKind, &str),
) -> describe_configs_response::DescribeConfigsResult {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind.code())
        .with_resource_name(name.to_owned().into());
    let request = DescribeConfigsRequestData::default()
        .with_include_documentation(true)
        .with_include_synonyms(true)
        .with_resources(vec![resource]);
    let context = context(ApiKey::DescribeConfigs);
    describe_configs::handle(&running.broker, &context, request).results[0].clone()
}

/// The current values of everything that configs change.
fn live(running: &Running) -> String {
    let broker = &running.broker;
    let Found::Here(partition) = broker.replicas.by_name("t", PartitionIndex(0)) else {
        panic!("the topic is here");
    };
    let image = broker.controller.image();
    let allowed = broker.connections.allowed();
    let statics = &broker.config.statics;
    // The controller asks for this one at each election.
    let unclean = effective::topic_value(&image, statics, ("t", "unclean.leader.election.enable"));
    format!(
        "{:?} {:?} {:?} {allowed:?} {} {} {:?} {unclean:?}",
        partition.settings(),
        broker.drivers.cleaner_settings(),
        broker.drivers.scrub_settings(),
        settings::recovery_threads(&image, statics),
        settings::replica_fetchers(&image, statics),
        settings::replication_limits(&image, statics),
    )
}

/// What must be set first for the key to matter.
fn precondition(key: &ConfigKey) -> Option<(&'static str, String)> {
    let codec = key
        .name
        .strip_prefix("compression.")?
        .strip_suffix(".level")?;
    Some(("compression.type", codec.to_owned()))
}

/// A valid value that is not the one that counts.
fn another(key: &ConfigKey, current: &str) -> String {
    let mut candidates: Vec<String> = match key.bounds {
        Bounds::OneOf(known) | Bounds::OneOfAnyCase(known) => {
            known.iter().map(|value| (*value).to_owned()).collect()
        }
        Bounds::ConnectionsByAddress => vec!["127.0.0.1:5".to_owned(), "127.0.0.1:6".to_owned()],
        Bounds::OffsetReset => vec!["by_duration:PT1H".to_owned()],
        Bounds::ClientMatch => vec!["client_id=a".to_owned()],
        Bounds::Replicas => vec!["0:1".to_owned()],
        _ => Vec::new(),
    };
    if let Ok(number) = current.parse::<i64>() {
        candidates
            .extend([number.saturating_add(1), number.saturating_sub(1)].map(|n| n.to_string()));
    }
    candidates
        .extend(["5", "true", "false", "0.25", "0.75", "2000000", "x", "y"].map(str::to_owned));
    // No part of a log may stay for ever while the whole one does not.
    let is_too_long = |value: &String| key.name == "log.local.retention.ms" && value == "-1";
    let valid =
        |value: &String| value != current && key.check(value).is_ok() && !is_too_long(value);
    // Of a boolean nothing else is valid; a text takes all of it.
    let found = match key.value_type {
        ValueType::Text | ValueType::List | ValueType::Class | ValueType::Password => {
            candidates.into_iter().find(valid)
        }
        _ => candidates
            .into_iter()
            .filter(|value| !["x", "y"].contains(&value.as_str()))
            .find(valid),
    };
    found.expect(key.name)
}

/// Where a key can be set, and whether that is for one broker alone.
fn places(kind: ResourceKind, key: &ConfigKey) -> Vec<&'static str> {
    match (kind, key.update) {
        // All brokers agree on this one: see below.
        (ResourceKind::Broker, _) if key.name == "min.insync.replicas" => vec![""],
        (ResourceKind::Broker, Update::ClusterWide) => vec!["", "1"],
        (ResourceKind::Broker, Update::PerBroker) => vec!["1"],
        (ResourceKind::Broker, Update::ReadOnly | Update::PerListener) => Vec::new(),
        (ResourceKind::Topic, _) => vec!["t"],
        _ => vec!["some"],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_moves_what_lives_or_is_said_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let mut counted = [0_usize; 4];
    // Values stay, for each change costs the disk a flush; the topic comes last because its own values beat the brokers'.
    for kind in [
        ResourceKind::Broker,
        ResourceKind::Topic,
        ResourceKind::Group,
        ResourceKind::ClientMetrics,
    ] {
        let of_each =
            all(kind).flat_map(|key| places(kind, key).into_iter().map(move |at| (at, key)));
        let (idle, live): (Vec<_>, Vec<_>) =
            of_each.partition(|(_, key)| key.when_changed() == WhenChanged::NoEffect);
        let mut idle_by_place: BTreeMap<&str, Vec<&ConfigKey>> = BTreeMap::new();
        for (name, key) in idle {
            counted[key.when_changed() as usize] += 1;
            idle_by_place.entry(name).or_default().push(key);
        }
        for (name, keys) in idle_by_place {
            check_that_nothing_moves(&running, (kind, name), keys).await;
        }
        for (name, key) in live {
            counted[key.when_changed() as usize] += 1;
            check(&running, (kind, name), key).await;
        }
    }
    let [at_once, next_start, no_effect, refused] = counted;
    assert!(at_once > 60 && no_effect > 60, "{counted:?}");
    assert!(next_start > 0 && refused > 0, "{counted:?}");
    running.shut_down().await;
}

async fn check(running: &Running, resource: (ResourceKind, &str), key: &'static ConfigKey) {
    let of = format!("{} of {resource:?}", key.name);
    let first = precondition(key);
    if let Some((name, value)) = &first {
        let done = alter(running, resource, &[(name, SET, Some(value))]).await;
        assert_eq!(done.0, 0, "{of}: {}", done.1);
    }
    let before = live(running);
    let shown = describe(running, resource).configs;
    let shown = shown.iter().find(|config| config.name.as_str() == key.name);
    let current = shown.and_then(|config| config.value.clone());
    let default = key.default.unwrap_or_default().to_owned();
    let value = another(key, &current.map_or(default, |value| value.to_string()));
    let (code, why) = alter(running, resource, &[(key.name, SET, Some(&value))]).await;
    let described = describe(running, resource).configs;
    let described = described
        .iter()
        .find(|config| config.name.as_str() == key.name);
    if key.when_changed() == WhenChanged::Refused {
        assert_ne!(code, 0, "{of} is taken");
        assert_eq!(live(running), before, "{of}");
        return;
    }
    assert_eq!(code, 0, "{of}: {why}");
    assert_ne!(live(running), before, "{of} = {value}");
    let text = described.expect(&of).documentation.as_ref().unwrap();
    let is_later = text.as_str().ends_with(FROM_NEXT_START);
    assert_ne!(text.as_str(), WITHOUT_EFFECT, "{of}");
    assert_eq!(
        is_later,
        key.when_changed() == WhenChanged::NextStart,
        "{of}: {text}"
    );
    let hides = first
        .map(|(name, _)| name)
        .or(key.internal.then_some(key.name));
    let Some(hiding) = hides else { return };
    let back = [(hiding, DELETE, None)];
    let (code, why) = alter(running, resource, &back).await;
    assert_eq!(code, 0, "{of}: {why}");
}

/// Sets all these at once: none of them moves anything, and each says so.
async fn check_that_nothing_moves(
    running: &Running,
    resource: (ResourceKind, &str),
    keys: Vec<&'static ConfigKey>,
) {
    let before = live(running);
    let value = |key: &ConfigKey| another(key, key.default.unwrap_or_default());
    // With no remote storage a topic cannot ask for it.
    let taken = keys
        .iter()
        .filter(|key| key.name != "remote.storage.enable");
    let values: Vec<_> = taken.map(|key| (key.name, value(key))).collect();
    let changes: Vec<_> = values
        .iter()
        .map(|(name, value)| (*name, SET, Some(value.as_str())))
        .collect();
    let (code, why) = alter(running, resource, &changes).await;
    assert_eq!(code, 0, "{resource:?}: {why}");
    assert_eq!(live(running), before, "{changes:?}");
    let described = describe(running, resource).configs;
    for (name, value) in &values {
        let config = described
            .iter()
            .find(|config| config.name.as_str() == *name);
        let config = config.expect(name);
        let text = config.documentation.as_ref().unwrap();
        assert_eq!(text.as_str(), WITHOUT_EFFECT, "{name}");
        let shown = config.value.as_ref().map(ToString::to_string);
        assert!(
            config.is_sensitive || shown.as_ref() == Some(value),
            "{name}: {shown:?}"
        );
    }
    let back: Vec<_> = values
        .iter()
        .map(|(name, _)| (*name, DELETE, None))
        .collect();
    let (code, why) = alter(running, resource, &back).await;
    assert_eq!(code, 0, "{resource:?}: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_has_one_number_of_in_sync_replicas_and_shows_where_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let key = "min.insync.replicas";
    for resource in [
        (ResourceKind::Broker, ""),
        (ResourceKind::Broker, "1"),
        (ResourceKind::Topic, "t"),
    ] {
        let configs = describe(&running, resource).configs;
        let config = configs.iter().find(|config| config.name.as_str() == key);
        let config = config.unwrap();
        let value = config.value.as_ref().map(ToString::to_string);
        assert_eq!((value.as_deref(), config.config_source), (Some("1"), 3));
    }
    let of_one = alter(
        &running,
        (ResourceKind::Broker, "1"),
        &[(key, SET, Some("2"))],
    )
    .await;
    let of_all = alter(&running, (ResourceKind::Broker, ""), &[(key, DELETE, None)]).await;
    assert_eq!((of_one.0, of_all.0), (40, 40));
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_config_of_the_cluster_is_described_as_by_kafka() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let loggers = describe(&running, (ResourceKind::BrokerLogger, "1"));
    assert_eq!(loggers.error_code, 0);
    let is_root = |config: &&describe_configs_response::DescribeConfigsResourceResult| {
        config.name.as_str() == "root" && config.config_source == 6
    };
    assert!(loggers.configs.iter().any(|config| is_root(&config)));
    for name in ["", "2", "x"] {
        let refused = describe(&running, (ResourceKind::BrokerLogger, name));
        assert_eq!(refused.error_code, 42, "{name}");
    }
    let root = (ResourceKind::BrokerLogger, "1");
    let uncontrolled = alter(&running, root, &[("root", SET, Some("DEBUG"))]).await;
    assert_eq!(uncontrolled.0, 42, "{}", uncontrolled.1);
    let written: Arc<OnceLock<String>> = Arc::default();
    let writes = Arc::clone(&written);
    running
        .broker
        .log_levels
        .control("warn".to_owned(), move |filter| {
            writes
                .set(filter.to_owned())
                .map_err(|_| "twice".to_owned())
        });
    let set = alter(&running, root, &[("root", SET, Some("DEBUG"))]).await;
    assert_eq!((set.0, written.get().unwrap().as_str()), (0, "warn,debug"));
    let unknown = alter(&running, root, &[("kafka.server", SET, Some("DEBUG"))]).await;
    assert_eq!(unknown.0, 40);

    let metrics = describe(&running, (ResourceKind::ClientMetrics, "m"));
    let names = metrics.configs.iter().map(|config| config.name.as_str());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["interval.ms", "match", "metrics"]
    );
    assert_eq!(
        describe(&running, (ResourceKind::ClientMetrics, "")).error_code,
        42
    );
    let subscription = (ResourceKind::ClientMetrics, "m");
    let short = alter(&running, subscription, &[("interval.ms", SET, Some("1"))]).await;
    let text = alter(&running, subscription, &[("interval.ms", SET, Some("x"))]).await;
    let unknown = alter(&running, subscription, &[("interval", SET, Some("1"))]).await;
    assert_eq!((short.0, text.0, unknown.0), (42, 40, 42));
    let taken = alter(
        &running,
        subscription,
        &[("interval.ms", SET, Some("1000"))],
    )
    .await;
    assert_eq!(taken.0, 0);
    let request = ListConfigResourcesRequestData::default();
    let mut listing = context(ApiKey::ListConfigResources);
    listing.version = 0;
    let listed = list_config_resources::handle(&running.broker, &listing, request);
    assert_eq!(listed.config_resources[0].resource_name.as_str(), "m");
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_shows_of_itself_is_what_counts() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let configs = describe(&running, (ResourceKind::Broker, "1")).configs;
    let find_in = |name: &str| {
        let config = configs.iter().find(|config| config.name.as_str() == name);
        config.map(|config| {
            (
                config.value.as_ref().map(ToString::to_string),
                config.config_source,
            )
        })
    };
    assert_eq!(find_in("broker.id"), Some((Some("1".to_owned()), 4)));
    assert_eq!(find_in("node.id"), Some((Some("1".to_owned()), 4)));
    assert_eq!(find_in("follower.replication.throttled.rate"), None);
    let advertised = configs
        .iter()
        .find(|c| c.name.as_str() == "advertised.listeners")
        .unwrap();
    assert_eq!((&advertised.value, advertised.synonyms.len()), (&None, 0));
    let session = find(ResourceKind::Group, "consumer.session.timeout.ms").unwrap();
    let group = describe(&running, (ResourceKind::Group, "g")).configs;
    let shown = group
        .iter()
        .find(|config| config.name.as_str() == session.name)
        .unwrap();
    assert!(!shown.read_only);
    let synonyms = shown.synonyms.iter().map(|synonym| synonym.name.as_str());
    assert_eq!(
        synonyms.collect::<Vec<_>>(),
        ["group.consumer.session.timeout.ms"]
    );
    running.shut_down().await;
}
