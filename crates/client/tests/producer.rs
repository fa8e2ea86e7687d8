//! What a producer does when the broker refuses, and when there is none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod double;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use double::{Asked, Double, Step, Topic, all_versions, answer, metadata};
use ottla_client::{
    Acks, Cluster, ErrorCode, Notice, Options, Producer, ProducerOptions, ProducerRecord,
};
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use ottla_protocol::messages::{
    InitProducerIdResponseData, ProduceRequestData, ProduceResponseData,
};
use ottla_protocol::records::BatchView;

/// A broker that leads `t` and answers Produce as `produce` says.
async fn broker(produce: impl Fn(&Asked) -> Step + Send + Sync + 'static) -> Double {
    Double::start(move |asked| match asked.api {
        ApiKey::ApiVersions => all_versions(asked),
        ApiKey::Metadata => metadata(asked, Topic::default()),
        ApiKey::InitProducerId => {
            let response = InitProducerIdResponseData {
                producer_id: 7,
                producer_epoch: 0,
                ..InitProducerIdResponseData::default()
            };
            answer(|out| response.write(out, asked.version).unwrap())
        }
        _ => produce(asked),
    })
    .await
}

async fn cluster(double: &Double) -> Arc<Cluster> {
    let bootstrap = [double.address.to_string()];
    let client = Options {
        retry_for: Duration::from_millis(200),
        ..Options::default()
    };
    Arc::new(Cluster::connect(&bootstrap, client).await.unwrap())
}

async fn producer(double: &Double, options: ProducerOptions) -> Producer {
    let cluster = cluster(double).await;
    Producer::new(cluster, options).await.unwrap()
}

fn record(partition: i32, value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: "t".to_owned(),
        partition: Some(partition),
        value: Some(Bytes::from(value.to_owned())),
        ..ProducerRecord::default()
    }
}

/// The base sequence and size of each batch in a Produce request, by partition.
fn batches(asked: &Asked) -> Vec<(i32, i32, i32)> {
    let request = ProduceRequestData::read(&mut asked.body.clone(), asked.version).unwrap();
    let partitions = request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data);
    let header = |bytes: &Bytes| *BatchView::first(bytes).unwrap().header();
    let described = partitions.map(|data| {
        let header = header(data.records.as_ref().unwrap());
        (data.index, header.base_sequence, header.record_count)
    });
    described.collect()
}

/// The same code for every partition of the request.
fn produced(asked: &Asked, code: i16) -> Step {
    let partition = |(index, base_sequence, _)| PartitionProduceResponse {
        index,
        error_code: code,
        base_offset: i64::from(base_sequence),
        ..PartitionProduceResponse::default()
    };
    let response = ProduceResponseData {
        responses: vec![TopicProduceResponse {
            name: "t".to_owned().into(),
            partition_responses: batches(asked).into_iter().map(partition).collect(),
            ..TopicProduceResponse::default()
        }],
        ..ProduceResponseData::default()
    };
    answer(|out| response.write(out, asked.version).unwrap())
}

#[tokio::test]
async fn a_batch_that_is_tried_again_stays_before_the_next() {
    let attempts = AtomicUsize::new(0);
    let appended = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&appended);
    let double = broker(move |asked| {
        // The first answer is that of a former leader, then the connection is closed: the batch is sent again both times.
        match attempts.fetch_add(1, Ordering::Relaxed) {
            0 => produced(asked, ErrorCode::NotLeaderOrFollower.code()),
            1 => Step::Close,
            _ => {
                log.lock().unwrap().extend(batches(asked));
                produced(asked, 0)
            }
        }
    })
    .await;
    let options = ProducerOptions {
        batch_bytes: 200,
        ..ProducerOptions::default()
    };
    let mut producer = producer(&double, options).await;
    for n in 0..100 {
        producer
            .send(&record(0, &format!("record {n}")))
            .await
            .unwrap();
    }
    producer.flush().await;
    let mut next = 0;
    for (_, base_sequence, count) in appended.lock().unwrap().iter() {
        assert_eq!(*base_sequence, next, "batches arrive once and in order");
        next += count;
    }
    assert_eq!(next, 100);
    let outcomes = producer.take_outcomes();
    let tickets = outcomes.iter().flat_map(|outcome| &outcome.tickets);
    let tickets: Vec<u64> = tickets.map(|ticket| ticket.0).collect();
    assert_eq!(tickets, (0..100).collect::<Vec<_>>());
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
}

#[tokio::test]
async fn an_error_that_stays_is_the_outcome_of_its_batch_only() {
    let double = broker(|asked| {
        let has_first = batches(asked).iter().any(|(partition, ..)| *partition == 0);
        let code = ErrorCode::MessageTooLarge.code();
        produced(asked, if has_first { code } else { 0 })
    })
    .await;
    let mut producer = producer(&double, ProducerOptions::default()).await;
    for partition in [0, 1] {
        producer.send(&record(partition, "value")).await.unwrap();
        producer.flush().await;
    }
    let outcomes = producer.take_outcomes();
    let refused = outcomes[0].result.as_ref().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::MessageTooLarge));
    assert!(outcomes[1].result.is_ok());
}

#[tokio::test]
async fn a_batch_that_the_broker_had_already_counts_as_written() {
    let double = broker(|asked| produced(asked, ErrorCode::DuplicateSequenceNumber.code())).await;
    let mut producer = producer(&double, ProducerOptions::default()).await;
    producer.send(&record(0, "value")).await.unwrap();
    producer.flush().await;
    assert!(producer.take_outcomes()[0].result.is_ok());
}

#[tokio::test]
async fn a_partition_that_is_not_there_ends_with_an_outcome() {
    let double = broker(|asked| produced(asked, 0)).await;
    let options = ProducerOptions {
        delivery_timeout: Duration::from_millis(50),
        ..ProducerOptions::default()
    };
    let mut producer = producer(&double, options).await;
    producer.send(&record(9, "value")).await.unwrap();
    producer.flush().await;
    let outcomes = producer.take_outcomes();
    let error = outcomes[0].result.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(!producer.has_unsettled());
}

/// Options with acks=0, and one batch for each record.
fn unacknowledged() -> ProducerOptions {
    ProducerOptions {
        acks: Acks::Zero,
        idempotent: false,
        batch_bytes: 1,
        ..ProducerOptions::default()
    }
}

#[tokio::test]
async fn with_acks_0_requests_that_begin_together_all_arrive() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrived);
    let double = broker(move |asked| {
        let batches = batches(asked).into_iter();
        log.lock()
            .unwrap()
            .extend(batches.map(|(partition, ..)| partition));
        Step::Silence
    })
    .await;
    let mut producer = producer(&double, unacknowledged()).await;
    // Two requests to one leader that is not connected yet.
    for partition in [0, 1] {
        producer.send(&record(partition, "value")).await.unwrap();
    }
    producer.flush().await;
    let mut arrived = arrived.lock().unwrap().clone();
    arrived.sort_unstable();
    assert_eq!(arrived, [0, 1]);
    assert_eq!(producer.take_notices(), []);
}

#[tokio::test]
async fn with_acks_0_a_connection_that_broke_is_told_although_another_works() {
    let requests = AtomicUsize::new(0);
    let double = broker(move |_| match requests.fetch_add(1, Ordering::Relaxed) {
        0 => Step::Close,
        _ => Step::Silence,
    })
    .await;
    let cluster = cluster(&double).await;
    let first = cluster.node(1).await.unwrap();
    let mut producer = Producer::new(cluster, unacknowledged()).await.unwrap();
    producer.send(&record(0, "lost")).await.unwrap();
    producer.step().await;
    while !first.is_broken() {
        tokio::task::yield_now().await;
    }
    producer.send(&record(0, "arrives")).await.unwrap();
    producer.flush().await;
    let notices = producer.take_notices();
    assert!(
        matches!(notices[..], [Notice::Unconfirmed { .. }]),
        "{notices:?}"
    );
}

#[tokio::test]
async fn a_batch_without_an_answer_stays_in_doubt_when_the_broker_goes() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    // The first Produce may be in the log; from then on the broker closes every connection.
    let double = Double::start(move |asked| match asked.api {
        ApiKey::ApiVersions if counted.load(Ordering::Relaxed) == 0 => all_versions(asked),
        ApiKey::Metadata => metadata(asked, Topic::default()),
        ApiKey::Produce => {
            counted.fetch_add(1, Ordering::Relaxed);
            Step::Close
        }
        _ => Step::Close,
    })
    .await;
    let options = ProducerOptions {
        idempotent: false,
        delivery_timeout: Duration::from_millis(400),
        ..ProducerOptions::default()
    };
    let mut producer = producer(&double, options).await;
    producer.send(&record(0, "value")).await.unwrap();
    producer.flush().await;
    let outcomes = producer.take_outcomes();
    assert!(outcomes[0].result.is_err());
    assert!(outcomes[0].is_in_doubt);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let notices = producer.take_notices();
    let is_over = |notice: &Notice| matches!(notice, Notice::Resumed { .. });
    assert!(!notices.iter().any(is_over), "{notices:?}");
}

#[tokio::test]
async fn a_batch_that_is_refused_or_was_never_sent_is_in_no_doubt() {
    let double = broker(|asked| produced(asked, ErrorCode::MessageTooLarge.code())).await;
    let options = ProducerOptions {
        delivery_timeout: Duration::from_millis(50),
        ..ProducerOptions::default()
    };
    let mut producer = producer(&double, options).await;
    // The partition of the second record does not exist.
    for partition in [0, 9] {
        producer.send(&record(partition, "value")).await.unwrap();
    }
    producer.flush().await;
    let outcomes = producer.take_outcomes();
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert!(
            outcome.result.is_err() && !outcome.is_in_doubt,
            "{outcome:?}"
        );
    }
}
