//! The list of clients: how each is installed and started.

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
    /// The number of attempts, each with new topics and groups.
    pub attempts: usize,
}

/// The network thread of kafka-python 3.0.12 hangs now and then, on Apache Kafka too (5 of 24 runs
/// of three at once). It then sends no heartbeat and reads nothing until the check times out.
const ATTEMPTS_OF_KAFKA_PYTHON: usize = 3;

/// The program that reads the data directory after the broker has stopped.
pub const DUMP: &str = "kafka-dump-log";

/// All clients; those that take longest to install come first.
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

/// Reads a damaged directory, and a repaired one.
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
    // Keeps compiled files out of the checkout.
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
