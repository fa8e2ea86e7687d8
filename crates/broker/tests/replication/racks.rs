//! Consumers with a rack read from the follower in it (KIP-392).

use std::time::Duration;

use ottla_broker::Running;
use ottla_broker::handlers::fetch;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::{ApiKey, ErrorCode, FetchRequestData, KafkaString};

use crate::pair::{FIRST, LONG, Pair, SECOND, Times, eventually, found, produce};
use crate::support;

/// The newest version in which topics are named.
const BY_NAME: i16 = 12;
/// The newest version without racks.
const WITHOUT_RACK: i16 = 10;

/// What a consumer is answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: ErrorCode,
    /// The replica to read from instead, or -1.
    replica: i32,
    has_records: bool,
}

/// The answer to a consumer that reads topic `t` and waits up to `wait` for a record.
async fn consume(
    running: &Running,
    (rack, version): (&'static str, i16),
    (offset, wait): (i64, Duration),
) -> Answer {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(KafkaString::from_static("t"))
        .with_topic_id(Uuid::default())
        .with_partitions(vec![partition]);
    let request = FetchRequestData::default()
        .with_replica_id(-1)
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap())
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_rack_id(KafkaString::from_static(rack))
        .with_topics(vec![topic]);
    let mut context = support::context(ApiKey::Fetch);
    context.version = version;
    let answered = fetch::handle(&running.broker, &context, request);
    let (response, records) = tokio::time::timeout(LONG, answered).await.unwrap();
    let answer = &response.responses[0].partitions[0];
    Answer {
        code: ErrorCode::from(answer.error_code),
        replica: answer.preferred_read_replica,
        has_records: records.iter().any(|part| !part.is_empty()),
    }
}

const RECORDS: Answer = Answer {
    code: ErrorCode::None,
    replica: -1,
    has_records: true,
};

fn failed(code: ErrorCode) -> Answer {
    Answer {
        code,
        replica: -1,
        has_records: false,
    }
}

async fn pair() -> Pair {
    let times = Times {
        wait: Duration::from_millis(20),
        ..Times::default()
    };
    let pair = Pair::start(times).await;
    pair.create_topic("t", "1").await;
    pair.isr("t", &[FIRST, SECOND]).await;
    let leader = found(&pair.first.broker.replicas, "t");
    produce(&pair.first.broker, &leader, "one").await;
    pair
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_sent_to_the_follower_in_its_rack() {
    let pair = pair().await;
    let at_once = (0, Duration::ZERO);
    let sent = Answer {
        replica: SECOND.0,
        ..failed(ErrorCode::None)
    };
    let told = consume(&pair.first, ("rack-2", BY_NAME), (0, LONG * 10)).await;
    assert_eq!(told, sent, "and it does not wait for that");
    let told = consume(&pair.first, ("rack-2", BY_NAME), (1, LONG * 10)).await;
    assert_eq!(told, sent, "also at the end of the log");
    for near in [
        ("rack-1", BY_NAME),
        ("rack-9", BY_NAME),
        ("", BY_NAME),
        ("rack-2", WITHOUT_RACK),
    ] {
        assert_eq!(
            consume(&pair.first, near, at_once).await,
            RECORDS,
            "{near:?}"
        );
    }
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_consumers_up_to_the_high_watermark_it_knows() {
    let pair = pair().await;
    let near = ("rack-2", BY_NAME);
    let follower = found(&pair.second.broker.replicas, "t");
    eventually("the follower hears of the high watermark", || {
        follower.offsets().unwrap().high_watermark.0 == 1
    })
    .await;
    let at_once = (0, Duration::ZERO);
    assert_eq!(consume(&pair.second, near, at_once).await, RECORDS);
    assert_eq!(
        consume(&pair.second, ("", WITHOUT_RACK), at_once).await,
        failed(ErrorCode::NotLeaderOrFollower),
        "it does not know that a follower may answer"
    );
    assert_eq!(
        consume(&pair.second, near, (5, Duration::ZERO)).await,
        failed(ErrorCode::OffsetOutOfRange)
    );
    let leader = found(&pair.first.broker.replicas, "t");
    let waiting = consume(&pair.second, near, (1, LONG * 10));
    let producing = produce(&pair.first.broker, &leader, "two");
    assert_eq!(tokio::join!(waiting, producing).0, RECORDS);
    pair.shut_down().await;
}
