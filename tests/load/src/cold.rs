//! Latency at a fixed rate beside consumers that read a topic that is not in the page cache.
//!
//! The records and their consumer are those of `latency`. The cold readers begin when the warm-up ends, and only records
//! that were due while all of them were reading count. A cold reader fetches a partition of its own, one request at a
//! time. It parses only the headers of the batches, so that it leaves the cores to the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use ottla_client::{Connection, TopicPartition};
use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use ottla_protocol::records::split_batches;
use serde_json::{Value, json};
use tokio::runtime;

use crate::clock::Clock;
use crate::latency::{self, Measured};
use crate::quantiles;

/// The Java consumer's default of `max.partition.fetch.bytes`.
const PARTITION_MAX_BYTES: i32 = 1 << 20;
const MAX_BYTES: i32 = 50 << 20;

/// Options of `ottla-load cold`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    latency: latency::Args,
    /// A topic with a partition for each reader, of which nothing is in the page cache.
    #[arg(long)]
    cold_topic: String,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(i32).range(1..))]
    readers: i32,
}

/// What one cold reader has read, and when, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct ColdRead {
    bytes: u64,
    began: u64,
    ended: u64,
}

/// Runs the load. Returns the quantiles, and the bytes that the cold readers received per second.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let clock = Clock::start();
    let is_over = Arc::new(AtomicBool::new(false));
    let (measured, readers) = runtime.block_on(async {
        let latency = latency::Load::start(&args.latency, clock).await?;
        let begin = latency.counts_from();
        let readers = (0..args.readers)
            .map(|partition| start_reader(args, partition, (clock, begin), &is_over))
            .collect::<Result<Vec<_>>>()?;
        anyhow::Ok((latency.measured().await?, readers))
    })?;
    is_over.store(true, Ordering::Relaxed);
    let reads = readers.into_iter().map(|reader| {
        let read = reader.join().ok();
        read.context("a cold reader panicked")?
    });
    report(&reads.collect::<Result<Vec<_>>>()?, measured)
}

/// Starts a cold reader on a thread of its own, so that it does not delay the tasks of the latency load.
fn start_reader(
    args: &Args,
    partition: i32,
    (clock, begin): (Clock, u64),
    is_over: &Arc<AtomicBool>,
) -> Result<JoinHandle<Result<ColdRead>>> {
    let (args, is_over) = (args.clone(), Arc::clone(is_over));
    let read = move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let reader = Reader {
                connection: connect(&args, partition).await?,
                topic: args.cold_topic.clone(),
                partition,
            };
            clock.wait_until(begin);
            reader.read(clock, &is_over).await
        })
    };
    let name = format!("cold-reader-{partition}");
    Ok(thread::Builder::new().name(name).spawn(read)?)
}

/// A connection of its own, as every consumer has.
async fn connect(args: &Args, partition: i32) -> Result<Arc<Connection>> {
    let cluster = latency::connect(&args.latency).await?;
    let partition = TopicPartition::new(&args.cold_topic, partition);
    let leader = cluster.leader(&partition).await?;
    Ok(cluster.node(leader).await?)
}

fn report(reads: &[ColdRead], measured: Measured) -> Result<Value> {
    let end = reads.iter().map(|read| read.ended).min();
    let end = end.context("there is a reader")?;
    let counted = |samples: Vec<latency::Sample>| {
        let counted = samples.into_iter().filter(|sample| sample.intended < end);
        quantiles::of(counted.map(|sample| sample.took).collect())
    };
    let megabytes_a_second = |read: &ColdRead| {
        let seconds = (read.ended - read.began) as f64 / 1e9;
        read.bytes as f64 / 1e6 / seconds
    };
    Ok(json!({
        "produce": counted(measured.acknowledged),
        "end_to_end": counted(measured.seen),
        "lateness_of_generator": counted(measured.lateness),
        "cold_bytes": reads.iter().map(|read| read.bytes).sum::<u64>(),
        "cold_mb_per_second": reads.iter().map(megabytes_a_second).sum::<f64>(),
    }))
}

/// A consumer of one partition.
struct Reader {
    connection: Arc<Connection>,
    topic: String,
    partition: i32,
}

impl Reader {
    /// Reads from the beginning to the end of the partition, or until there is nothing more to measure.
    async fn read(self, clock: Clock, is_over: &AtomicBool) -> Result<ColdRead> {
        let began = clock.now();
        let (mut offset, mut bytes) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            let answer = self.connection.call(&self.fetch(offset)).await?;
            let mut partitions = answer.responses.into_iter().flat_map(|t| t.partitions);
            let partition = partitions.next().context("an answer without a partition")?;
            let code = partition.error_code;
            ensure!(code == 0, "the broker answers error {code}");
            let records = partition.records.unwrap_or_default();
            // The last batch may be cut short.
            let batches = split_batches(&records).map_while(Result::ok);
            let before = offset;
            for batch in batches {
                offset = batch.header().next_offset().0;
            }
            if offset == before {
                break;
            }
            bytes += records.len() as u64;
        }
        Ok(ColdRead {
            bytes,
            began,
            ended: clock.now(),
        })
    }

    fn fetch(&self, offset: i64) -> FetchRequestData {
        FetchRequestData {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            topics: vec![FetchTopic {
                topic: KafkaString::from(self.topic.clone()),
                partitions: vec![FetchPartition {
                    partition: self.partition,
                    fetch_offset: offset,
                    partition_max_bytes: PARTITION_MAX_BYTES,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequestData::default()
        }
    }
}
