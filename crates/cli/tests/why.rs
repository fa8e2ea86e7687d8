//! `ottla why` against a broker in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use ottla_broker::config::{BrokerConfig, HostPort};
use ottla_broker::process::clock::Clock;

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

fn name_partitions(why: &impl Fn(&str) -> Output, kept: &str) {
    assert_eq!(line(&why("kept:1")), line(&why("kept-1")));
    assert_eq!(line(&why("kept:1,0")), kept);
    for of in ["kept-9", "kept:9"] {
        let missing = String::from_utf8(why(of).stderr).unwrap();
        assert!(missing.contains("topic kept has no partition"), "{missing}");
    }
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
    let why = |of: &str| ottla(&["why", "compaction", of, "--http", &http]);
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
    let of_cluster = |of: &str| ottla(&["why", "compaction", of, "-b", &kafka]);
    assert_eq!(line(&of_cluster("kept")), kept);
    assert_eq!(line(&of_cluster("kept-1")).lines().count(), 1);
    // `TOPIC:INDEX` works as in the other commands.
    name_partitions(&of_cluster, &kept);
    assert_eq!(line(&why("kept:1")), line(&of_cluster("kept-1")));
    assert_eq!(line(&why("kept:1,0")), kept);
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
        "compaction",
        "kept-1",
        "--http",
        &http,
        "--output",
        "json",
    ]);
    assert!(line(&json).contains("\"is_due\": false"));
    let unknown = why("nothing-7");
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        !unknown.status.success() && said.contains("no topic or partition nothing-7"),
        "{said}"
    );
    let no_http = ottla(&["why", "compaction", "kept", "--http", &kafka]);
    let said = String::from_utf8(no_http.stderr).unwrap();
    assert!(
        said.contains("400 Bad Request: ") && said.contains("Kafka"),
        "{said}"
    );
    running.shut_down().await;
    let gone = String::from_utf8(why("kept").stderr).unwrap();
    assert!(gone.contains("ottla.http.listen"), "{gone}");
}

fn config_of(directories: &[&Path]) -> BrokerConfig {
    let directories = directories.iter().map(|path| path.display().to_string());
    let overrides = [
        "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0".to_owned(),
        format!("log.dirs={}", directories.collect::<Vec<_>>().join(",")),
        "ottla.http.listen=127.0.0.1:0".to_owned(),
    ];
    ottla_broker::config::load(None, &overrides).unwrap().config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_is_told_beside_the_others() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    let config = config_of(&[&first, &second]);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let kafka = running.addresses[0].1.to_string();
    line(&ottla(&[
        "topic",
        "create",
        "spread",
        "--partitions",
        "4",
        "-b",
        &kafka,
    ]));
    running.shut_down().await;
    // The partitions of the missing directory have no leader.
    let running = ottla_broker::start(config_of(&[&first]), Clock::start())
        .await
        .unwrap();
    let kafka = running.addresses[0].1.to_string();
    let why = |of: &str| ottla(&["why", "compaction", of, "-b", &kafka]);
    let answer = line(&why("spread"));
    let starts = answer.lines().map(|line| line.split_once(": ").unwrap().0);
    assert_eq!(
        starts.collect::<Vec<_>>(),
        ["spread-0", "spread-1", "spread-2", "spread-3"]
    );
    let leaderless = answer
        .lines()
        .filter(|line| line.contains("has no leader; `ottla cluster`"));
    let leaderless: Vec<_> = leaderless.collect();
    assert_eq!(leaderless.len(), 2, "{answer}");
    let one = leaderless[0].split_once(": ").unwrap().0;
    assert_eq!(line(&why(one)).trim_end(), leaderless[0]);
    // The other partitions can still be trimmed.
    let trimmed = ottla(&["topic", "trim", "spread", "--to-latest", "-b", &kafka]);
    let done = String::from_utf8(trimmed.stdout).unwrap();
    assert_eq!(done.lines().count(), 2, "{done}");
    let said = String::from_utf8(trimmed.stderr).unwrap();
    assert!(
        said.contains(&format!("{one} has no leader; `ottla cluster`")),
        "{said}"
    );
    assert!(
        said.contains("2 of 4 topics or partitions were not trimmed"),
        "{said}"
    );
    running.shut_down().await;
}
