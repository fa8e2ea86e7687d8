//! Sends due records, a few requests at a time, and stores when they were acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use ottla_client::{Cluster, Connection, TopicPartition};
use ottla_protocol::messages::produce_request::ProduceRequestData;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Args, Mark, Sample};
use crate::clock::Clock;
use crate::request::{Terms, produce};

/// How many requests may be in flight, as in the Java producer.
const IN_FLIGHT: usize = 5;
/// How long a request may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// One connection to the one broker.
pub struct Producer {
    args: Args,
    clock: Clock,
    connection: Arc<Connection>,
    places: Arc<Semaphore>,
    requests: JoinSet<Result<Vec<Sample>>>,
}

impl Producer {
    pub async fn new(cluster: Arc<Cluster>, args: Args, clock: Clock) -> Result<Self> {
        let leader = cluster.leader(&TopicPartition::new(&args.topic, 0)).await?;
        Ok(Self {
            args,
            clock,
            connection: cluster.node(leader).await?,
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            requests: JoinSet::new(),
        })
    }

    /// Sends until `due` is closed and everything is acknowledged; returns the latencies, or an empty list with acks=0. The
    /// connection stays open, because closing it would drop what is not written yet.
    pub async fn send_all(
        &mut self,
        mut due: mpsc::UnboundedReceiver<Mark>,
    ) -> Result<Vec<Sample>> {
        let mut latencies = Vec::new();
        while let Some(first) = due.recv().await {
            let place = Arc::clone(&self.places).acquire_owned().await?;
            // Adds the records that became due while too many requests were in flight.
            let mut marks = vec![first];
            while let Ok(next) = due.try_recv() {
                marks.push(next);
            }
            let request = self.request(&marks)?;
            if self.args.acks == 0 {
                self.connection.send(&request).await?;
                continue;
            }
            let (connection, args, clock) =
                (Arc::clone(&self.connection), self.args.clone(), self.clock);
            self.requests.spawn(async move {
                let answer = connection.call(&request).await?;
                let now = clock.now();
                drop(place);
                let topics = answer.responses.iter();
                let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
                ensure!(
                    partitions.all(|partition| partition.error_code == 0),
                    "the broker refuses a batch: {answer:?}"
                );
                let counted = marks.into_iter().filter(|mark| args.counts(*mark));
                Ok(counted.map(|mark| Sample::of(mark, now)).collect())
            });
            while let Some(done) = self.requests.try_join_next() {
                latencies.extend(done??);
            }
        }
        while let Some(done) = self.requests.join_next().await {
            latencies.extend(done??);
        }
        Ok(latencies)
    }

    fn request(&self, marks: &[Mark]) -> Result<ProduceRequestData> {
        let mut batches = BTreeMap::<i32, BatchBuilder>::new();
        for mark in marks {
            let batch = batches.entry(self.args.partition(*mark));
            let batch = batch.or_insert_with(|| BatchBuilder::new(BatchOptions::default()));
            let timestamp = self.clock.timestamp_ms(mark.intended);
            let value = mark.value(self.args.record_bytes);
            batch.append(timestamp, None, Some(&value), &[]);
        }
        let terms = Terms {
            topic: &self.args.topic,
            acks: self.args.acks,
            timeout: PATIENCE,
        };
        produce(&terms, batches)
    }
}
