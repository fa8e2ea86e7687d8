//! Reads assigned partitions from their positions on, one fetch in flight to each leader.
//!
//! A slow leader does not delay the others. The fetcher waits for a leader that cannot be reached, for ever unless
//! [`FetchOptions::patience`] is set. Each call to a broker is a task of its own. Dropping the future of `poll` loses
//! nothing, because positions move only when records are returned.
//!
//! A position belongs to one topic id, which fetches name. So the fetcher notices when a topic is deleted and created again,
//! and never reads the new topic from the old position. Metadata is requested at least every `metadata_max_age`.

mod lookup;
mod options;
mod reading;
mod request;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::messages::KafkaUuid;
use ottla_protocol::messages::fetch_response::{FetchResponseData, PartitionData};
use ottla_protocol::records::Decompressor;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use self::lookup::LookedUp;
pub use self::options::{FetchOptions, Isolation, OutOfRange, Position};
pub use self::reading::StartAt;
use self::reading::{Lookup, Reading};
pub(crate) use self::topics::Known;
use crate::backoff::pause_after;
use crate::error::ErrorCode;
use crate::fetched::read_batches;
use crate::notice::{Notice, Outages, Source};
use crate::{ClientError, Cluster, FetchedRecords, Result, TopicPartition};

/// Reads the partitions that it is assigned.
#[derive(Debug)]
pub struct Fetcher {
    cluster: Arc<Cluster>,
    options: FetchOptions,
    partitions: BTreeMap<TopicPartition, Reading>,
    /// The topics whose metadata is kept up to date, as they were last seen.
    topics: BTreeMap<String, Option<Known>>,
    /// The topics whose new partitions are read.
    watched: BTreeSet<String>,
    leaders: BTreeMap<i32, Leader>,
    refresh: Refresh,
    in_flight: JoinSet<Done>,
    decompressor: Decompressor,
    outages: Outages,
}

#[derive(Debug, Default)]
struct Leader {
    is_busy: bool,
    failures: u32,
    wait_until: Option<Instant>,
}

/// When metadata is requested next.
#[derive(Debug)]
struct Refresh {
    at: Instant,
    is_busy: bool,
    /// Refreshes in a row that failed, or after which a leader was still missing.
    failures: u32,
    /// The number of answers so far.
    count: u64,
}

/// A fetch in flight: its leader, and the offset of each partition. If a position has moved since, the answer for it is
/// dropped.
#[derive(Debug)]
struct Fetch {
    leader: i32,
    offsets: BTreeMap<TopicPartition, i64>,
}

/// A call to a broker that has ended.
#[derive(Debug)]
enum Done {
    Fetched(Fetch, Result<FetchResponseData>),
    Refreshed(Result<BTreeMap<String, ErrorCode>>),
    LookedUp(TopicPartition, Result<LookedUp>),
}

impl Fetcher {
    /// A fetcher without partitions.
    pub fn new(cluster: Arc<Cluster>, options: FetchOptions) -> Self {
        Self {
            refresh: Refresh {
                at: Instant::now() + cluster.options().metadata_max_age,
                is_busy: false,
                failures: 0,
                count: 0,
            },
            cluster,
            options,
            partitions: BTreeMap::new(),
            topics: BTreeMap::new(),
            watched: BTreeSet::new(),
            leaders: BTreeMap::new(),
            in_flight: JoinSet::new(),
            decompressor: Decompressor::default(),
            outages: Outages::new(options.patience),
        }
    }

    /// Reads these partitions, each from its offset, and no others.
    pub fn assign(&mut self, positions: BTreeMap<TopicPartition, i64>) {
        let at = |(partition, offset)| (partition, Position::at(offset));
        self.assign_positions(positions.into_iter().map(at));
    }

    /// As [`Self::assign`], with positions whose leader epochs may be known.
    pub fn assign_positions(
        &mut self,
        positions: impl IntoIterator<Item = (TopicPartition, Position)>,
    ) {
        let readings = positions.into_iter();
        self.partitions = readings
            .map(|(partition, position)| (partition, Reading::at(position)))
            .collect();
        let topics: Vec<_> = self.partitions.keys().map(|of| of.topic.clone()).collect();
        for topic in topics {
            self.know(&topic);
        }
        self.drop_in_flight();
    }

    /// Reads partitions that are added to `topic` from their beginning.
    pub fn watch(&mut self, topic: &str) {
        self.watched.insert(topic.to_owned());
        self.know(topic);
    }

    /// Drops all calls in flight, because their answers belong to other positions.
    fn drop_in_flight(&mut self) {
        self.in_flight = JoinSet::new();
        self.leaders.clear();
        self.refresh.is_busy = false;
        for reading in self.partitions.values_mut() {
            reading.is_looked_up = false;
        }
    }

    /// Stops reading a partition.
    pub fn remove(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
    }

    /// Moves the position of a partition back to `offset`.
    pub fn rewind(&mut self, partition: &TopicPartition, offset: i64) {
        let reading = self.partitions.get_mut(partition);
        let position = reading.and_then(|reading| reading.position.as_mut());
        if let Some(position) = position
            && offset < position.offset
        {
            *position = Position::at(offset);
            self.drop_in_flight();
        }
    }

    /// The next offset of each partition for which it is known.
    pub fn positions(&self) -> BTreeMap<TopicPartition, Position> {
        let known = |(partition, reading): (&TopicPartition, &Reading)| {
            Some((partition.clone(), reading.position?))
        };
        self.partitions.iter().filter_map(known).collect()
    }

    /// The notices for the user since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.outages.take()
    }

    /// The outages, for an owner that makes calls of its own.
    pub(crate) fn outages(&mut self) -> &mut Outages {
        &mut self.outages
    }

    /// The next records that arrive, perhaps none. Waits for ever if no partition is assigned and no topic watched.
    pub async fn poll(&mut self) -> Result<Vec<FetchedRecords>> {
        loop {
            self.start_work();
            let wake = self.next_wake();
            let done = tokio::select! {
                Some(done) = self.in_flight.join_next() => done.expect("a task here does not panic"),
                () = time::sleep_until(wake) => continue,
            };
            return self.take(done);
        }
    }

    fn take(&mut self, done: Done) -> Result<Vec<FetchedRecords>> {
        match done {
            Done::Fetched(fetch, answer) => self.take_fetched(&fetch, answer),
            Done::Refreshed(answer) => self.take_refreshed(answer).map(|()| Vec::new()),
            Done::LookedUp(partition, answer) => {
                self.take_looked_up(&partition, answer).map(|()| Vec::new())
            }
        }
    }

    /// When a call must start, even if no answer arrives before.
    fn next_wake(&self) -> Instant {
        let readings = self.partitions.values().map(|reading| reading.wait_until);
        let leaders = self.leaders.values().map(|leader| leader.wait_until);
        let can_refresh = !self.refresh.is_busy && !self.topics.is_empty();
        let refresh = can_refresh.then_some(self.refresh.at);
        let next = readings.chain(leaders).chain([refresh]).flatten().min();
        let idle = Instant::now() + self.cluster.options().metadata_max_age;
        next.unwrap_or(idle)
    }

    /// Removes the waits that are over. [`Self::next_wake`] returns the end of the next one.
    fn end_waits(&mut self) {
        let now = Instant::now();
        let readings = self.partitions.values_mut();
        let waits = readings.map(|reading| &mut reading.wait_until);
        let leaders = self.leaders.values_mut();
        for wait in waits.chain(leaders.map(|leader| &mut leader.wait_until)) {
            *wait = wait.filter(|until| *until > now);
        }
    }

    /// Starts the calls that can start: a refresh of metadata, look-ups, and a fetch to each leader that has none.
    fn start_work(&mut self) {
        self.end_waits();
        let metadata = self.cluster.metadata();
        let mut ready = BTreeMap::<i32, Vec<TopicPartition>>::new();
        let mut lookups = Vec::new();
        let mut is_leader_missing = false;
        for (partition, reading) in &mut self.partitions {
            if reading.is_looked_up || reading.wait_until.is_some() {
                continue;
            }
            let found = metadata.partition(partition);
            let Some((leader, epoch)) =
                found.and_then(|found| Some((found.leader?, found.leader_epoch)))
            else {
                is_leader_missing = true;
                continue;
            };
            if reading.lookup.is_none() {
                reading.lookup = Lookup::of_epoch(reading.position, reading.checked_epoch, epoch);
            }
            if let Some(lookup) = reading.lookup {
                reading.is_looked_up = true;
                lookups.push((partition.clone(), leader, lookup));
            } else {
                reading.checked_epoch = reading.checked_epoch.max(epoch);
                ready.entry(leader).or_default().push(partition.clone());
            }
        }
        for (partition, leader, lookup) in lookups {
            self.start_lookup(partition, leader, lookup);
        }
        for (leader, partitions) in ready {
            self.start_fetch(leader, &partitions);
        }
        if is_leader_missing {
            self.hurry_refresh();
        }
        self.start_refresh();
    }

    fn start_fetch(&mut self, id: i32, partitions: &[TopicPartition]) {
        let leader = self.leaders.entry(id).or_default();
        if leader.is_busy || leader.wait_until.is_some() {
            return;
        }
        leader.is_busy = true;
        let offset = |partition: &TopicPartition| {
            let position = self.partitions[partition].position?;
            Some((partition.clone(), position.offset))
        };
        let fetch = Fetch {
            leader: id,
            offsets: partitions.iter().filter_map(offset).collect(),
        };
        let request = self.request(&fetch.offsets);
        let cluster = Arc::clone(&self.cluster);
        self.in_flight.spawn(async move {
            let answer = request::fetch(&cluster, id, request).await;
            Done::Fetched(fetch, answer)
        });
    }

    fn take_fetched(
        &mut self,
        fetch: &Fetch,
        answer: Result<FetchResponseData>,
    ) -> Result<Vec<FetchedRecords>> {
        let id = fetch.leader;
        let answer = answer.and_then(|response| {
            ClientError::check(response.error_code, None, "fetch")?;
            Ok(response)
        });
        let leader = self.leaders.entry(id).or_default();
        leader.is_busy = false;
        match answer {
            Ok(response) => {
                leader.failures = 0;
                leader.wait_until = None;
                self.outages.works(&Source::Leader(id));
                self.take_partitions(fetch, &response)
            }
            Err(error) if error.is_retriable() => {
                leader.failures += 1;
                leader.wait_until = Some(Instant::now() + pause_after(leader.failures));
                self.hurry_refresh();
                self.outages.failed(Source::Leader(id), error)?;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    fn take_partitions(
        &mut self,
        fetch: &Fetch,
        response: &FetchResponseData,
    ) -> Result<Vec<FetchedRecords>> {
        let mut fetched = Vec::new();
        for topic in &response.responses {
            let Some(name) = self.topic_name(topic.topic.as_str(), topic.topic_id) else {
                continue;
            };
            for data in &topic.partitions {
                let partition = TopicPartition::new(&name, data.partition_index);
                let reading = self.partitions.get(&partition);
                let position = reading.and_then(|reading| reading.position);
                if position.map(|at| at.offset) != fetch.offsets.get(&partition).copied() {
                    continue;
                }
                if let Some(records) = self.take_partition(partition, data)? {
                    fetched.push(records);
                }
            }
        }
        for records in &fetched {
            let reading = self.partitions.get_mut(&records.partition);
            if let Some(position) = reading.and_then(|reading| reading.position.as_mut()) {
                position.offset = records.next_offset;
            }
        }
        Ok(fetched)
    }

    /// The name of a topic in an answer. From version 13 on an answer has the id instead.
    fn topic_name(&self, name: &str, id: KafkaUuid) -> Option<String> {
        if !name.is_empty() {
            return Some(name.to_owned());
        }
        let known = self.topics.iter();
        let mut with_id = known.filter(|(_, known)| known.is_some_and(|known| known.id == id));
        with_id.next().map(|(name, _)| name.clone())
    }

    fn take_partition(
        &mut self,
        partition: TopicPartition,
        data: &PartitionData,
    ) -> Result<Option<FetchedRecords>> {
        let Some(reading) = self.partitions.get_mut(&partition) else {
            return Ok(None);
        };
        let Some(position) = reading.position else {
            return Ok(None);
        };
        let code = ErrorCode::from(data.error_code);
        let what = || format!("fetch {partition} at offset {}", position.offset);
        // Kafka's clients retry this code, but damage on the broker's disk does not go away.
        if code.is_retriable() && code != ErrorCode::CorruptMessage {
            let refused = ClientError::check(data.error_code, None, what());
            self.wait_for(&partition, refused)?;
            return Ok(None);
        }
        if code == ErrorCode::OffsetOutOfRange && self.options.out_of_range != OutOfRange::Fail {
            reading.failed();
            reading.lookup = Some(Lookup::OutOfRange(position.offset));
            return Ok(None);
        }
        ClientError::check(data.error_code, None, what())?;
        reading.works();
        self.outages.works(&Source::Partition(partition.clone()));
        self.read(partition, position.offset, data).map(Some)
    }

    /// Waits before the next call for a partition, after a retriable error.
    fn wait_for(&mut self, partition: &TopicPartition, refused: Result<()>) -> Result<()> {
        let Err(error) = refused else { return Ok(()) };
        if let Some(reading) = self.partitions.get_mut(partition) {
            reading.failed();
        }
        self.hurry_refresh();
        self.outages
            .failed(Source::Partition(partition.clone()), error)
    }

    fn read(
        &mut self,
        partition: TopicPartition,
        position: i64,
        data: &PartitionData,
    ) -> Result<FetchedRecords> {
        let bytes = data.records.as_ref().map_or(&[][..], Bytes::as_ref);
        let aborted = match self.options.isolation {
            Isolation::ReadCommitted => data.aborted_transactions.as_deref(),
            Isolation::ReadUncommitted => None,
        };
        let aborted = aborted.unwrap_or_default();
        let read = read_batches(bytes, position, aborted, &mut self.decompressor);
        let read = read.map_err(|what| ClientError::CorruptRecords {
            topic: partition.topic.clone(),
            partition: partition.partition,
            offset: position,
            what,
        })?;
        let reading = self.partitions.get_mut(&partition);
        let at = reading.and_then(|reading| reading.position.as_mut());
        if let Some(at) = at
            && read.leader_epoch >= 0
        {
            at.leader_epoch = read.leader_epoch;
        }
        Ok(FetchedRecords {
            partition,
            position,
            records: read.records,
            next_offset: read.next_offset,
            high_watermark: data.high_watermark,
        })
    }
}
