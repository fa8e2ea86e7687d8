//! Which clients there are, where each comes from, and how it is started.

use std::process::Command;

use anyhow::Result;

use crate::toolbox::maven::{KAFKA_VERSION, PREVIOUS_VERSION};
use crate::toolbox::{self, apt, go, java, node, python, rdkafka};

/// A program that takes a bootstrap address and a prefix for its names.
pub struct Client {
    /// Names the client in the report, and is the prefix of its topics and groups.
    pub name: &'static str,
    /// Fetches and builds what is missing.
    pub prepare: fn() -> Result<Command>,
    /// How often it may be tried, each time with topics and groups of its own.
    pub attempts: usize,
}

/// The network thread of kafka-python 3.0.12 falls silent now and then, on Apache Kafka too (5 of 24 runs of three at
/// once): no heartbeat, nothing read, until the check's time is up.
const ATTEMPTS_OF_KAFKA_PYTHON: usize = 3;

/// What reads the data directory once the broker has stopped.
pub const DUMP: &str = "kafka-dump-log";

/// Every client; those that take longest to set up first.
pub fn all() -> Vec<Client> {
    let client = |name, prepare| Client {
        name,
        prepare,
        attempts: 1,
    };
    vec![
        client("rdkafka", || Ok(Command::new(rdkafka::program()?))),
        client("kafka-tools", || {
            java_main(java::tools(KAFKA_VERSION), "ToolChecks")
        }),
        client("kafka-tools-4-3", || {
            java_main(java::tools(PREVIOUS_VERSION), "ToolChecks")
        }),
        client("java-4", || {
            java_main(java::client(KAFKA_VERSION), "ClientChecks")
        }),
        client("java-4-3", || {
            java_main(java::client(PREVIOUS_VERSION), "ClientChecks")
        }),
        client("java-3", || {
            java_main(java::client(java::OLD_CLIENT_VERSION), "ClientChecks")
        }),
        client("franz-go", || Ok(Command::new(go::program()?))),
        client("confluent-kafka", || python_program("confluent_client.py")),
        Client {
            name: "kafka-python",
            prepare: || python_program("kafka_python_client.py"),
            attempts: ATTEMPTS_OF_KAFKA_PYTHON,
        },
        client("aiokafka", || python_program("aiokafka_client.py")),
        client("kcat", || {
            apt::program("kcat")?;
            python_program("kcat_client.py")
        }),
        client("kafkajs", kafkajs),
    ]
}

/// Reads the data directory that is its argument.
pub fn dump() -> Result<Command> {
    java_main(java::tools(KAFKA_VERSION), "DumpChecks")
}

/// Reads what is damaged, and what was repaired.
pub fn damage() -> Result<Command> {
    python_program("damage_client.py")
}

fn java_main(jvm: Result<Command>, main: &str) -> Result<Command> {
    let mut jvm = jvm?;
    jvm.arg(main);
    Ok(jvm)
}

fn python_program(file: &str) -> Result<Command> {
    let mut command = Command::new(python::interpreter()?);
    // The checks lie in the checkout, which compiled files do not belong in.
    command
        .arg("-B")
        .arg(toolbox::workspace().join("tests/compat/python").join(file));
    Ok(command)
}

fn kafkajs() -> Result<Command> {
    let mut command = Command::new("node");
    command
        .arg(toolbox::workspace().join("tests/compat/node/kafkajs_client.js"))
        .env("KAFKAJS_MODULES", node::modules()?);
    Ok(command)
}
