//! Checks of producing and consuming.

use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use crate::{Compat, DEADLINE, Outcome, expect};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A record as it is sent, and as it must come back.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub index: String,
    pub timestamp: i64,
}

/// An hour ago, so that neither retention nor the limit on early records applies; the same for the whole run.
fn start() -> i64 {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *START.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        i64::try_from(now.as_secs()).expect("before the year 292 billion") * 1000 - 3_600_000
    })
}

/// Keys, a null key, a null value, a header, own timestamps.
pub fn records(count: i32) -> Vec<Sent> {
    (0..count)
        .map(|index| Sent {
            partition: index % 3,
            key: (index % 10 != 9).then(|| format!("key-{}", index % 7).into_bytes()),
            value: (index % 10 != 8)
                .then(|| format!("value-{index}-{}", "x".repeat(200)).into_bytes()),
            index: index.to_string(),
            timestamp: start() + i64::from(index) * 1000,
        })
        .collect()
}

/// Produces all records; returns their offsets.
pub async fn produce(
    compat: &Compat,
    of: &str,
    sent: &[Sent],
    settings: &[(&str, &str)],
) -> Outcome<Vec<i64>> {
    let mut config = compat.config();
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: FutureProducer = config.create()?;
    let topic = compat.name(of);
    let mut waiting = Vec::new();
    for record in sent {
        let headers = OwnedHeaders::new().insert(Header {
            key: "index",
            value: Some(&record.index),
        });
        let mut future = FutureRecord::to(&topic)
            .partition(record.partition)
            .timestamp(record.timestamp)
            .headers(headers);
        future.key = record.key.as_ref();
        future.payload = record.value.as_ref();
        waiting.push(producer.send_result(future).map_err(|(error, _)| error)?);
    }
    let mut offsets = Vec::new();
    for answer in waiting {
        let delivered = tokio::time::timeout(DEADLINE, answer).await??;
        offsets.push(delivered.map_err(|(error, _)| error)?.offset);
    }
    Ok(offsets)
}

pub fn consumer(
    compat: &Compat,
    group: &str,
    settings: &[(&str, &str)],
) -> Outcome<StreamConsumer> {
    let mut config = compat.config();
    config
        .set("group.id", compat.name(group))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "500");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok(config.create()?)
}

fn received(message: &OwnedMessage) -> Outcome<Sent> {
    let headers = message.headers().ok_or("the headers are gone")?;
    Ok(Sent {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        index: String::from_utf8(headers.get(0).value.ok_or("a null header")?.to_vec())?,
        timestamp: message.timestamp().to_millis().ok_or("no timestamp")?,
    })
}

/// Consumes exactly `count` records.
pub async fn take(reader: &StreamConsumer, count: usize) -> Outcome<Vec<Sent>> {
    let mut found = Vec::new();
    while found.len() < count {
        let message = tokio::time::timeout(DEADLINE, reader.recv())
            .await
            .map_err(|_| format!("only {} of {count} records came", found.len()))??;
        found.push(received(&message.detach())?);
    }
    Ok(found)
}

pub fn of(records: &[Sent], partition: i32) -> Vec<&Sent> {
    records
        .iter()
        .filter(|record| record.partition == partition)
        .collect()
}

fn expect_same(sent: &[Sent], found: &[Sent]) -> Outcome {
    for partition in 0..3 {
        expect(
            of(sent, partition) == of(found, partition),
            format!("partition {partition} differs"),
        )?;
    }
    Ok(())
}

async fn round_trip(
    compat: &Compat,
    of: &str,
    sent: &[Sent],
    settings: &[(&str, &str)],
) -> Outcome<Vec<i64>> {
    compat.create(of, 3, &[]).await?;
    let offsets = produce(compat, of, sent, settings).await?;
    let reader = consumer(compat, of, &[])?;
    reader.subscribe(&[&compat.name(of)])?;
    expect_same(sent, &take(&reader, sent.len()).await?)?;
    Ok(offsets)
}

pub async fn codecs(compat: &Compat) -> Outcome {
    for codec in CODECS {
        let settings = [
            ("compression.type", codec),
            ("linger.ms", "50"),
            ("acks", "all"),
        ];
        round_trip(compat, &format!("codec-{codec}"), &records(30), &settings).await?;
    }
    Ok(())
}

pub async fn acks(compat: &Compat) -> Outcome {
    compat.create("acks", 3, &[]).await?;
    for acks in ["all", "1", "0"] {
        produce(compat, "acks", &records(30), &[("acks", acks)]).await?;
    }
    let reader = consumer(compat, "acks", &[])?;
    reader.subscribe(&[&compat.name("acks")])?;
    take(&reader, 90).await.map(drop)
}

pub async fn idempotent(compat: &Compat) -> Outcome {
    let settings = [
        ("enable.idempotence", "true"),
        ("batch.num.messages", "7"),
        ("linger.ms", "5"),
    ];
    let offsets = round_trip(compat, "idempotent", &records(300), &settings).await?;
    let wanted: Vec<i64> = (0..300).map(|index| index / 3).collect();
    expect(offsets == wanted, format!("offsets {offsets:?}"))
}

pub async fn offsets(compat: &Compat) -> Outcome {
    let topic = compat.name("codec-none");
    let reader = consumer(compat, "offsets", &[])?;
    expect(
        reader.fetch_watermarks(&topic, 0, DEADLINE)? == (0, 10),
        "watermarks",
    )?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(&topic, 2, Offset::Offset(start() + 14_000))?;
    let found = reader.offsets_for_times(asked, DEADLINE)?;
    let offset = found.elements()[0].offset();
    expect(offset == Offset::Offset(4), format!("found {offset:?}"))
}
