//! Fetch, its sessions and its limits, and ListOffsets.

use ottla_broker::handlers::produce::{self, ProduceReply};
use ottla_broker::handlers::{fetch, offset_for_leader_epoch};
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::{Append, RequiredAcks, replicated};
use ottla_broker::reply::Part;
use ottla_log::{Batch, Origin};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::{
    ApiKey, EndTxnMarkerData, ErrorCode, FetchRequestData, FetchResponseData,
    OffsetForLeaderEpochRequestData, offset_for_leader_epoch_request,
};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};

use crate::node::{
    PLENTY, answers, batch, batch_of, fetch_from, image, request, settled, start, start_with,
    topic_id, values,
};

#[tokio::test]
async fn answers_that_nobody_takes_hold_no_more_memory_than_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), image(0, &[]), |config| {
        config.records.fetch_buffered_max_bytes = 100;
    });
    let value = "x".repeat(60);
    node.produce(-1, batch(&[&value])).await;
    let context = node.context(ApiKey::Fetch, 11);
    let fetch = || fetch::handle(&node.broker, &context, fetch_from(0, &[0], PLENTY));
    let in_memory = |parts: &[Part]| matches!(parts, [Part::Bytes(bytes)] if !bytes.is_empty());
    let (_, first) = fetch().await;
    assert!(in_memory(&first));
    // The first is not sent yet: it stands for any number of consumers that do not read.
    let (_, second) = fetch().await;
    assert!(matches!(second.as_slice(), [Part::Stored(_)]));
    assert_eq!(second[0].len(), first[0].len());
    drop(first);
    let (_, third) = fetch().await;
    assert!(in_memory(&third));
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_no_more_files_than_they_may() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let value = "x".repeat(100_000);
    for partition in 0..2 {
        let replies = node.start_produce(vec![request(-1, partition, batch(&[&value]))]);
        for reply in replies {
            settled(reply).await;
        }
    }
    let context = node.context(ApiKey::Fetch, 11);
    let fetch = || fetch::handle(&node.broker, &context, fetch_from(0, &[0, 1], PLENTY));
    let are_stored = |parts: &[Part]| parts.iter().all(|part| matches!(part, Part::Stored(_)));
    let (_, parts) = fetch().await;
    assert!(parts.len() == 2 && are_stored(&parts));
    drop(parts);
    // Slow consumers hold half of the files: what is large is read into memory.
    let most = node.broker.descriptors.held_files;
    let mut slow: Vec<_> = (0..most / 2)
        .map(|_| node.broker.held_files.hold())
        .collect();
    let (_, parts) = fetch().await;
    assert!(
        parts
            .iter()
            .all(|part| matches!(part, Part::Bytes(bytes) if bytes.len() > 100_000))
    );
    // Answers hold all of them: the first partition is still answered, so that the client makes progress.
    slow.extend((slow.len()..most).map(|_| node.broker.held_files.hold()));
    let (_, parts) = fetch().await;
    assert!(parts[0].len() > 100_000 && parts[1].is_empty());
    drop(slow);
    let (_, parts) = fetch().await;
    assert!(are_stored(&parts));
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_reads_only_what_is_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let mut request = fetch_from(0, &[0, 1], PLENTY);
    request.max_wait_ms = 30_000;
    let (fetched, produced) = tokio::join!(node.fetch(request, 11), async {
        tokio::task::yield_now().await;
        node.start_produce(vec![self::request(0, 1, batch(&["woken"]))])
            .pop()
            .unwrap()
    });
    assert!(matches!(produced, ProduceReply::None));
    let partitions = &fetched.responses[0].partitions;
    assert_eq!(partitions[0].records.as_ref().unwrap().len(), 0);
    assert_eq!(values(partitions[1].records.as_ref().unwrap()), ["woken"]);
    assert_eq!(partitions[1].high_watermark, 1);
    let nothing = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    assert_eq!(
        nothing.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn limits_give_one_whole_batch_of_the_first_partition_that_has_any() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    for value in ["one", "two", "three"] {
        node.produce(-1, batch(&[value])).await;
    }
    node.start_produce(vec![request(-1, 1, batch(&["other"]))]);
    let fetched = node.fetch(fetch_from(0, &[0, 1], (1, 1)), 11).await;
    let partitions = &fetched.responses[0].partitions;
    assert_eq!(values(partitions[0].records.as_ref().unwrap()), ["one"]);
    assert!(partitions[1].records.as_ref().unwrap().is_empty());
    let two = i32::try_from(batch(&["one"]).len() * 2 + 10).unwrap();
    let fetched = node.fetch(fetch_from(0, &[0], (1 << 20, two)), 11).await;
    assert_eq!(
        values(fetched.responses[0].partitions[0].records.as_ref().unwrap()),
        ["one", "two"]
    );
}

#[tokio::test]
async fn offsets_and_epochs_outside_of_the_log_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(5, &[]));
    node.produce(-1, batch(&["a"])).await;
    let code = |response: &FetchResponseData| {
        ErrorCode::from(response.responses[0].partitions[0].error_code)
    };
    let beyond = node.fetch(fetch_from(2, &[0], PLENTY), 11).await;
    assert_eq!(code(&beyond), ErrorCode::OffsetOutOfRange);
    for (epoch, expected) in [
        (4, ErrorCode::FencedLeaderEpoch),
        (6, ErrorCode::UnknownLeaderEpoch),
        (5, ErrorCode::None),
    ] {
        let mut request = fetch_from(0, &[0], PLENTY);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(code(&node.fetch(request, 11).await), expected);
    }
    let mut by_id = fetch_from(0, &[0], PLENTY);
    by_id.topics[0].topic_id = Uuid::from_parts(1, 1);
    assert_eq!(
        code(&node.fetch(by_id, 13).await),
        ErrorCode::UnknownTopicId
    );
    let mut diverged = fetch_from(1, &[0], PLENTY);
    diverged.topics[0].partitions[0].last_fetched_epoch = 4;
    let diverged = node.fetch(diverged, 12).await;
    let diverging = &diverged.responses[0].partitions[0].diverging_epoch;
    assert_eq!(code(&diverged), ErrorCode::None);
    assert_eq!(
        (diverging.epoch, diverging.end_offset),
        (4, 0),
        "epoch 4 wrote nothing here"
    );

    let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
        .with_current_leader_epoch(5)
        .with_leader_epoch(5);
    let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic("t".to_owned().into())
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequestData::default().with_topics(vec![topic]);
    let context = node.context(ApiKey::OffsetForLeaderEpoch, 4);
    let response = offset_for_leader_epoch::handle(&node.broker, &context, request).await;
    let answer = &response.topics[0].partitions[0];
    assert_eq!(
        (answer.error_code, answer.leader_epoch, answer.end_offset),
        (0, 5, 1)
    );
}

#[tokio::test]
async fn readers_of_committed_records_stop_at_open_transactions_and_learn_of_aborted_ones() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    let committed = async || {
        let mut request = fetch_from(0, &[0], PLENTY);
        request.isolation_level = 1;
        let mut fetched = node.fetch(request, 11).await;
        fetched.responses.remove(0).partitions.remove(0)
    };
    node.produce(-1, batch(&["plain"])).await;
    let first = committed().await;
    assert_eq!(
        first.aborted_transactions,
        Some(vec![]),
        "an empty list, not null"
    );

    let Found::Here(partition) = node.broker.replicas.by_name("t", PartitionIndex(0)) else {
        panic!("the partition is here");
    };
    let append = async |bytes: Vec<u8>, origin| {
        let batch = [Batch::from(BatchView::first(&bytes).unwrap())];
        let now = node.broker.clock.now();
        let append = Append {
            batches: &batch,
            acks: RequiredAcks::All,
        };
        let appended = partition.append(&[append], origin, now).pop().unwrap();
        let end = appended.unwrap().last_offset.plus(1);
        if let Some(replicated) = replicated(&partition, end) {
            replicated.await.unwrap().unwrap();
        }
    };
    let transaction = BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchOptions::default()
    };
    append(
        batch_of(transaction, 1_700_000_000_000, &["undecided"]),
        Origin::Client,
    )
    .await;
    let open = committed().await;
    assert_eq!((open.high_watermark, open.last_stable_offset), (2, 1));
    assert_eq!(values(open.records.as_ref().unwrap()), ["plain"]);

    let marker = BatchOptions {
        base_sequence: -1,
        ..transaction
    };
    let abort = ControlRecord::Abort(EndTxnMarkerData::default());
    append(
        BatchBuilder::control(marker, 1_700_000_000_000, &abort),
        Origin::Coordinator,
    )
    .await;
    let aborted = committed().await;
    assert_eq!(aborted.last_stable_offset, 3);
    let known: Vec<_> = aborted.aborted_transactions.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].producer_id, known[0].first_offset), (7, 1));
    let uncommitted = node.fetch(fetch_from(0, &[0], PLENTY), 11).await;
    assert_eq!(
        uncommitted.responses[0].partitions[0].aborted_transactions,
        None
    );
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    for (timestamp, values) in [
        (1000, &["a", "b"]),
        (3000, &["c", "d"]),
        (2000, &["e", "f"]),
    ] {
        node.produce(-1, batch_of(BatchOptions::default(), timestamp, values))
            .await;
    }
    assert_eq!(node.list(-2).await, (ErrorCode::None, 0, -1));
    assert_eq!(node.list(-1).await, (ErrorCode::None, 6, -1));
    assert_eq!(node.list(-3).await, (ErrorCode::None, 2, 3000));
    assert_eq!(node.list(1001).await, (ErrorCode::None, 2, 3000));
    assert_eq!(node.list(3001).await, (ErrorCode::None, -1, -1));
    assert_eq!(node.list(-5).await, (ErrorCode::None, -1, -1));
    assert_eq!(node.list(-6).await.0, ErrorCode::UnsupportedVersion);
}

#[tokio::test]
async fn answers_can_be_encoded_in_every_version() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(5, &[]));
    node.produce(-1, batch(&["a"])).await;
    let mut out = bytes::BytesMut::new();
    for version in 1..=11 {
        let response = node.list_in(version, -1).await;
        response.write(&mut out, version).unwrap();
    }
    for version in 4..=18 {
        let mut request = fetch_from(0, &[0, 1, 7], PLENTY);
        request.topics[0].topic_id = topic_id();
        request.isolation_level = 1;
        let response = node.fetch(request, version).await;
        assert_eq!(
            response.responses[0].partitions[0].error_code, 0,
            "version {version}"
        );
        response.write(&mut out, version).unwrap();
    }
    for version in 3..=13 {
        let context = node.context(ApiKey::Produce, version);
        let mut body = request(1, 0, batch(&["a"]));
        body.topic_data[0].topic_id = topic_id();
        body.topic_data
            .extend(request(1, 0, vec![1, 2, 3]).topic_data);
        let reply = answers(&node.broker, vec![produce::Request::new(context, body)])
            .pop()
            .unwrap();
        let ProduceReply::Ready(response) = reply else {
            panic!("acks=1 is answered at once")
        };
        assert_eq!(
            response.responses[0].partition_responses[0].error_code, 0,
            "version {version}"
        );
        response.write(&mut out, version).unwrap();
    }
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path(), image(0, &[]));
    node.produce(-1, batch(&["a"])).await;
    let mut full = fetch_from(0, &[0, 1], PLENTY);
    full.session_epoch = 0;
    let opened = node.fetch(full, 11).await;
    assert_ne!(opened.session_id, 0);
    assert_eq!(opened.responses[0].partitions.len(), 2);
    let mut next = fetch_from(1, &[0], PLENTY);
    next.session_id = opened.session_id;
    next.session_epoch = 1;
    let incremental = node.fetch(next, 11).await;
    assert_eq!(
        (incremental.session_id, incremental.responses.len()),
        (opened.session_id, 0)
    );
    let unknown = FetchRequestData::default()
        .with_session_id(opened.session_id ^ 1)
        .with_session_epoch(1);
    let unknown = node.fetch(unknown, 11).await;
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound.code());
}
