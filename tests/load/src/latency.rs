//! Produce and end-to-end latency at a fixed rate, measured from the time at which a record was due.
//!
//! Open loop: when the broker is slow, records are late, but none is skipped or rescheduled. A separate thread keeps
//! the rate. When fewer than `IN_FLIGHT` requests are in flight, all due records go into one request, with one batch
//! per partition, as from a producer without linger. A record contains its number and its due time.

mod consumer;
mod producer;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ottla_client::{Cluster, Options};
use serde_json::{Value, json};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time;

use crate::clock::Clock;
use crate::quantiles;

/// All records must arrive within this time after the last due time.
const PATIENCE: Duration = Duration::from_mins(1);
/// The size of a record's number and due time.
const MARK_BYTES: usize = 16;
/// The time between the start and the first record, in nanoseconds.
const LEAD_IN: u64 = 500_000_000;

/// Options of `ottla-load latency`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The broker, as `host:port`; several separated by commas.
    #[arg(long)]
    bootstrap: String,
    /// An empty topic, all of whose partitions have the same leader.
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Records a second.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds at the start that are not measured.
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// 0, 1, or -1 for all. With 0 there is no acknowledgement, so only the time to the consumer is measured.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    acks: i16,
}

impl Args {
    fn records(&self) -> u64 {
        self.rate * (self.seconds + self.warm_up)
    }

    fn counts(&self, mark: Mark) -> bool {
        mark.number >= self.rate * self.warm_up
    }

    fn partition(&self, mark: Mark) -> i32 {
        i32::try_from(mark.number % u64::from(self.partitions)).unwrap_or(i32::MAX)
    }
}

/// The beginning of a record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    number: u64,
    intended: u64,
}

impl Mark {
    fn value(self, bytes: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(bytes.max(MARK_BYTES));
        value.put_u64(self.number);
        value.put_u64(self.intended);
        value.resize(bytes.max(MARK_BYTES), b'v');
        value.freeze()
    }

    fn read(mut value: &[u8]) -> Option<Self> {
        Some(Self {
            number: value.try_get_u64().ok()?,
            intended: value.try_get_u64().ok()?,
        })
    }
}

/// When a record was due, and how long after that an event happened, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub intended: u64,
    pub took: u64,
}

impl Sample {
    fn of(mark: Mark, now: u64) -> Self {
        Self {
            intended: mark.intended,
            took: now.saturating_sub(mark.intended),
        }
    }
}

/// The measurements of a load, without the warm-up.
#[derive(Debug)]
pub struct Measured {
    /// The producer received the acknowledgement.
    pub acknowledged: Vec<Sample>,
    /// The consumer received the record.
    pub seen: Vec<Sample>,
    /// The generator released the record. This is the generator's own delay, not the broker's.
    pub lateness: Vec<Sample>,
}

/// Runs the load; returns the quantiles.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let clock = Clock::start();
    let measured = runtime.block_on(async { Load::start(args, clock).await?.measured().await })?;
    let times = |samples: Vec<Sample>| {
        let times = samples.into_iter().map(|sample| sample.took);
        quantiles::of(times.collect())
    };
    Ok(json!({
        "produce": times(measured.acknowledged),
        "end_to_end": times(measured.seen),
        "lateness_of_generator": times(measured.lateness),
    }))
}

/// A running load.
pub struct Load {
    args: Args,
    counts_from: u64,
    producer: producer::Producer,
    due: mpsc::UnboundedReceiver<Mark>,
    consumer: JoinHandle<Result<Vec<Sample>>>,
    pacer: thread::JoinHandle<Vec<Sample>>,
}

impl Load {
    /// Connects a producer and a consumer; the first record is due soon.
    pub async fn start(args: &Args, clock: Clock) -> Result<Self> {
        let (hand_out, due) = mpsc::unbounded_channel();
        let consumer = consumer::read(connect(args).await?, args.clone(), clock);
        let consumer = tokio::spawn(consumer);
        let producer = producer::Producer::new(connect(args).await?, args.clone(), clock).await?;
        let start = clock.now() + LEAD_IN;
        Ok(Self {
            args: args.clone(),
            counts_from: start + args.warm_up * 1_000_000_000,
            producer,
            due,
            consumer,
            pacer: pace(args, (clock, start), hand_out)?,
        })
    }

    /// When the first record that counts is due.
    pub fn counts_from(&self) -> u64 {
        self.counts_from
    }

    /// Waits for all records.
    pub async fn measured(self) -> Result<Measured> {
        let Self {
            args,
            mut producer,
            due,
            consumer,
            pacer,
            ..
        } = self;
        let limit = Duration::from_secs(args.seconds + args.warm_up) + PATIENCE;
        let all = async {
            let acknowledged = producer.send_all(due).await?;
            anyhow::Ok((acknowledged, consumer.await??))
        };
        let (acknowledged, seen) = time::timeout(limit, all)
            .await
            .context("records are missing after a minute")??;
        Ok(Measured {
            acknowledged,
            seen,
            lateness: pacer.join().ok().context("the pacer panicked")?,
        })
    }
}

/// Connects with the options of this program.
pub async fn connect(args: &Args) -> Result<Arc<Cluster>> {
    let options = Options {
        client_id: "ottla-load".to_owned(),
        ..Options::default()
    };
    let bootstrap: Vec<String> = args.bootstrap.split(',').map(str::to_owned).collect();
    Ok(Arc::new(Cluster::connect(&bootstrap, options).await?))
}

/// Releases the records at their due times, the first at `start`; returns how late the generator itself was.
fn pace(
    args: &Args,
    (clock, start): (Clock, u64),
    due: mpsc::UnboundedSender<Mark>,
) -> Result<thread::JoinHandle<Vec<Sample>>> {
    let args = args.clone();
    let pace = move || {
        let mut lateness = Vec::new();
        for number in 0..args.records() {
            let intended = start + number * 1_000_000_000 / args.rate;
            clock.wait_until(intended);
            let mark = Mark { number, intended };
            if args.counts(mark) {
                lateness.push(Sample::of(mark, clock.now()));
            }
            if due.send(mark).is_err() {
                break;
            }
        }
        lateness
    };
    Ok(thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(pace)?)
}

#[cfg(test)]
mod tests {
    use super::Mark;

    #[test]
    fn a_mark_is_read_back_from_its_value() {
        let mark = Mark {
            number: 3,
            intended: u64::MAX,
        };
        assert_eq!(mark.value(100).len(), 100);
        assert_eq!(Mark::read(&mark.value(100)), Some(mark));
        assert_eq!(Mark::read(&[0; 15]), None);
    }
}
