//! `ottla consume` as a process: broker restarts, added partitions, and each way in which the
//! command can end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod session;

use std::fs::OpenOptions;
use std::net::TcpListener;

use rustix::process::Signal;
use session::{Session, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_is_waited_out() {
    let mut session = Session::start().await;
    session.create("t", 1);
    let arguments = ["consume", "t", "--from", "beginning"];
    let grouped = ["consume", "t", "--from", "beginning", "--group", "g"];
    let mut consumers = [session.spawn(&arguments), session.spawn(&grouped)];
    session.produce("t", "before\n");
    for consumer in &mut consumers {
        assert_eq!(consumer.line(), "before");
    }
    session.stop_broker().await;
    for consumer in &mut consumers {
        let said = consumer.says("waiting: ");
        assert!(said.contains("127.0.0.1"), "{said}");
    }
    session.start_broker().await;
    session.produce("t", "after\n");
    for consumer in &mut consumers {
        assert_eq!(consumer.line(), "after");
        consumer.signal(Signal::TERM);
    }
    for consumer in consumers {
        let (status, said) = consumer.end();
        assert!(status.success(), "{said}");
        assert_eq!(said.matches("going on after").count(), 1, "{said}");
        assert!(
            !said.contains("waiting: "),
            "the message appears once: {said}"
        );
    }
    assert_eq!(session.group("g"), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_leaves_the_group_with_what_was_printed_committed() {
    let session = Session::start().await;
    session.create("t", 2);
    let signals = [Signal::INT, Signal::TERM, Signal::HUP];
    for (round, signal) in signals.into_iter().enumerate() {
        session.produce("t", "record\n");
        let mut consumer = session.spawn(&["consume", "t", "--from", "beginning", "--group", "g"]);
        assert_eq!(consumer.line(), "record");
        consumer.signal(signal);
        let (status, said) = consumer.end();
        assert!(status.success(), "{signal:?}: {said}");
        let printed = i64::try_from(round + 1).unwrap();
        assert_eq!(session.group("g"), (0, printed), "{signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_group_waits_for_others_leaves_it_at_once() {
    let session = Session::start().await;
    session.create("t", 2);
    session.produce("t", "record\n");
    let arguments = ["consume", "t", "--from", "beginning", "--group", "g"];
    let mut first = session.spawn(&arguments);
    assert_eq!(first.line(), "record");
    // A stopped member delays the join of the next one for far longer than this test may take.
    first.signal(Signal::STOP);
    let second = session.spawn(&arguments);
    until("the second member", || session.group("g").0 == 2);
    second.signal(Signal::TERM);
    let (status, said) = second.end();
    assert!(status.success(), "{said}");
    assert_eq!(session.group("g").0, 1);
    first.signal(Signal::CONT);
    first.signal(Signal::TERM);
    assert!(first.end().0.success());
    assert_eq!(session.group("g"), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closes_the_pipe_ends_it_although_no_record_comes() {
    let session = Session::start().await;
    session.create("t", 1);
    session.produce("t", "one\ntwo\n");
    let mut consumer = session.spawn(&["consume", "t", "--from", "beginning", "--group", "g"]);
    assert_eq!(consumer.line(), "one");
    consumer.close_stdout();
    let (status, said) = consumer.end();
    assert!(status.success(), "{said}");
    // Both records were written before the reader closed the pipe.
    assert_eq!(session.group("g"), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_holds_up_no_signal() {
    let session = Session::start().await;
    session.create("t", 1);
    let line = format!("{}\n", "x".repeat(10_000));
    session.produce("t", &line.repeat(100));
    let mut consumer = session.spawn(&["consume", "t", "--from", "beginning", "--group", "g"]);
    assert_eq!(consumer.line().len(), 10_000);
    consumer.signal(Signal::TERM);
    let (status, said) = consumer.end();
    assert!(status.success(), "{said}");
    let (members, committed) = session.group("g");
    assert_eq!(members, 0);
    assert!(committed < 100, "{committed} records were not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_takes_nothing_leaves_the_group_with_nothing_committed() {
    let session = Session::start().await;
    session.create("t", 1);
    session.produce("t", "record\n");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let arguments = ["consume", "t", "--from", "beginning", "--group", "g"];
    let (status, said) = session.spawn_to(&arguments, full.into()).end();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("cannot write to stdout"), "{said}");
    assert_eq!(session.group("g"), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_read_from_their_beginning() {
    let session = Session::start().await;
    session.create("t", 1);
    let arguments = ["consume", "t"];
    let grouped = ["consume", "t", "--group", "g"];
    let mut consumers = [session.spawn(&arguments), session.spawn(&grouped)];
    // Both start at the end of the topic. Their first output shows that they have started.
    for consumer in &mut consumers {
        let mut began = false;
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| consumer.line());
            while !reading.is_finished() {
                session.produce("t", "begun\n");
            }
            began = reading.join().unwrap() == "begun";
        });
        assert!(began);
    }
    session.ottla(&["topic", "alter", "t", "--partitions", "3"]);
    let added = session.run(&["produce", "t", "--partition", "2"], "added\n");
    assert!(added.status.success(), "{added:?}");
    for consumer in &mut consumers {
        while consumer.line() != "added" {}
        consumer.signal(Signal::INT);
    }
    let [alone, member] = consumers;
    let (_, said) = alone.end();
    assert!(said.contains("topic t has 2 more partitions"), "{said}");
    assert!(member.end().0.success());
    assert_eq!(session.group("g").0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_anew_is_read_from_its_beginning() {
    let session = Session::start().await;
    session.create("t", 1);
    session.produce("t", "old 1\nold 2\nold 3\n");
    let arguments = ["consume", "t", "--from", "beginning"];
    let grouped = ["consume", "t", "--from", "beginning", "--group", "g"];
    let mut consumers = [session.spawn(&arguments), session.spawn(&grouped)];
    for consumer in &mut consumers {
        for _ in 0..3 {
            assert!(consumer.line().starts_with("old"));
        }
    }
    session.ottla(&["topic", "delete", "t", "--in-use"]);
    session.create("t", 1);
    session.produce("t", "new 1\nnew 2\nnew 3\nnew 4\nnew 5\n");
    for consumer in &mut consumers {
        assert_eq!(consumer.line(), "new 1");
        consumer.signal(Signal::TERM);
    }
    let [alone, member] = consumers;
    let (_, said) = alone.end();
    assert!(
        said.contains("topic t was deleted and created again"),
        "{said}"
    );
    assert!(member.end().0.success());
    assert_eq!(session.group("g"), (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_deleted_before_they_are_read_are_told() {
    let mut session = Session::start().await;
    session.create("t", 1);
    session.produce("t", "1\n2\n3\n");
    let read = [
        "consume",
        "t",
        "--from",
        "beginning",
        "--group",
        "g",
        "-n",
        "1",
    ];
    assert_eq!(session.ottla(&read), "1\n");
    session.stop_broker().await;
    session.start_broker().await;
    delete_records(&session, 2).await;
    let mut consumer = session.spawn(&["consume", "t", "--group", "g"]);
    assert_eq!(consumer.line(), "3", "no existing record is skipped");
    consumer.signal(Signal::TERM);
    let (_, said) = consumer.end();
    assert!(said.contains("t-0: records 1 to 1 were deleted"), "{said}");
}

async fn delete_records(session: &Session, offset: i64) {
    use ottla_client::{Cluster, Options};
    use ottla_protocol::messages::delete_records_request::{
        DeleteRecordsPartition, DeleteRecordsRequestData, DeleteRecordsTopic,
    };
    let bootstrap = [session.address()];
    let cluster = Cluster::connect(&bootstrap, Options::default())
        .await
        .unwrap();
    let request = DeleteRecordsRequestData {
        topics: vec![DeleteRecordsTopic {
            name: "t".to_owned().into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset,
                ..DeleteRecordsPartition::default()
            }],
            ..DeleteRecordsTopic::default()
        }],
        timeout_ms: 10_000,
        ..DeleteRecordsRequestData::default()
    };
    let answer = cluster.call_any(&request).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_never_answers_is_an_error_soon() {
    let session = Session::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for command in ["consume", "produce"] {
        let output = session.run(&[command, "t", "-b", &address, "--timeout", "1"], "line\n");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said.contains("did not answer ApiVersions within 1000 ms"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_outside_the_partition_is_moved_and_told() {
    let session = Session::start().await;
    session.create("t", 1);
    session.produce("t", "0\n1\n2\n3\n");
    session.ottla(&["topic", "trim", "t", "--to-offset", "2"]);
    for (from, printed, told) in [
        ("0", "2\n3\n", "t-0 begins at 2, after 0: reading from 2\n"),
        ("2", "2\n3\n", ""),
        ("4", "", ""),
        ("99", "", "t-0 ends at 4, before 99: reading from 4\n"),
        ("beginning", "2\n3\n", ""),
        ("-99", "2\n3\n", ""),
    ] {
        let output = session.run(&["consume", "t", "--from", from, "--exit"], "");
        assert!(output.status.success(), "{from}: {output:?}");
        assert_eq!(output.stdout, printed.as_bytes(), "{from}");
        assert_eq!(output.stderr, told.as_bytes(), "{from}: {output:?}");
    }
    let reset = ["group", "reset-offsets", "g", "--topic", "t"];
    for (to, told) in [
        (
            "--to-offset=1",
            "t-0 begins at 2, after 1: the new offset is 2\n",
        ),
        (
            "--to-offset=9",
            "t-0 ends at 4, before 9: the new offset is 4\n",
        ),
        ("--to-offset=3", ""),
    ] {
        let output = session.run(&[&reset[..], &[to, "--execute"]].concat(), "");
        assert!(output.status.success(), "{to}: {output:?}");
        assert_eq!(output.stderr, told.as_bytes(), "{to}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_stands_for_the_topics_that_there_are() {
    let session = Session::start().await;
    for name in ["a-1", "a-2", "b"] {
        session.create(name, 1);
        session.produce(name, &format!("{name}\n"));
    }
    for group in [&[][..], &["--group", "g"]] {
        let arguments = [
            "consume",
            "a-*",
            "-t",
            "a-1",
            "--from",
            "beginning",
            "--exit",
        ];
        let printed = session.ottla(&[&arguments, group].concat());
        let mut printed: Vec<_> = printed.lines().collect();
        printed.sort_unstable();
        assert_eq!(printed, ["a-1", "a-2"]);
    }
    for (name, said) in [
        ("z*", "no topic matches \"z*\"; `ottla topic list` shows"),
        ("bad name", "next: a topic's name has at most 249 letters"),
    ] {
        let output = session.run(&["consume", name, "--exit"], "");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_missing_is_told_with_what_to_do() {
    let session = Session::start().await;
    session.create("one", 1);
    session.create("two", 2);
    for (topic, there_are) in [("one", "only 0;"), ("two", "only 0 to 1;")] {
        let named = format!("{topic}:7");
        let reset = [
            "group",
            "reset-offsets",
            "g",
            "--to-latest",
            "--topic",
            &named,
        ];
        let consume = ["consume", topic, "--partition", "7"];
        let produce = ["produce", topic, "--partition", "7"];
        for arguments in [&reset[..], &consume, &produce] {
            let output = session.run(arguments, "");
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let text = String::from_utf8(output.stderr).unwrap();
            let said = format!(
                "topic {topic} has no partition 7, {there_are} `ottla topic alter {topic} --partitions N` adds some"
            );
            assert!(text.contains(&said), "{arguments:?}: {text}");
        }
    }
    // The topic is not created, because it would not have this partition.
    let output = session.run(&["produce", "new", "--partition", "7"], "line\n");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("with num.partitions=1 it would be created without partition 7"),
        "{text}"
    );
    assert!(!session.ottla(&["topic", "list"]).contains("new"));
    let output = session.run(&["produce", "new", "--partition", "0"], "line\n");
    assert!(output.status.success(), "{output:?}");
}
