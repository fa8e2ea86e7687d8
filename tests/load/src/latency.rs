//! Produce and end-to-end latency at a fixed rate, measured from the time at which a record was due.
//!
//! Open loop: when the broker is slow, records are late, but none is skipped or rescheduled. A separate thread keeps
//! the rate. When fewer than `IN_FLIGHT` requests are in flight, all due records go into one request, with one batch
//! per partition, as from a producer without linger. A record contains its number and its due time.

mod consumer;
mod producer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ottla_client::{Cluster, Options};
use serde_json::{Value, json};
use tokio::runtime;
use tokio::sync::mpsc;
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
    /// The broker, as `host:port`.
    #[arg(long)]
    bootstrap: String,
    /// An empty topic.
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

/// Runs the load; returns the quantiles.
pub fn run(args: &Args) -> Result<Value> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let clock = Clock::start();
    let (due, records) = mpsc::unbounded_channel();
    let measured = runtime.block_on(async {
        let consumer = consumer::read(connect(args).await?, args.clone(), clock);
        let consumer = tokio::spawn(consumer);
        let mut producer =
            producer::Producer::new(connect(args).await?, args.clone(), clock).await?;
        let pacer = pace(args, clock, due)?;
        let limit = Duration::from_secs(args.seconds + args.warm_up) + PATIENCE;
        let all = async {
            let acknowledged = producer.send_all(records).await?;
            anyhow::Ok((acknowledged, consumer.await??))
        };
        let measured = time::timeout(limit, all).await;
        let measured = measured.context("records are missing after a minute")??;
        let lateness = pacer.join().ok().context("the pacer panicked")?;
        anyhow::Ok((measured, lateness))
    });
    let ((acknowledged, seen), lateness) = measured?;
    Ok(json!({
        "produce": quantiles::of(acknowledged),
        "end_to_end": quantiles::of(seen),
        "lateness_of_generator": quantiles::of(lateness),
    }))
}

async fn connect(args: &Args) -> Result<Arc<Cluster>> {
    let options = Options {
        client_id: "ottla-load".to_owned(),
        ..Options::default()
    };
    let bootstrap = std::slice::from_ref(&args.bootstrap);
    Ok(Arc::new(Cluster::connect(bootstrap, options).await?))
}

/// Releases the records at their due times; returns how late the generator itself was.
fn pace(
    args: &Args,
    clock: Clock,
    due: mpsc::UnboundedSender<Mark>,
) -> Result<std::thread::JoinHandle<Vec<u64>>> {
    let args = args.clone();
    let start = clock.now() + LEAD_IN;
    let pace = move || {
        let mut lateness = Vec::new();
        for number in 0..args.records() {
            let intended = start + number * 1_000_000_000 / args.rate;
            clock.wait_until(intended);
            let mark = Mark { number, intended };
            if args.counts(mark) {
                lateness.push(clock.now().saturating_sub(intended));
            }
            if due.send(mark).is_err() {
                break;
            }
        }
        lateness
    };
    Ok(std::thread::Builder::new()
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
