//! Sends one produce frame per connection, encoded once, again and again. The generator does hardly any work, so that
//! two servers with the same frames differ only by their own cost.
//!
//! Closed loop: a connection keeps a number of requests in flight. Connection `n` writes to partition `n`.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::frame::{self, RequestHead};
use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequestData, TopicProduceData,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use serde_json::{Value, json};

use crate::clock::Clock;

/// How often a partition that is not served yet is tried, and the pause in nanoseconds: a broker knows a new topic a
/// little later.
const TRIES: u64 = 500;
const PAUSE: u64 = 20_000_000;
/// `UNKNOWN_TOPIC_OR_PARTITION` and `NOT_LEADER_OR_FOLLOWER`.
const NOT_YET: [[u8; 2]; 2] = [[0, 3], [0, 6]];

/// The last version whose answer for one partition has a fixed length.
const VERSION: i16 = 7;

/// Options of `ottla-load frames`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as `host:port`.
    #[arg(long)]
    bootstrap: String,
    /// A topic with a partition for each connection.
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 1)]
    connections: u16,
    /// How many requests of a connection may be in flight.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    in_flight: u64,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// Records in a frame.
    #[arg(long, default_value_t = 16)]
    records: u32,
    /// How much all connections send together, in MB of record values.
    #[arg(long, default_value_t = 500)]
    megabytes: u64,
}

/// Sends everything; returns the time.
pub fn run(args: &Args) -> Result<Value> {
    ensure!(
        args.connections > 0 && args.records > 0,
        "nothing is to be sent"
    );
    let frame_bytes = args.record_bytes as u64 * u64::from(args.records);
    let connections = u64::from(args.connections);
    let frames = (args.megabytes * 1_000_000).div_ceil(frame_bytes * connections);
    let clock = Clock::start();
    let drivers = (0..args.connections).map(|index| Driver::connect(args, i32::from(index)));
    let mut drivers = drivers.collect::<Result<Vec<_>>>()?;
    let start = clock.now();
    thread::scope(|scope| {
        let running = drivers
            .iter_mut()
            .map(|driver| scope.spawn(|| driver.drive(frames, args.in_flight)));
        let running: Vec<_> = running.collect();
        running.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.map_err(|_| io::Error::other("a connection's thread panicked"))?
        })
    })?;
    let seconds = (clock.now() - start) as f64 / 1e9;
    Ok(json!({
        "seconds": seconds,
        "bytes": frames * connections * frame_bytes,
        "records": frames * connections * u64::from(args.records),
        "requests": frames * connections,
    }))
}

struct Driver {
    stream: TcpStream,
    frame: Bytes,
    /// The length of an answer with its length field, and the position of the error code.
    answer_bytes: usize,
    error_at: usize,
}

impl Driver {
    fn connect(args: &Args, partition: i32) -> Result<Self> {
        let stream = TcpStream::connect(&args.bootstrap)
            .with_context(|| format!("cannot connect to {}", args.bootstrap))?;
        stream.set_nodelay(true)?;
        // Length, correlation id, topics, name, partitions, index; then the code, three numbers, and the throttle time.
        let error_at = 4 + 4 + 4 + 2 + args.topic.len() + 4 + 4;
        let mut driver = Self {
            stream,
            frame: frame(args, partition)?,
            answer_bytes: error_at + 2 + 3 * 8 + 4,
            error_at,
        };
        driver.wait_until_served()?;
        Ok(driver)
    }

    /// Sends the first frame, which is not measured, until it is accepted.
    fn wait_until_served(&mut self) -> io::Result<()> {
        let clock = Clock::start();
        let mut answer = vec![0; self.answer_bytes];
        for attempt in 1..=TRIES {
            self.stream.write_all(&self.frame)?;
            self.stream.read_exact(&mut answer)?;
            let code = answer.get(self.error_at..self.error_at + 2);
            if !NOT_YET.iter().any(|not_yet| code == Some(not_yet)) {
                break;
            }
            clock.wait_until(attempt * PAUSE);
        }
        self.check(&answer)
    }

    fn drive(&mut self, frames: u64, in_flight: u64) -> io::Result<()> {
        let mut answers = BufReader::new(self.stream.try_clone()?);
        let mut answer = vec![0; self.answer_bytes];
        let (mut sent, mut answered) = (0, 0);
        while answered < frames {
            if sent < frames && sent - answered < in_flight {
                self.stream.write_all(&self.frame)?;
                sent += 1;
                continue;
            }
            answers.read_exact(&mut answer)?;
            self.check(&answer)?;
            answered += 1;
        }
        Ok(())
    }

    fn check(&self, answer: &[u8]) -> io::Result<()> {
        let length = u32::try_from(self.answer_bytes - 4).unwrap_or(u32::MAX);
        let code = answer.get(self.error_at..self.error_at + 2);
        if answer.get(..4) == Some(&length.to_be_bytes()) && code == Some(&[0, 0]) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the answer is not a success: {answer:02x?}"
        )))
    }
}

fn frame(args: &Args, partition: i32) -> Result<Bytes> {
    let clock = Clock::start();
    let mut batch = BatchBuilder::new(BatchOptions::default());
    let value = vec![b'v'; args.record_bytes];
    for _ in 0..args.records {
        batch.append(clock.timestamp_ms(0), None, Some(&value), &[]);
    }
    let Some(records) = batch.build() else {
        bail!("a batch has a record");
    };
    let request = ProduceRequestData {
        acks: 1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from(args.topic.clone()),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Bytes::from(records)),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequestData::default()
    };
    let head = RequestHead {
        api: ApiKey::Produce,
        version: VERSION,
        correlation_id: 1,
        client_id: Some(KafkaString::from_static("ottla-load")),
    };
    let mut frame = BytesMut::new();
    frame::write_request(&mut frame, &head, |out| request.write(out, VERSION))
        .map_err(|error| anyhow::anyhow!("cannot encode the request: {error}"))?;
    Ok(frame.freeze())
}
