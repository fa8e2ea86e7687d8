//! The commands that move partitions, against a broker in this process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;

/// Runs a command; returns its result or its error.
fn run(kafka: &str, line: &str) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .args(line.split(' '))
        .args(["-b", kafka])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if status.success() {
        Ok(text(stdout))
    } else {
        Err(text(stderr))
    }
}

fn refusal(kafka: &str, line: &str) -> String {
    run(kafka, line).expect_err(line)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_moves_nothing_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let kafka = &running.addresses[0].1.to_string();
    run(kafka, "topic create orders --partitions 3").unwrap();

    let grown = refusal(kafka, "topic alter orders --replication-factor 2");
    assert!(
        grown.contains("2 replicas need 2 brokers that can take them, and there are 1"),
        "{grown}"
    );
    let same = run(kafka, "topic alter --all --replication-factor 1").unwrap();
    assert_eq!(
        same,
        "gave 0 partitions of 0 topics 1 replicas; 3 partitions have them already\n"
    );
    let both = refusal(
        kafka,
        "topic alter --all --replication-factor 1 --partitions 4",
    );
    assert!(both.contains("cannot be used with"), "{both}");
    let missing = refusal(kafka, "topic alter nothing --replication-factor 1");
    assert!(missing.contains("nothing"), "{missing}");

    let drained = refusal(kafka, "broker drain 1");
    assert!(
        drained.contains("orders-0: no other broker can take the place of broker 1"),
        "{drained}"
    );
    let unknown = refusal(kafka, "broker drain 9");
    assert!(
        unknown.contains("there is no broker 9; the brokers are 1"),
        "{unknown}"
    );
    let held = refusal(kafka, "broker remove 1");
    assert!(held.contains("broker 1 has 3 replicas"), "{held}");
    let running_still = refusal(kafka, "broker remove 1 --with-replicas");
    assert!(
        running_still.contains("broker 1 is running"),
        "{running_still}"
    );

    assert_eq!(
        run(kafka, "partition move orders:0,2 --to 1").unwrap(),
        "moved 0 partitions\n"
    );
    let nowhere = refusal(kafka, "partition move orders:0 --to 1,2");
    assert!(nowhere.contains("broker 2 is not running"), "{nowhere}");
    assert_eq!(run(kafka, "partition moves --output json").unwrap(), "[]\n");
    let nothing = refusal(kafka, "partition cancel orders");
    assert!(
        nothing.contains("none of these partitions is being moved"),
        "{nothing}"
    );
    running.shut_down().await;
}
