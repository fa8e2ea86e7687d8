//! Writes one small batch to each of many partitions per request, and reads the records from all parts of the log.
//!
//! Each connection has its own partitions and one request in flight, so the offset of a record is the number of its
//! round. Writing ends at the first refusal. The refusal is reported but is not an error, because the load fills a
//! broker until it refuses. A partition without a leader is not a refusal; it is tried again, as all clients do.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ottla_client::{Cluster, Connection, Options, TopicPartition};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use ottla_protocol::messages::produce_request::ProduceRequestData;
use ottla_protocol::messages::{ErrorCode, FetchResponseData, KafkaString, ProduceResponseData};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};
use serde_json::{Value, json};
use tokio::runtime;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::request::{Terms, produce};

/// The timeout of a request that creates thousands of files.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// How long partitions may stay without a leader.
const LEADERLESS: std::time::Duration = std::time::Duration::from_mins(2);

/// The options for both writing and reading.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The server, as `host:port`.
    #[arg(long)]
    bootstrap: String,
    /// A topic with this many partitions, without other writers.
    #[arg(long)]
    topic: String,
    #[arg(long)]
    partitions: i32,
    /// Batches of one record for each partition. For reading: those that were written.
    #[arg(long)]
    rounds: i64,
    /// The first round, if earlier ones are written already.
    #[arg(long, default_value_t = 0)]
    from: i64,
    #[arg(long, default_value_t = 4)]
    connections: i32,
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    acks: i16,
    #[arg(long, default_value_t = 40)]
    record_bytes: usize,
}

/// Writes all rounds, or as many as the broker accepts.
pub fn write(args: &Args) -> Result<Value> {
    let clock = Clock::start();
    let written = shares(args, clock, write_share)?;
    let records: i64 = written.iter().map(|share| share.acknowledged).sum();
    Ok(json!({
        "seconds": clock.now() as f64 / 1e9,
        "records": records,
        "rounds": written.iter().map(|share| share.rounds).min(),
        "refused": written.into_iter().find_map(|share| share.refused),
    }))
}

/// Options of reading.
#[derive(Debug, Clone, clap::Args)]
pub struct ReadArgs {
    #[command(flatten)]
    of: Args,
    /// The number of records to read from each partition, at equal distances from the first to the last.
    #[arg(long, default_value_t = 4)]
    each: i64,
}

/// Reads records of every partition and compares them with what was written.
pub fn read(args: &ReadArgs) -> Result<Value> {
    let clock = Clock::start();
    let each = args.each.min(args.of.rounds);
    let read = shares(&args.of, clock, move |args, connection, share, clock| {
        read_share((args, each, clock), connection, share)
    })?;
    Ok(json!({
        "seconds": clock.now() as f64 / 1e9,
        "records": read.into_iter().sum::<i64>(),
    }))
}

/// Runs `work` on one connection for each share of the partitions.
fn shares<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
    args: &Args,
    clock: Clock,
    work: impl Fn(Args, Connection, std::ops::Range<i32>, Clock) -> W,
) -> Result<Vec<T>> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = Options {
            client_id: "ottla-load".to_owned(),
            request_timeout: PATIENCE,
            retry_for: PATIENCE,
            ..Options::default()
        };
        let cluster = Cluster::connect(std::slice::from_ref(&args.bootstrap), options.clone());
        let cluster = Arc::new(cluster.await?);
        // Waits until the last partition has a leader: a broker knows a new topic a little later.
        let last = TopicPartition::new(&args.topic, args.partitions - 1);
        let leader = cluster.leader(&last).await?;
        let nodes = &cluster.metadata().nodes;
        let address = nodes.get(&leader).context("the leader has no address")?;
        let mut running = JoinSet::new();
        let connections = args.connections.clamp(1, args.partitions.max(1));
        for index in 0..connections {
            let share =
                args.partitions * index / connections..args.partitions * (index + 1) / connections;
            let connection = Connection::open(&address.address(), &options).await?;
            running.spawn(work(args.clone(), connection, share, clock));
        }
        running.join_all().await.into_iter().collect()
    })
}

/// The outcome for one share of the partitions.
#[derive(Debug, Default)]
struct Written {
    acknowledged: i64,
    /// The rounds that all partitions of the share have.
    rounds: i64,
    /// Why the broker refused more.
    refused: Option<String>,
}

async fn write_share(
    args: Args,
    connection: Connection,
    share: std::ops::Range<i32>,
    clock: Clock,
) -> Result<Written> {
    let mut written = Written::default();
    for round in args.from..args.from + args.rounds {
        let mut missing: Vec<i32> = share.clone().collect();
        let asked_first = clock.now();
        while !missing.is_empty() && written.refused.is_none() {
            let request = request(&args, &missing, (round, clock))?;
            let answer = match connection.call(&request).await {
                Ok(answer) => answer,
                Err(error) => {
                    written.refused = Some(error.to_string());
                    break;
                }
            };
            missing = written.count(round, &answer)?;
            if !missing.is_empty() && !may_be_led_yet(clock, asked_first).await {
                written.refused = Some(format!("no leader for partitions {missing:?}"));
            }
        }
        if written.refused.is_some() {
            break;
        }
        written.rounds += 1;
    }
    Ok(written)
}

impl Written {
    /// Adds the outcome of a round; returns the partitions without a leader.
    fn count(&mut self, round: i64, answer: &ProduceResponseData) -> Result<Vec<i32>> {
        let mut not_led = Vec::new();
        let topics = answer.responses.iter();
        for partition in topics.flat_map(|topic| &topic.partition_responses) {
            let offset = partition.base_offset;
            match partition.error_code {
                0 => {
                    ensure!(offset == round, "round {round} got offset {offset}");
                    self.acknowledged += 1;
                }
                code if is_not_led(code) => not_led.push(partition.index),
                code => {
                    let message = partition.error_message.as_ref();
                    self.refused = Some(format!(
                        "error {code} in partition {}, round {round}: {}",
                        partition.index,
                        message.map_or("(no message)", KafkaString::as_str)
                    ));
                }
            }
        }
        Ok(not_led)
    }
}

/// Whether a partition must be tried again: a broker that has just started answers before it leads thousands of
/// partitions.
fn is_not_led(code: i16) -> bool {
    matches!(
        ErrorCode::from(code),
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotLeaderOrFollower
    )
}

/// Waits before the next attempt; returns false when [`LEADERLESS`] has passed since `asked_first`.
async fn may_be_led_yet(clock: Clock, asked_first: u64) -> bool {
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    u128::from(clock.now() - asked_first) < LEADERLESS.as_nanos()
}

fn request(
    args: &Args,
    partitions: &[i32],
    (round, clock): (i64, Clock),
) -> Result<ProduceRequestData> {
    let now = clock.timestamp_ms(clock.now());
    let terms = Terms {
        topic: &args.topic,
        acks: args.acks,
        timeout: PATIENCE,
    };
    let batches = partitions.iter().map(|index| {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.append(now, None, Some(&value(args, *index, round)), &[]);
        (*index, batch)
    });
    produce(&terms, batches)
}

fn value(args: &Args, partition: i32, round: i64) -> Vec<u8> {
    let mut value = format!("{}-{partition}@{round} ", args.topic).into_bytes();
    let length = value.len().max(args.record_bytes);
    value.resize(length, b'v');
    value
}

async fn read_share(
    (args, each, clock): (Args, i64, Clock),
    connection: Connection,
    share: std::ops::Range<i32>,
) -> Result<i64> {
    let mut read = 0;
    for step in 0..each {
        let round = args.from + step * (args.rounds - 1) / (each - 1).max(1);
        let mut missing: BTreeSet<i32> = share.clone().collect();
        let asked_first = clock.now();
        // A broker may split the records over several answers.
        while !missing.is_empty() {
            let fetched = connection.call(&fetch(&args, &missing, round)).await?;
            let (found, has_not_led) = check(&args, round, &fetched)?;
            let goes_on = if has_not_led {
                may_be_led_yet(clock, asked_first).await
            } else {
                !found.is_empty()
            };
            ensure!(goes_on, "no record of {missing:?} comes");
            for partition in found {
                read += i64::from(missing.remove(&partition));
            }
        }
    }
    Ok(read)
}

fn fetch(args: &Args, partitions: &BTreeSet<i32>, round: i64) -> FetchRequestData {
    let partitions = partitions.iter().map(|partition| FetchPartition {
        partition: *partition,
        fetch_offset: round,
        // Enough for one batch.
        partition_max_bytes: 256,
        ..FetchPartition::default()
    });
    FetchRequestData {
        max_wait_ms: 1000,
        min_bytes: 1,
        max_bytes: i32::MAX,
        topics: vec![FetchTopic {
            topic: KafkaString::from(args.topic.clone()),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequestData::default()
    }
}

/// The partitions with a record in the answer, which must be that of the round, and whether any partition has no leader
/// yet.
fn check(args: &Args, round: i64, fetched: &FetchResponseData) -> Result<(Vec<i32>, bool)> {
    let (mut found, mut has_not_led) = (Vec::new(), false);
    for partition in fetched.responses.iter().flat_map(|topic| &topic.partitions) {
        let index = partition.partition_index;
        if is_not_led(partition.error_code) {
            has_not_led = true;
            continue;
        }
        if partition.error_code != 0 {
            bail!("partition {index} answers error {}", partition.error_code);
        }
        let records = partition.records.as_deref().unwrap_or_default();
        if records.is_empty() {
            continue;
        }
        let batch = BatchView::first(records)
            .with_context(|| format!("partition {index} has no batch at offset {round}"))?;
        ensure!(
            batch.is_crc_valid(),
            "partition {index} sends damaged bytes"
        );
        let mut records = batch.plain_records().context("a compressed batch")?;
        let record = records.next().context("a batch has a record")??;
        ensure!(
            batch.header().base_offset().0 == round
                && record.value == Some(&*value(args, index, round)),
            "partition {index} has something else at offset {round}"
        );
        found.push(index);
    }
    Ok((found, has_not_led))
}
