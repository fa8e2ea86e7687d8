//! Configurations as operators write them, and what they are told.

use std::path::PathBuf;

use super::{File, HostPort, Loaded, Roles, Variable, load, load_with_environment};

/// The keys and values of the combined server.properties that Apache Kafka 4.3 ships.
const STOCK: &str = include_str!("../../tests/fixtures/stock-server.properties");

const MINIMAL: &str = "process.roles=broker,controller\nnode.id=4\nlog.dirs=/data\n\
     listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER\n\
     offsets.topic.replication.factor=1\n";

fn from(text: &str) -> Result<Loaded, Vec<String>> {
    let file = File {
        name: "server.properties",
        text,
    };
    load(Some(file), &[]).map_err(|problems| {
        problems
            .found()
            .iter()
            .map(|problem| format!("{}: {}", problem.key, problem.text))
            .collect()
    })
}

fn with(lines: &str) -> Result<Loaded, Vec<String>> {
    from(&format!("{MINIMAL}{lines}"))
}

/// The one problem of a configuration.
fn problem(lines: &str) -> String {
    let problems = with(lines).err().unwrap_or_default();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

/// What the Debian package installs.
const PACKAGED: &str = include_str!("../../../../packaging/debian/server.properties");

#[test]
fn the_packaged_configuration_serves_loopback_alone() {
    let loaded = from(PACKAGED).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let network = &loaded.config.network;
    let listeners = network.listeners.iter().map(|listener| &listener.bind);
    for bind in listeners.chain(&loaded.config.http) {
        assert_eq!(bind.host, "127.0.0.1");
    }
    assert_eq!(
        loaded.config.storage.log_dirs,
        [PathBuf::from("/var/lib/ottla")]
    );
    // Lines that an administrator may switch on must be right too.
    let proposed = PACKAGED
        .replace("\n#auto", "\nauto")
        .replace("\n#num", "\nnum");
    assert!(from(&proposed).is_ok());
}

#[test]
fn kafkas_stock_configuration_is_taken_unchanged() {
    let loaded = from(STOCK).unwrap();
    let network = &loaded.config.network;
    assert_eq!(network.listeners.len(), 1);
    assert_eq!(network.listeners[0].bind.port, 9092);
    let advertised = HostPort {
        host: "localhost".to_owned(),
        port: 9092,
    };
    assert_eq!(network.listeners[0].advertised, Some(advertised));
    assert_eq!(network.controller_listeners[0].name, "CONTROLLER");
    assert_eq!(network.max_request_bytes, 104_857_600);
    assert_eq!(loaded.config.groups.offsets_replication_factor, 1);
    assert_eq!(
        loaded.config.groups.initial_rebalance_delay.as_millis(),
        3000
    );
    // Topics of transactions and share groups come later; nothing else of it is without effect.
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    let said = loaded.warnings[0].split_once(": ").unwrap().1;
    let later = |key: &str| key.starts_with("share.") || key.starts_with("transaction.");
    assert!(said.split(", ").all(later), "{said}");
}

#[test]
fn without_a_file_one_node_needs_nobody_else() {
    let loaded = load(None, &[]).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.groups.offsets_replication_factor, 1);
    assert_eq!(config.groups.initial_rebalance_delay.as_millis(), 0);
    assert_eq!(config.network.listeners[0].bind.host, "127.0.0.1");
    assert_eq!(
        config.storage.metadata_log_dir.to_str(),
        Some("./ottla-data")
    );
}

#[test]
fn internal_topics_that_cannot_be_created_are_said_with_the_key() {
    let text = MINIMAL.replace("offsets.topic.replication.factor=1\n", "");
    let loaded = from(&text).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("set offsets.topic.replication.factor=1"));
}

#[test]
fn an_override_beats_the_file() {
    let file = File {
        name: "f",
        text: MINIMAL,
    };
    let overrides = [
        "num.partitions=7".to_owned(),
        "log.dirs = /other".to_owned(),
    ];
    let config = load(Some(file), &overrides).unwrap().config;
    assert_eq!(config.topics.partitions, 7);
    assert_eq!(config.storage.metadata_log_dir.to_str(), Some("/other"));
    let problems = load(Some(file), &["nonsense".to_owned()]).unwrap_err();
    assert!(problems.to_string().contains("KEY=VALUE"));
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text =
        format!("{MINIMAL}num.partitions=none\nlog.retnetion.hours=1\nzookeeper.connect=z:2181\n");
    let file = File {
        name: "my.properties",
        text: &text,
    };
    let said = load(Some(file), &[]).unwrap_err().to_string();
    assert!(
        said.starts_with("the configuration has 3 problems:"),
        "{said}"
    );
    assert!(said.contains("(my.properties, line 7)"), "{said}");
}

#[test]
fn wrong_keys_are_told_what_to_do() {
    assert!(problem("num.partition=1").contains("did you mean num.partitions?"));
    assert!(problem("zookeeper.connect=z:2181").contains("removed in Kafka 4"));
    assert!(problem("retention.ms=1").contains("log.retention.ms"));
    assert!(problem("message.max.bytes=-1").contains("at least 0"));
    assert!(problem("auto.create.topics.enable=yes").contains("true or false"));
    assert!(problem("broker.id=5").contains("node.id"));
    assert!(problem("max.connections.per.ip.overrides=a:b").contains("address:count"));
}

#[test]
fn bounds_between_keys_are_those_of_a_start_of_kafka() {
    let buffer = "log.cleaner.dedupe.buffer.size";
    assert!(problem(&format!("{buffer}=1048576")).starts_with(buffer));
    assert!(with(&format!("{buffer}=1048577")).is_ok());
    assert!(problem("max.connections.per.ip=0").starts_with("max.connections.per.ip: "));
    let some = "max.connections.per.ip=0\nmax.connections.per.ip.overrides=127.0.0.1:1";
    assert!(with(some).is_ok());
    // Kafka looks at this one when a config changes.
    assert!(with("log.local.retention.ms=999999999999").is_ok());
}

#[test]
fn what_asks_for_safety_or_shape_that_is_not_built_refuses_the_start() {
    for lines in [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "listener.security.protocol.map=PLAINTEXT:SSL,CONTROLLER:PLAINTEXT",
        "security.inter.broker.protocol=SSL",
        "early.start.listeners=CONTROLLER",
    ] {
        let said = problem(lines);
        assert!(
            said.contains("less than what was asked for"),
            "{lines}: {said}"
        );
    }
}

#[test]
fn a_controller_has_no_listeners_for_clients_and_a_broker_has_some() {
    let roles = |roles: &str, listeners: &str| {
        from(&format!(
            "process.roles={roles}\nnode.id=4\nlog.dirs=/data\nlisteners={listeners}\n\
             controller.listener.names=CONTROLLER\noffsets.topic.replication.factor=1\n"
        ))
    };
    let controller = roles("controller", "CONTROLLER://:9093").unwrap().config;
    assert_eq!(controller.quorum.roles, Roles::Controller);
    assert!(controller.network.listeners.is_empty());
    let both = "PLAINTEXT://:9092,CONTROLLER://:9093";
    let said = roles("controller", both).err().unwrap().remove(0);
    assert!(said.starts_with("listeners: PLAINTEXT"), "{said}");
    let said = roles("broker,controller", "CONTROLLER://:9093")
        .err()
        .unwrap();
    assert!(said[0].contains("none is left for clients"), "{said:?}");
}

#[test]
fn what_has_no_effect_is_said_once_and_plugins_are_warned_of() {
    let loaded =
        with("num.io.threads=16\nbackground.threads=11\nconfluent.support.metrics.enable=true\n")
            .unwrap();
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("background.threads, num.io.threads"));
    assert!(loaded.warnings[1].contains("confluent.support.metrics.enable"));
    // A value that is the default changes nothing, so nothing is lost.
    assert!(with("num.io.threads=8\n").unwrap().warnings.is_empty());
}

#[test]
fn keys_of_one_listener_are_understood() {
    let loaded = with("listener.name.plaintext.ssl.client.auth=none\n").unwrap();
    assert!(loaded.warnings.is_empty());
    assert!(problem("listener.name.plaintext.max.conections=5").contains("max.connections"));
    let loaded = with("listener.name.plaintext.max.connections=5\n").unwrap();
    assert!(loaded.warnings[0].contains("listener.name.plaintext.max.connections"));
}

#[test]
fn listeners_must_fit_together() {
    assert!(problem("advertised.listeners=OTHER://h:1").contains("not one of listeners"));
    assert!(problem("advertised.listeners=PLAINTEXT://0.0.0.0:9092").contains("every address"));
    assert!(problem("inter.broker.listener.name=OTHER").contains("not one of listeners"));
    assert!(
        problem("listeners=PLAINTEXT://:9092,CONTROLLER://:9093,INSIDE://:9094").contains("INSIDE")
    );
    let named = with(
        "listeners=A://:1,B://h:2,CONTROLLER://:3\n\
         listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT,CONTROLLER:PLAINTEXT\n",
    );
    let network = named.unwrap().config.network;
    assert_eq!(network.listeners.len(), 2);
    assert_eq!(network.inter_broker_listener, "A");
    let port_twice = "listeners=PLAINTEXT://:1,CONTROLLER://:1";
    assert!(problem(port_twice).contains("the port 1 of another"));
}

fn variables(pairs: &[(&str, &str)]) -> Vec<Variable> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn the_environment_beats_the_file_and_the_command_line_beats_both() {
    let file = File {
        name: "server.properties",
        text: &format!("{MINIMAL}num.partitions=2\nfetch.max.bytes=4096\n"),
    };
    let environment = variables(&[
        ("KAFKA_NUM_PARTITIONS", "3"),
        ("KAFKA_FETCH_MAX_BYTES", "8192"),
        ("NUM_PARTITIONS", "5"),
    ]);
    let overrides = ["num.partitions=4".to_owned()];
    let loaded = load_with_environment(Some(file), &environment, &overrides).unwrap();
    assert_eq!(loaded.config.topics.partitions, 4);
    assert_eq!(loaded.config.records.fetch_max_bytes, 8192);
    assert_eq!(loaded.config.node_id.0, 4, "the rest is the file's");
}

/// As compose files for Kafka's image set them: a listener for other containers, one for the host.
#[test]
fn an_environment_alone_makes_a_broker_for_other_hosts() {
    let environment = variables(&[
        ("KAFKA_NODE_ID", "7"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        (
            "KAFKA_LISTENERS",
            "INSIDE://0.0.0.0:29092,OUTSIDE://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
        ),
        (
            "KAFKA_ADVERTISED_LISTENERS",
            "INSIDE://broker:29092,OUTSIDE://localhost:9092",
        ),
        (
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
            "CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        ),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "INSIDE"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "7@broker:9093"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_HEAP_OPTS", "-Xmx1G"),
    ]);
    let loaded = load_with_environment(None, &environment, &[]).unwrap();
    assert_eq!(loaded.config.node_id.0, 7);
    let listeners = &loaded.config.network.listeners;
    let advertised = listeners.iter().map(|listener| {
        let address = listener.advertised.clone().unwrap();
        format!("{} {}:{}", listener.name, address.host, address.port)
    });
    let advertised: Vec<_> = advertised.collect();
    assert_eq!(
        advertised,
        ["INSIDE broker:29092", "OUTSIDE localhost:9092"]
    );
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_misspelt_variable_is_refused_by_its_name() {
    let environment = variables(&[("KAFKA_ADVERTISED_LISTENER", "PLAINTEXT://localhost:9092")]);
    let said = load_with_environment(None, &environment, &[])
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("did you mean advertised.listeners?"),
        "{said}"
    );
    assert!(
        said.contains("(environment variable KAFKA_ADVERTISED_LISTENER)"),
        "{said}"
    );
}
