//! `ottla produce` as a process: however it ends, it prints how many lines are written and from
//! which line to go on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod session;

use std::process::Output;

use rustix::process::Signal;
use session::{Session, until};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(session: &Session, topic: &str) -> Vec<String> {
    let printed = session.ottla(&["consume", topic, "--from", "beginning", "--exit"]);
    printed.lines().map(str::to_owned).collect()
}

fn last(session: &Session) -> Option<String> {
    records(session, "t").pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_ends_it_behind_the_lines_before() {
    let session = Session::start().await;
    session.create("t", 3);
    let mut lines: Vec<_> = (1..5000).map(|n| format!("{n}:value {n}")).collect();
    lines.push("no separator".to_owned());
    lines.push("5001:value".to_owned());
    session.file("lines.txt", &lines.join("\n"));
    let arguments = ["produce", "t", "lines.txt", "--key-separator", ":"];
    let output = session.run(&arguments, "");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("wrote 4999 records to 3 partitions of t"),
        "{text}"
    );
    assert!(text.contains(": lines 1 to 4999\n"), "{text}");
    assert!(
        text.contains(
            "next: correct line 5000; then go on with --from-line 5000, or leave line 5000 out with --from-line 5001\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("line 5000 of the input: it has no key separator"),
        "{text}"
    );
    assert_eq!(records(&session, "t").len(), 4999);
    // The suggested next step works.
    lines[4999] = "5000:mended".to_owned();
    session.file("lines.txt", &lines.join("\n"));
    let output = session.run(&[&arguments[..], &["--from-line", "5000"]].concat(), "");
    assert!(said(&output).contains("wrote 2 records"), "{output:?}");
    assert_eq!(records(&session, "t").len(), 5001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_writes_what_was_read() {
    let session = Session::start().await;
    session.create("t", 1);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut producer = session.spawn(&["produce", "t"]);
        producer.writes("record\n");
        // When the input pauses, the lines read so far are sent.
        until("record", || last(&session).as_deref() == Some("record"));
        producer.writes("last\n");
        until("last", || last(&session).as_deref() == Some("last"));
        producer.signal(signal);
        let (status, text) = producer.end();
        assert!(status.success(), "{text}");
        assert!(text.contains("wrote 2 records"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_for_good_ends_it_with_the_line_to_go_on_from() {
    let mut session = Session::start().await;
    session.create("t", 1);
    let mut producer = session.spawn(&["produce", "t", "--timeout", "1"]);
    producer.writes("one\ntwo\n");
    until("two", || records(&session, "t").len() == 2);
    session.stop_broker().await;
    producer.writes("three\nfour\n");
    producer.says("waiting: ");
    let (status, text) = producer.end();
    assert_eq!(status.code(), Some(1));
    assert!(!text.contains("going on after"), "{text}");
    assert!(
        text.contains("wrote 2 records to 1 partition of t"),
        "{text}"
    );
    assert!(text.contains(": lines 1 to 2\n"), "{text}");
    assert!(text.contains("then go on with --from-line 3\n"), "{text}");
    assert!(
        text.contains("line 3 of the input was not written"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_is_waited_out() {
    let mut session = Session::start().await;
    session.create("t", 1);
    let mut producer = session.spawn(&["produce", "t"]);
    producer.writes("before\n");
    until("before", || !records(&session, "t").is_empty());
    session.stop_broker().await;
    producer.writes("meanwhile\n");
    producer.says("waiting: ");
    session.start_broker().await;
    producer.says("going on after");
    producer.signal(Signal::TERM);
    let (status, text) = producer.end();
    assert!(status.success(), "{text}");
    assert_eq!(records(&session, "t"), ["before", "meanwhile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_that_is_too_large_is_named_by_its_line() {
    let session = Session::start().await;
    let config = "max.message.bytes=10000";
    session.ottla(&[
        "topic",
        "create",
        "t",
        "--partitions",
        "1",
        "--config",
        config,
    ]);
    // Far more than one batch can hold; only one of the records is too large.
    let mut lines = vec!["x".repeat(1000); 300];
    lines[200] = "y".repeat(20_000);
    let output = session.run(&["produce", "t"], &lines.join("\n"));
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("line 201 of the input was not written"),
        "{text}"
    );
    assert!(text.contains("MESSAGE_TOO_LARGE"), "{text}");
    assert!(text.contains("wrote 200 records"), "{text}");
    assert!(
        text.contains(
            "then go on with --from-line 201, or leave line 201 out with --from-line 202\n"
        ),
        "{text}"
    );
    assert_eq!(records(&session, "t"), lines[..200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_to_is_said_before_a_line_is_read() {
    let session = Session::start().await;
    session.create("t", 2);
    let output = session.run(&["produce", "t", "--partition", "7"], "line\n");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("topic t has no partition 7, only 0 to 1"),
        "{text}"
    );
    let output = session.run(&["produce", "-t", "t", "nothing.txt"], "");
    assert!(
        said(&output).contains("cannot open nothing.txt"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nobody_creates_is_said_at_once() {
    let mut session = Session::start().await;
    let created = session.run(&["produce", "created"], "line\n");
    assert!(created.status.success(), "{created:?}");
    session.stop_broker().await;
    session.auto_create = false;
    session.start_broker().await;
    let output = session.run(&["produce", "missing"], "line\n");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("auto.create.topics.enable is false"),
        "{text}"
    );
    assert!(text.contains("`ottla topic create NAME`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_said_in_json_too() {
    let session = Session::start().await;
    session.create("t", 1);
    let arguments = ["produce", "t", "--key-separator", ":", "--output", "json"];
    let output = session.run(&arguments, "1:one\nbad\n");
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["records"], 1);
    assert_eq!(document["complete"], false);
    assert_eq!(document["next_line"], 2);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"], "line 2 of the input");
    assert_eq!(
        error["next"],
        "correct line 2; then go on with --from-line 2, or leave line 2 out with --from-line 3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_says_what_it_waits_for_and_a_second_gives_up() {
    let mut session = Session::start().await;
    session.create("t", 1);
    let mut producer = session.spawn(&["produce", "t"]);
    producer.writes("one\n");
    until("one", || !records(&session, "t").is_empty());
    session.stop_broker().await;
    producer.writes("two\n");
    producer.says("waiting: ");
    producer.signal(Signal::TERM);
    producer.says("waiting for 1 record to be acknowledged; a second signal gives up");
    producer.signal(Signal::TERM);
    let (status, text) = producer.end();
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("ended by SIGTERM before every record was acknowledged"),
        "{text}"
    );
    assert!(text.contains("next: go on with --from-line 2; "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_ends_before_its_first_line_is_an_error() {
    let session = Session::start().await;
    session.create("t", 1);
    let output = session.run(&["produce", "t", "--from-line", "5"], "one\n");
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.ends_with("error: the input has only 1 line, and --from-line is 5\n"),
        "{text}"
    );
    // A start after the last line reads nothing.
    let output = session.run(&["produce", "t", "--from-line", "2"], "one\n");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_acks_0_a_connection_that_ends_in_a_pause_is_no_loss() {
    let mut session = Session::start().await;
    session.create("t", 1);
    let mut producer = session.spawn(&["produce", "t", "--acks", "0"]);
    producer.writes("one\n");
    until("one", || last(&session).as_deref() == Some("one"));
    session.stop_broker().await;
    session.start_broker().await;
    producer.writes("two\n");
    until("two", || last(&session).as_deref() == Some("two"));
    producer.signal(Signal::TERM);
    let (status, text) = producer.end();
    assert!(status.success(), "{text}");
    assert!(!text.contains("may be lost"), "{text}");
}
