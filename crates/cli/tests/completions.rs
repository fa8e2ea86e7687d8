//! Bash completes topics, groups and keys, which a broker in this process provides.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;

/// The candidates of bash for the last word.
fn offered(words: &[&str], bootstrap: &str) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_ottla"));
    let directory = program.parent().unwrap().display();
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = words.last().unwrap();
    let script = format!(
        "PATH={directory}:$PATH; source <(ottla completions bash); COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         _clap_complete_ottla ottla '{last}' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" "),
        words.len() - 1
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]);
    let ended = bash
        .env("OTTLA_BOOTSTRAP_SERVERS", bootstrap)
        .output()
        .unwrap();
    let offered = String::from_utf8(ended.stdout).unwrap();
    let lines = offered.lines().filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_is_offered_topics_groups_and_keys() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let kafka = running.addresses[0].1.to_string();
    for arguments in [
        &[
            "topic",
            "create",
            "greetings",
            "greens",
            "other",
            "--partitions",
            "1",
        ][..],
        &[
            "consume",
            "greens",
            "--group",
            "greeters",
            "--from",
            "beginning",
            "--exit",
        ],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        let done = command
            .args(arguments)
            .args(["-b", &kafka])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    let topics = offered(&["ottla", "topic", "describe", "gre"], &kafka);
    assert_eq!(topics, ["greens", "greetings"]);
    let by_option = offered(
        &["ottla", "group", "delete-offsets", "x", "-t", "oth"],
        &kafka,
    );
    assert_eq!(by_option, ["other"]);
    let groups = offered(&["ottla", "group", "describe", "gree"], &kafka);
    assert_eq!(groups, ["greeters"]);
    let (host, port) = kafka.split_once(':').unwrap();
    let words = ["ottla", "topic", "delete", "-b", host, ":", port, "gree"];
    assert_eq!(offered(&words, "127.0.0.1:1"), ["greens", "greetings"]);
    let keys = offered(
        &["ottla", "config", "set", "-t", "greens", "retention"],
        &kafka,
    );
    assert_eq!(keys, ["retention.bytes=", "retention.ms="]);
    let keys = offered(
        &["ottla", "config", "delete", "-t", "greens", "retention.m"],
        &kafka,
    );
    assert_eq!(keys, ["retention.ms"]);
    let commands = offered(&["ottla", "topic", "tr"], &kafka);
    assert_eq!(commands, ["trim"]);
    assert!(offered(&["ottla", "topic", "describe", "gre"], "127.0.0.1:1").is_empty());
    running.shut_down().await;
}
