//! `ottla why` against a broker in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use ottla_broker::clock::Clock;
use ottla_broker::config::{BrokerConfig, HostPort};

fn ottla(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .output()
        .unwrap()
}

fn line(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn says_in_one_line_why_a_partition_was_not_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    config.http = Some(HostPort {
        host: "127.0.0.1".to_owned(),
        port: 0,
    });
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let kafka = running.addresses[0].1.to_string();
    let http = running.http_address.unwrap().to_string();
    let why = |of: &str| ottla(&["why", "--http", &http, "compaction", of]);
    for (topic, policy) in [("kept", "compact"), ("dropped", "delete")] {
        let policy = format!("cleanup.policy={policy}");
        line(&ottla(&[
            "topic",
            "create",
            topic,
            "-b",
            &kafka,
            "--config",
            &policy,
            "--partitions",
            "2",
        ]));
    }
    let kept = line(&why("kept"));
    assert_eq!(kept.lines().count(), 2);
    assert!(
        kept.starts_with("kept-0: not due: nothing is dirty"),
        "{kept}"
    );
    // The leaders and their listeners come from the cluster.
    let of_cluster = |of: &str| ottla(&["why", "-b", &kafka, "compaction", of]);
    assert_eq!(line(&of_cluster("kept")), kept);
    assert_eq!(line(&of_cluster("kept-1")).lines().count(), 1);
    let missing = String::from_utf8(of_cluster("missing").stderr).unwrap();
    assert!(missing.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{missing}");
    let dropped = line(&why("dropped-1"));
    assert!(
        dropped.starts_with("dropped-1: not compacted: cleanup.policy"),
        "{dropped}"
    );
    assert_eq!(dropped.lines().count(), 1);
    let json = ottla(&[
        "why",
        "--http",
        &http,
        "--output",
        "json",
        "compaction",
        "kept-1",
    ]);
    assert!(line(&json).contains("\"is_due\": false"));
    let unknown = why("nothing-7");
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        !unknown.status.success() && said.contains("no topic or partition nothing-7"),
        "{said}"
    );
    running.shut_down().await;
    let gone = String::from_utf8(why("kept").stderr).unwrap();
    assert!(gone.contains("ottla.http.listen"), "{gone}");
}
