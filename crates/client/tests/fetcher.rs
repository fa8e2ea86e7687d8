//! What a fetcher does when the leader says that things have changed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod double;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use double::{Asked, Double, Step, Topic, all_versions, answer, metadata};
use ottla_client::{
    Cluster, ErrorCode, FetchOptions, FetchedRecords, Fetcher, Notice, OffsetSpec, Options,
    OutOfRange, StartAt, TopicPartition,
};
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{
    FetchRequestData, FetchResponseData, KafkaString, KafkaUuid, ListOffsetsRequestData,
    ListOffsetsResponseData, OffsetForLeaderEpochResponseData,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions};

fn uuid(id: u8) -> KafkaUuid {
    KafkaUuid::from_parts(u64::from(id), 1)
}

/// One partition that the double leads.
fn topic() -> Topic {
    Topic {
        id: uuid(1),
        partitions: 1,
        led: i32::MAX,
        leader_epoch: 0,
    }
}

/// A broker with the topic as `topic` tells; `other` answers what asks for neither versions, metadata nor offsets.
async fn broker(
    topic: impl Fn() -> Topic + Send + Sync + 'static,
    other: impl Fn(&Asked) -> Step + Send + Sync + 'static,
) -> Double {
    Double::start(move |asked| match asked.api {
        ApiKey::ApiVersions => all_versions(asked),
        ApiKey::Metadata => metadata(asked, topic()),
        ApiKey::ListOffsets => offsets(asked),
        _ => other(asked),
    })
    .await
}

/// A batch of `count` records from `base_offset` on, appended in this leader epoch.
fn batch(base_offset: i64, count: i64, partition_leader_epoch: i32) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset,
        partition_leader_epoch,
        ..BatchOptions::default()
    });
    for offset in base_offset..base_offset + count {
        builder.append(0, None, Some(offset.to_string().as_bytes()), &[]);
    }
    Bytes::from(builder.build().unwrap())
}

/// The topic id, and for each partition the offset that is asked for and its leader epoch.
fn fetch_of(asked: &Asked) -> (KafkaUuid, Vec<(i32, i64, i32)>) {
    let request = FetchRequestData::read(&mut asked.body.clone(), asked.version).unwrap();
    let topic = &request.topics[0];
    let partitions = topic.partitions.iter();
    let partitions = partitions.map(|of| (of.partition, of.fetch_offset, of.current_leader_epoch));
    (topic.topic_id, partitions.collect())
}

fn fetched(asked: &Asked, data: PartitionData) -> Step {
    let response = FetchResponseData {
        responses: vec![FetchableTopicResponse {
            topic: KafkaString::from_static("t"),
            topic_id: fetch_of(asked).0,
            partitions: vec![data],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponseData::default()
    };
    answer(|out| response.write(out, asked.version).unwrap())
}

fn refused(code: ErrorCode) -> PartitionData {
    PartitionData {
        error_code: code.code(),
        ..PartitionData::default()
    }
}

fn records(bytes: Bytes) -> PartitionData {
    PartitionData {
        records: Some(bytes),
        ..PartitionData::default()
    }
}

/// The log begins at 5 and ends at 9.
fn offsets(asked: &Asked) -> Step {
    let request = ListOffsetsRequestData::read(&mut asked.body.clone(), asked.version).unwrap();
    let partition = &request.topics[0].partitions[0];
    let response = ListOffsetsResponseData {
        topics: vec![ListOffsetsTopicResponse {
            name: KafkaString::from_static("t"),
            partitions: vec![ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: if partition.timestamp == -2 { 5 } else { 9 },
                ..ListOffsetsPartitionResponse::default()
            }],
            ..ListOffsetsTopicResponse::default()
        }],
        ..ListOffsetsResponseData::default()
    };
    answer(|out| response.write(out, asked.version).unwrap())
}

async fn fetcher(double: &Double, from: i64, options: FetchOptions) -> Fetcher {
    let client = Options {
        metadata_max_age: Duration::from_millis(50),
        ..Options::default()
    };
    let bootstrap = [double.address.to_string()];
    let cluster = Cluster::connect(&bootstrap, client).await.unwrap();
    cluster.topic("t").await.unwrap();
    let mut fetcher = Fetcher::new(Arc::new(cluster), options);
    fetcher.assign(BTreeMap::from([(TopicPartition::new("t", 0), from)]));
    fetcher
}

/// Polls until records come, which takes some answers and no more.
async fn next(fetcher: &mut Fetcher) -> FetchedRecords {
    for _ in 0..10_000 {
        let arrived = fetcher.poll().await.unwrap();
        let mut arrived = arrived.into_iter();
        if let Some(records) = arrived.find(|records| !records.records.is_empty()) {
            return records;
        }
    }
    panic!("no records come: {:?}", fetcher.take_notices());
}

#[tokio::test]
async fn a_log_cut_off_by_a_new_leader_is_read_on_where_it_ends() {
    // Two records of epoch 3 were read, then a leader of epoch 4 has only the first of them.
    let epoch = Arc::new(Mutex::new(3));
    let now = Arc::clone(&epoch);
    let led = Arc::clone(&epoch);
    let led = move || Topic {
        leader_epoch: *led.lock().unwrap(),
        ..topic()
    };
    let double = broker(led, move |asked| match asked.api {
        ApiKey::OffsetForLeaderEpoch => {
            let response = OffsetForLeaderEpochResponseData {
                topics: vec![OffsetForLeaderTopicResult {
                    topic: KafkaString::from_static("t"),
                    partitions: vec![EpochEndOffset {
                        leader_epoch: 3,
                        end_offset: 1,
                        ..EpochEndOffset::default()
                    }],
                    ..OffsetForLeaderTopicResult::default()
                }],
                ..OffsetForLeaderEpochResponseData::default()
            };
            answer(|out| response.write(out, asked.version).unwrap())
        }
        _ => match fetch_of(asked).1[0] {
            (_, 0, _) => fetched(asked, records(batch(0, 2, 3))),
            (_, 2, 3) => {
                *now.lock().unwrap() = 4;
                fetched(asked, refused(ErrorCode::FencedLeaderEpoch))
            }
            (_, 1, 4) => fetched(asked, records(batch(1, 1, 4))),
            _ => Step::Silence,
        },
    })
    .await;
    let mut fetcher = fetcher(&double, 0, FetchOptions::default()).await;
    assert_eq!(next(&mut fetcher).await.next_offset, 2);
    assert_eq!(next(&mut fetcher).await.position, 1);
    let truncated = Notice::Truncated {
        partition: TopicPartition::new("t", 0),
        from: 2,
        to: 1,
    };
    assert_eq!(fetcher.take_notices(), [truncated]);
}

/// A broker whose log holds the offsets 5 to 8 and nothing else.
async fn broker_of_a_short_log() -> Double {
    broker(topic, |asked| match fetch_of(asked).1[0].1 {
        5 => fetched(asked, records(batch(5, 4, 0))),
        9 => fetched(asked, records(batch(9, 1, 0))),
        _ => fetched(asked, refused(ErrorCode::OffsetOutOfRange)),
    })
    .await
}

#[tokio::test]
async fn what_lies_before_the_log_is_read_from_its_beginning_whatever_the_policy() {
    let double = broker_of_a_short_log().await;
    for out_of_range in [OutOfRange::Earliest, OutOfRange::Latest] {
        let options = FetchOptions {
            out_of_range,
            ..FetchOptions::default()
        };
        let mut fetcher = fetcher(&double, 2, options).await;
        assert_eq!(next(&mut fetcher).await.position, 5);
        let said = fetcher.take_notices()[0].to_string();
        assert!(said.contains("t-0: records 2 to 4 were deleted"), "{said}");
    }
}

#[tokio::test]
async fn what_lies_behind_the_log_is_read_as_the_policy_says() {
    let double = broker_of_a_short_log().await;
    for (out_of_range, position) in [(OutOfRange::Earliest, 5), (OutOfRange::Latest, 9)] {
        let options = FetchOptions {
            out_of_range,
            ..FetchOptions::default()
        };
        let mut fetcher = fetcher(&double, 20, options).await;
        assert_eq!(next(&mut fetcher).await.position, position);
    }
    let options = FetchOptions {
        out_of_range: OutOfRange::Fail,
        ..FetchOptions::default()
    };
    let mut fetcher = fetcher(&double, 20, options).await;
    let error = loop {
        if let Err(error) = fetcher.poll().await {
            break error;
        }
    };
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn a_topic_with_another_id_is_read_from_its_beginning_and_never_in_its_middle() {
    let metadata_calls = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&metadata_calls);
    // The first two answers are those of the start.
    let recreated = move || Topic {
        id: uuid(1 + u8::from(calls.fetch_add(1, Ordering::Relaxed) >= 2)),
        ..topic()
    };
    let double = broker(recreated, |asked| match fetch_of(asked) {
        (id, of) if id == uuid(2) && of[0].1 == 5 => fetched(asked, records(batch(5, 1, 0))),
        (id, _) if id == uuid(1) => fetched(asked, refused(ErrorCode::UnknownTopicId)),
        other => panic!("a fetch in the middle of the new topic: {other:?}"),
    })
    .await;
    let mut fetcher = fetcher(&double, 7, FetchOptions::default()).await;
    assert_eq!(next(&mut fetcher).await.position, 5);
    let topic = "t".to_owned();
    assert!(
        fetcher
            .take_notices()
            .contains(&Notice::TopicRecreated { topic })
    );
}

#[tokio::test]
async fn partitions_that_are_added_to_a_watched_topic_are_read_from_their_beginning() {
    let partitions = Arc::new(Mutex::new(1));
    let now = Arc::clone(&partitions);
    let grown = move || Topic {
        partitions: *now.lock().unwrap(),
        ..topic()
    };
    let double = broker(grown, |asked| {
        let asked_for = fetch_of(asked).1;
        match asked_for.iter().find(|(partition, ..)| *partition == 1) {
            Some((partition_index, 5, _)) => fetched(
                asked,
                PartitionData {
                    partition_index: *partition_index,
                    ..records(batch(5, 1, 0))
                },
            ),
            _ => fetched(asked, records(Bytes::new())),
        }
    })
    .await;
    let mut fetcher = fetcher(&double, 9, FetchOptions::default()).await;
    fetcher.watch("t");
    fetcher.poll().await.unwrap();
    *partitions.lock().unwrap() = 2;
    let records = next(&mut fetcher).await;
    assert_eq!(records.partition, TopicPartition::new("t", 1));
    let (topic, count) = ("t".to_owned(), 1);
    assert_eq!(
        fetcher.take_notices(),
        [Notice::PartitionsAdded { topic, count }]
    );
}

#[tokio::test]
async fn a_leader_that_hangs_up_is_waited_for_until_patience_ends() {
    let double = broker(topic, |_| Step::Close).await;
    let options = FetchOptions {
        patience: Some(Duration::from_millis(300)),
        ..FetchOptions::default()
    };
    let mut fetcher = fetcher(&double, 0, options).await;
    let error = loop {
        if let Err(error) = fetcher.poll().await {
            break error;
        }
    };
    assert!(error.is_retriable(), "{error}");
    let notices = fetcher.take_notices();
    assert!(
        matches!(notices[..], [Notice::Waiting { .. }]),
        "{notices:?}"
    );
}

/// Partition 0 has records from 5 to 9 and a leader, partition 1 the same, and a leader once `led` is 2.
async fn broker_without_a_leader(led: &Arc<AtomicUsize>) -> Double {
    let led = Arc::clone(led);
    let led = move || Topic {
        partitions: 2,
        led: i32::try_from(led.load(Ordering::Relaxed)).unwrap(),
        ..topic()
    };
    broker(led, |asked| {
        // A partition at its end would have the leader wait.
        let (_, partitions) = fetch_of(asked);
        let open = partitions.iter().find(|(_, offset, _)| *offset < 9);
        match open {
            Some((partition_index, offset, _)) => fetched(
                asked,
                PartitionData {
                    partition_index: *partition_index,
                    ..records(batch(*offset, 9 - offset, 0))
                },
            ),
            None => fetched(asked, records(Bytes::new())),
        }
    })
    .await
}

#[tokio::test]
async fn a_partition_without_a_leader_is_read_when_it_has_one_and_holds_up_no_other() {
    for (at, first) in [
        (StartAt::Found(OffsetSpec::Earliest), 5),
        (StartAt::BeforeEnd(2), 7),
        (StartAt::BeforeEnd(100), 5),
        (StartAt::Offset(6), 6),
    ] {
        let led = Arc::new(AtomicUsize::new(1));
        let double = broker_without_a_leader(&led).await;
        let mut fetcher = fetcher(&double, 5, FetchOptions::default()).await;
        let waiting = TopicPartition::new("t", 1);
        fetcher.add(waiting.clone(), at);
        assert!(fetcher.reads(&waiting));
        let records = next(&mut fetcher).await;
        assert_eq!((records.partition.partition, records.next_offset), (0, 9));
        led.store(2, Ordering::Relaxed);
        let records = next(&mut fetcher).await;
        assert_eq!(records.partition, waiting, "{at:?}");
        assert_eq!(records.records[0].offset, first, "{at:?}");
    }
}

#[tokio::test]
async fn a_partition_that_gets_no_leader_is_waited_for_until_patience_ends() {
    let led = Arc::new(AtomicUsize::new(1));
    let double = broker_without_a_leader(&led).await;
    let options = FetchOptions {
        patience: Some(Duration::ZERO),
        ..FetchOptions::default()
    };
    let mut fetcher = fetcher(&double, 9, options).await;
    let latest = StartAt::Found(OffsetSpec::Latest);
    fetcher.add(TopicPartition::new("t", 1), latest);
    let mut outcome = Ok(Vec::new());
    for _ in 0..100_000 {
        outcome = fetcher.poll().await;
        if outcome.is_err() {
            break;
        }
    }
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::LeaderNotAvailable));
    assert!(error.to_string().contains("t-1 has no leader"), "{error}");
}
