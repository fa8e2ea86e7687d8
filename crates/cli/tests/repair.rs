//! A damaged log from a consumer's error to a sound directory: refused, skipped, said, listed, repaired, read again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ottla_broker::Running;
use ottla_broker::clock::Clock;
use ottla_broker::config::BrokerConfig;

const RECORDS: usize = 30;

async fn start(directory: &Path) -> Running {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.http = Some(ottla_broker::config::HostPort {
        host: "127.0.0.1".to_owned(),
        port: 0,
    });
    ottla_broker::start(config, Clock::start()).await.unwrap()
}

fn ottla(arguments: &[&str]) -> Output {
    ottla_given(arguments, "")
}

fn ottla_given(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The values from an offset on.
fn consume(bootstrap: &str, from: &str) -> Output {
    ottla(&["consume", "t", "-b", bootstrap, "--from", from, "--exit"])
}

/// Where the batch with record `number` begins: each record is a batch.
fn position_of(log: &Path, number: usize) -> u64 {
    let dump = ottla(&["log", "dump", "--output", "json", log.to_str().unwrap()]);
    let dump = stdout(&dump);
    let line = dump.lines().nth(number).unwrap();
    let batch: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(batch["base_offset"], number);
    batch["position"].as_u64().unwrap()
}

fn overwrite(path: &PathBuf, position: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, position).unwrap();
}

/// A topic of one partition with a record a batch.
fn fill(bootstrap: &str) {
    stdout(&ottla(&[
        "topic",
        "create",
        "t",
        "-b",
        bootstrap,
        "--partitions",
        "1",
    ]));
    for number in 0..RECORDS {
        let produced = ottla_given(&["produce", "t", "-b", bootstrap], &format!("v{number}\n"));
        assert!(produced.status.success(), "{produced:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_repaired_by_what_was_listed_and_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    fill(&bootstrap);
    let refused = ottla(&["log", "repair", data]);
    assert!(
        text(&refused.stderr).contains("in use by another process"),
        "{refused:?}"
    );
    running.shut_down().await;
    let log = directory.path().join("t-0/00000000000000000000.log");
    let hurt = [7, RECORDS - 1];
    for position in hurt.map(|number| position_of(&log, number)) {
        overwrite(&log, position + 8, &[0xFF; 4]);
    }

    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    let refused = consume(&bootstrap, "7");
    assert!(!refused.status.success(), "{refused:?}");
    assert!(
        text(&refused.stderr).contains("CORRUPT_MESSAGE")
            || text(&refused.stderr).contains("CorruptMessage"),
        "{refused:?}"
    );
    let before = consume(&bootstrap, "0");
    assert!(text(&before.stdout).starts_with("v0\nv1\n"), "{before:?}");
    running.shut_down().await;

    let verified = ottla(&["log", "verify", data]);
    assert!(!verified.status.success(), "{verified:?}");
    assert_eq!(
        text(&verified.stdout).matches("damage: ").count(),
        2,
        "{verified:?}"
    );
    let listed = stdout(&ottla(&["log", "repair", data]));
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(
        listed.contains("offsets 7 to 7 become an empty batch"),
        "{listed}"
    );
    let again = ottla(&["log", "verify", data]);
    assert_eq!(again.stdout, verified.stdout, "listing changes nothing");
    let done = stdout(&ottla(&["log", "repair", data, "--execute"]));
    assert_eq!(done, listed);
    let sound = stdout(&ottla(&["log", "verify", data]));
    assert_eq!(sound.matches("taken out of a log").count(), 2, "{sound}");
    assert!(sound.contains("first-offset: 7; next-offset: 8"), "{sound}");

    let running = start(directory.path()).await;
    let bootstrap = running.addresses[0].1.to_string();
    let values = stdout(&consume(&bootstrap, "0"));
    let expected: Vec<String> = (0..RECORDS)
        .filter(|number| !hurt.contains(number))
        .map(|number| format!("v{number}"))
        .collect();
    assert_eq!(values.lines().collect::<Vec<_>>(), expected);
    running.shut_down().await;
    let sound = stdout(&ottla(&["log", "repair", data]));
    assert_eq!(sound, "");
}
