//! Kafka Connect: copies a file to a topic and the topic to a file, with a standalone worker and
//! with a distributed one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::{Process, output};
use super::{Place, records};
use crate::port;
use crate::toolbox::java;

const TOPIC: &str = "connected";
const RECORDS: usize = 10_000;

/// The settings that both kinds of worker share.
const WORKER: &[(&str, &str)] = &[
    (
        "key.converter",
        "org.apache.kafka.connect.storage.StringConverter",
    ),
    (
        "value.converter",
        "org.apache.kafka.connect.storage.StringConverter",
    ),
    ("offset.flush.interval.ms", "500"),
    // The connectors are on the class path.
    ("plugin.discovery", "service_load"),
];

/// `connect-standalone` with two connectors.
pub fn standalone(place: &Place<'_>) -> Result<String> {
    let files = Files::make(place.directory)?;
    let offsets = place.directory.join("offsets").display().to_string();
    let rest = format!("http://127.0.0.1:{}", port::free()?);
    let worker = properties(
        place,
        &[
            ("offset.storage.file.filename", &offsets),
            ("listeners", &rest),
        ],
    );
    let mut command = java::connect()?;
    command.arg("org.apache.kafka.connect.cli.ConnectStandalone");
    command.arg(written(place.directory, "worker.properties", &worker)?);
    for (name, settings) in files.connectors() {
        let mut text = format!("name={name}\n");
        for (key, value) in settings {
            let _ = writeln!(text, "{key}={value}");
        }
        command.arg(written(
            place.directory,
            &format!("{name}.properties"),
            &text,
        )?);
    }
    let mut running = Process::start(command, &place.directory.join("connect.log"))?;
    files.wait(&mut running)?;
    checked(place, &files)
}

/// `connect-distributed`: the connectors are created over REST, and its state is in topics.
pub fn distributed(place: &Place<'_>) -> Result<String> {
    let files = Files::make(place.directory)?;
    let rest = format!("http://127.0.0.1:{}", port::free()?);
    let mut settings = vec![("group.id", "connect"), ("listeners", &rest)];
    for (topic, factor) in [
        ("config.storage.topic", "config.storage.replication.factor"),
        ("offset.storage.topic", "offset.storage.replication.factor"),
        ("status.storage.topic", "status.storage.replication.factor"),
    ] {
        settings.extend([(topic, topic), (factor, "1")]);
    }
    let mut command = java::connect()?;
    command.arg("org.apache.kafka.connect.cli.ConnectDistributed");
    let worker = properties(place, &settings);
    command.arg(written(place.directory, "worker.properties", &worker)?);
    let mut running = Process::start(command, &place.directory.join("connect.log"))?;
    let connectors = format!("{rest}/connectors");
    running.until("its REST interface", || Ok(curl(&[&connectors]).is_ok()))?;
    for (name, settings) in files.connectors() {
        let settings: serde_json::Map<_, _> = settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        let body = serde_json::json!({"name": name, "config": settings}).to_string();
        let header = "Content-Type: application/json";
        // The leader of the group may still be starting.
        running.until("a connector", || {
            Ok(curl(&["-H", header, "-d", &body, &connectors]).is_ok())
        })?;
    }
    files.wait(&mut running)?;
    let status = curl(&[&format!("{connectors}/sink/status")])?;
    if !status.contains("\"RUNNING\"") {
        bail!("the sink does not run: {status}");
    }
    checked(place, &files)
}

/// The files that the source reads and the sink writes.
struct Files {
    source: PathBuf,
    sink: PathBuf,
    values: Vec<String>,
}

impl Files {
    fn make(directory: &Path) -> Result<Self> {
        let values = records::values(RECORDS);
        let source = directory.join("source.txt");
        fs::write(&source, values.join("\n") + "\n")?;
        Ok(Self {
            source,
            sink: directory.join("sink.txt"),
            values,
        })
    }

    /// The connectors by name, with their settings.
    fn connectors(&self) -> [(&'static str, Vec<(&'static str, String)>); 2] {
        let class = |end: &str| format!("org.apache.kafka.connect.file.FileStream{end}Connector");
        [
            (
                "source",
                vec![
                    ("connector.class", class("Source")),
                    ("file", self.source.display().to_string()),
                    ("topic", TOPIC.to_owned()),
                ],
            ),
            (
                "sink",
                vec![
                    ("connector.class", class("Sink")),
                    ("file", self.sink.display().to_string()),
                    ("topics", TOPIC.to_owned()),
                ],
            ),
        ]
    }

    fn sunk(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.sink).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn wait(&self, running: &mut Process) -> Result<()> {
        running.until("the sink's last record", || {
            Ok(self.sunk().len() >= self.values.len())
        })
    }
}

fn checked(place: &Place<'_>, files: &Files) -> Result<String> {
    records::check(
        "the topic",
        records::read(place.bootstrap, TOPIC)?,
        &files.values,
    )?;
    records::check("the sink", files.sunk(), &files.values)?;
    Ok(format!("{RECORDS} lines from a file to a topic to a file"))
}

fn properties(place: &Place<'_>, settings: &[(&str, &str)]) -> String {
    let mut text = format!("bootstrap.servers={}\n", place.bootstrap);
    for (key, value) in WORKER.iter().chain(settings) {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn written(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn curl(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail"])
        .args(arguments);
    output(&mut command, Path::new("/dev/null"))
}
