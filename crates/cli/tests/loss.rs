//! `ottla loss` against a broker in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "writes the file that a node finds"
)]

use std::process::{Command, Output};

use ottla_broker::Running;
use ottla_broker::config::{BrokerConfig, HostPort};
use ottla_broker::process::clock::Clock;

/// A ledger of the first version.
const LEDGER: &str = "\
0
43a1e0c1 time=1700000000000 node=1 topic=orders topic-id=AAECAwQFBgcICQoLDA0ODw partition=3 from=10 to=15 end=15 old-leader=- new-leader=2 old-epoch=4 new-epoch=5 what=removed-diverged
00000000 damaged
";

fn ottla(running: &Running, arguments: &[&str]) -> Output {
    let kafka = running.addresses[0].1.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    let command = command.arg("loss").args(["-b", &kafka]);
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn start(directory: &std::path::Path, http: bool) -> Running {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.http = http.then(|| HostPort {
        host: "127.0.0.1".to_owned(),
        port: 0,
    });
    if !http {
        // Another broker of this machine may use the default.
        let values = &mut config.statics.values;
        values.insert("ottla.http.listen".to_owned(), String::new());
    }
    ottla_broker::start(config, Clock::start()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_what_the_ledger_of_a_node_has_until_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), true).await;
    let nothing = ottla(&running, &[]);
    assert!(nothing.status.success(), "{nothing:?}");
    assert_eq!(text(&nothing.stdout), "");
    assert!(text(&nothing.stderr).contains("no node has seen a loss"));
    running.shut_down().await;

    std::fs::write(directory.path().join("ottla-loss-ledger"), LEDGER).unwrap();
    let running = start(directory.path(), true).await;
    let shown = text(&ottla(&running, &[]).stdout);
    assert!(
        shown.contains(" orders-3: offsets 10 to 14 are lost; broker 2 became leader in epoch 5"),
        "{shown}"
    );
    assert_eq!(shown.lines().count(), 1);
    assert_eq!(text(&ottla(&running, &["--topic", "other"]).stdout), "");
    let json = text(&ottla(&running, &["--output", "json"]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["losses"][0]["to"], 15);
    assert_eq!(json["silent"], serde_json::json!([]));
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), false).await;
    let silent = ottla(&running, &[]);
    assert!(!silent.status.success(), "{silent:?}");
    let why = text(&silent.stderr);
    assert!(
        why.contains("not all nodes answered") && why.contains("broker 1: "),
        "{why}"
    );
    running.shut_down().await;
}
