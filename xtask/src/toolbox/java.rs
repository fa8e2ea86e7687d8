//! Compiles the Java programs of `tests/compat/java`, `tests/adopt`, `tests/cluster`,
//! `tests/mixed` and `tests/ecosystem`, each against one release of the jars.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::maven::{self, KAFKA_VERSION};

/// The newest Kafka Connect whose file connectors and MirrorMaker are on Maven.
const CONNECT_VERSION: &str = "4.3.1";
/// The logging backend: the jars of Kafka and Flink have none.
const LOGGER: (&str, &str, &str) = ("org.slf4j", "slf4j-simple", "1.7.36");

/// The newest Flink for which its Kafka connector has a release.
const FLINK_VERSION: &str = "2.2.1";
/// That release of the connector.
const FLINK_CONNECTOR_VERSION: &str = "5.0.0-2.2";

/// The last release of the Java client before 4, which is still widely used.
pub const OLD_CLIENT_VERSION: &str = "3.9.2";

/// A JVM that runs a `main` of `tests/compat/java/client` on this release of the client.
pub fn client(version: &str) -> Result<Command> {
    let name = format!("kafka-clients-{version}");
    let jars = maven::jars(&name, &[("org.apache.kafka", "kafka-clients", version)])?;
    let classes = compile(
        &format!("java-client-{version}"),
        &["compat/java/client"],
        &jars,
    )?;
    Ok(jvm(&[&classes, &jars.join("*")]))
}

/// A JVM that runs the program of `tests/cluster/java` on this release of the client.
pub fn cluster_load(version: &str) -> Result<Command> {
    let name = format!("kafka-clients-{version}");
    let jars = maven::jars(&name, &[("org.apache.kafka", "kafka-clients", version)])?;
    let classes = compile("java-cluster", &["cluster/java"], &jars)?;
    let mut command = jvm(&[&classes, &jars.join("*")]);
    command.arg("Load");
    Ok(command)
}

/// A JVM that runs a `main` of `tests/compat/java/tools` beside the tools of this release of Kafka.
pub fn tools(version: &str) -> Result<Command> {
    let jars = maven::kafka_jars_of(version)?;
    let classes = compile(
        &format!("java-tools-{version}"),
        &["compat/java/tools", "compat/java/client/Claims.java"],
        &jars,
    )?;
    Ok(jvm(&[&classes, &jars.join("*")]))
}

/// A JVM that runs a `main` of `tests/adopt` beside the tools of this release of Kafka.
pub fn adopt(version: &str) -> Result<Command> {
    let jars = maven::kafka_jars_of(version)?;
    let parts = [
        "adopt",
        "compat/java/tools/Tool.java",
        "compat/java/client/Claims.java",
    ];
    let classes = compile(&format!("java-adopt-{version}"), &parts, &jars)?;
    Ok(jvm(&[&classes, &jars.join("*")]))
}

/// A JVM that runs the program of `tests/mixed` beside the tools of this release of Kafka.
pub fn mixed(version: &str) -> Result<Command> {
    let jars = maven::kafka_jars_of(version)?;
    let parts = [
        "mixed",
        "adopt/Wire.java",
        "compat/java/tools/Tool.java",
        "compat/java/client/Claims.java",
    ];
    let classes = compile(&format!("java-mixed-{version}"), &parts, &jars)?;
    let mut command = jvm(&[&classes, &jars.join("*")]);
    command.arg("Mixed");
    Ok(command)
}

/// A JVM with everything of Apache Kafka.
pub fn kafka() -> Result<Command> {
    Ok(jvm(&[&maven::kafka_jars()?.join("*")]))
}

/// A JVM with everything of another release of Apache Kafka, and a logger for warnings and errors.
pub fn kafka_of(version: &str) -> Result<Command> {
    let [jars, logger] = kafka_with_logger(version)?;
    Ok(with_warnings(jvm(&[&jars, &logger])))
}

/// The class path of a release of Apache Kafka and of a logger.
pub fn kafka_with_logger(version: &str) -> Result<[PathBuf; 2]> {
    let jars = maven::kafka_jars_of(version)?;
    let logger = maven::jars("slf4j-simple-1.7.36", &[LOGGER])?;
    Ok([jars.join("*"), logger.join("*")])
}

/// Kafka Connect, its file connectors and MirrorMaker.
pub fn connect() -> Result<Command> {
    let artifacts = ["connect-runtime", "connect-file", "connect-mirror"]
        .map(|artifact| ("org.apache.kafka", artifact, CONNECT_VERSION));
    let all: Vec<_> = artifacts.into_iter().chain([LOGGER]).collect();
    let jars = maven::jars(&format!("kafka-connect-{CONNECT_VERSION}"), &all)?;
    Ok(with_warnings(jvm(&[&jars.join("*")])))
}

/// Kafka Streams, with the programs of `tests/ecosystem/java`.
pub fn streams() -> Result<Command> {
    let artifacts = [("org.apache.kafka", "kafka-streams", KAFKA_VERSION), LOGGER];
    let jars = maven::jars(&format!("kafka-streams-{KAFKA_VERSION}"), &artifacts)?;
    let classes = compile("java-streams", &["ecosystem/java"], &jars)?;
    Ok(with_warnings(jvm(&[&classes, &jars.join("*")])))
}

/// Apache Flink and its connector for Kafka, with the program of `tests/ecosystem/flink`.
pub fn flink() -> Result<Command> {
    let artifacts = [
        ("org.apache.flink", "flink-streaming-java", FLINK_VERSION),
        ("org.apache.flink", "flink-clients", FLINK_VERSION),
        // A dependency that the connector does not declare.
        ("org.apache.flink", "flink-connector-base", FLINK_VERSION),
        (
            "org.apache.flink",
            "flink-connector-kafka",
            FLINK_CONNECTOR_VERSION,
        ),
        LOGGER,
    ];
    let name = format!("flink-{FLINK_VERSION}-kafka-{FLINK_CONNECTOR_VERSION}");
    let jars = maven::jars(&name, &artifacts)?;
    let classes = compile(&format!("java-{name}"), &["ecosystem/flink"], &jars)?;
    Ok(with_warnings(jvm(&[&classes, &jars.join("*")])))
}

/// Its log shows warnings and errors only.
fn with_warnings(mut command: Command) -> Command {
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command
}

fn jvm(classpath: &[&Path]) -> Command {
    let joined = classpath
        .iter()
        .map(|path| path.as_os_str())
        .collect::<Vec<_>>()
        .join(OsStr::new(":"));
    let mut command = Command::new("java");
    // For a short-lived JVM the second compiler costs more than it saves.
    command
        .args(["-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp"])
        .arg(joined);
    command
}

fn compile(tool: &str, parts: &[&str], jars: &Path) -> Result<PathBuf> {
    let sources = sources(parts)?;
    let mut wanted = String::from(KAFKA_VERSION);
    for source in &sources {
        wanted.push_str(&fs::read_to_string(source)?);
    }
    super::once(tool, &wanted, |directory| {
        super::run(
            Command::new("javac")
                .args(["-nowarn", "-d"])
                .arg(directory)
                .arg("-cp")
                .arg(jars.join("*"))
                .args(&sources),
        )
    })
}

/// The Java files below `tests`: those in `parts`, and all files of directories in `parts`.
fn sources(parts: &[&str]) -> Result<Vec<PathBuf>> {
    let root = super::workspace().join("tests");
    let mut found = Vec::new();
    for part in parts {
        let path = root.join(part);
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                let file = entry?.path();
                found.extend(
                    file.extension()
                        .is_some_and(|end| end == "java")
                        .then_some(file),
                );
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
