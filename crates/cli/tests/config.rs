//! `ottla config set` prints a note for each config that has no effect, or none before a restart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;

/// Runs a command; returns its results followed by its messages.
fn ottla(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout) + &text(output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_config_does_not_do_is_said_at_every_level() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let address = running.addresses[0].1.to_string();
    let set = |arguments: &[&str]| {
        let bootstrap = ["config", "set", "--bootstrap-server", address.as_str()];
        ottla(&[&bootstrap, arguments].concat())
    };
    let create = [
        "topic",
        "create",
        "--bootstrap-server",
        address.as_str(),
        "t",
    ];
    ottla(&create);
    for (owner, label, idle) in [
        (["--topic", "t"].as_slice(), "topic t", "preallocate=true"),
        (
            &["--group", "g"],
            "group g",
            "share.isolation.level=read_committed",
        ),
        (&["--broker", "1"], "broker 1", "num.io.threads=9"),
        (&["--brokers"], "all brokers", "num.io.threads=9"),
    ] {
        let said = set(&[owner, &[idle]].concat());
        let (key, _) = idle.split_once('=').unwrap();
        let expected = format!(
            "changed {label}: {key}\nnote: {key}: accepted, but without effect in this release\n"
        );
        assert_eq!(said, expected, "{owner:?}");
    }
    let later = set(&["--brokers", "num.recovery.threads.per.data.dir=3"]);
    assert!(
        later.contains("takes effect when the broker starts next"),
        "{later}"
    );
    let at_once = set(&["--topic", "t", "retention.ms=5"]);
    assert_eq!(at_once, "changed topic t: retention.ms\n");
    let document = set(&[
        "--brokers",
        "num.io.threads=9",
        "log.retention.ms=5",
        "--output",
        "json",
    ]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let notes = document["changed"][0]["notes"].as_object().unwrap();
    assert_eq!(notes.keys().collect::<Vec<_>>(), ["num.io.threads"]);
    running.shut_down().await;
}
