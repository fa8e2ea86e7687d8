//! What clients ask of partitions, as the handlers of the broker pass it on: produce, fetch, delete records.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_log::{Batch, Bound, FirstBatch, Origin, TrimError};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{Decompressor, first_batch, validate};
use ottla_replica::partition::{AnsweredBy, Append, ReadAt, RequiredAcks};
use ottla_replica::{Reader, Unavailable, Unreadable, checkpoints};

use super::event::{NodeEvent, ProcessId};
use super::host::{Mailbox, Partition, Replicas, Waiter, Waker};
use crate::messages::{Fetch, Fetched, Place, Produce, Reply, ReplyTo};
use crate::outside::Outside;

/// Bytes that a fetch is content with.
const FETCH_BYTES: usize = 4096;
/// The version of Produce that clients speak.
const PRODUCE_VERSION: i16 = 13;

/// The requests of a process; fetches wait for records.
#[derive(Debug)]
pub struct DataRequests {
    process: ProcessId,
    replicas: Arc<Replicas>,
    mailbox: Mailbox,
    fetches: BTreeMap<u64, Waiting>,
    count: u64,
}

#[derive(Debug)]
struct Waiting {
    to: ReplyTo,
    fetch: Fetch,
    reader: Arc<Reader<(Mailbox, Waker)>>,
}

impl DataRequests {
    pub fn new(process: ProcessId, replicas: Arc<Replicas>, mailbox: Mailbox) -> Self {
        Self {
            process,
            replicas,
            mailbox,
            fetches: BTreeMap::new(),
            count: 0,
        }
    }

    /// Appends a batch; nothing where the reply waits for an acknowledgement.
    pub fn produce(
        &self,
        to: ReplyTo,
        request: &Produce,
        outside: &mut Outside,
    ) -> Option<Result<i64, ErrorCode>> {
        let Produce { place, batch, acks } = request;
        let (place, acks) = (*place, *acks);
        let now = outside.now();
        let appended = self.find(place).and_then(|partition| {
            let batch = first_batch(batch, PRODUCE_VERSION).map_err(|error| error.code())?;
            let rules = &partition.settings().rules;
            let valid = validate(&batch, rules, now.wall, &mut Decompressor::default());
            let valid = valid.map_err(|error| error.code())?;
            let batches = [Batch::from(&valid)];
            let append = Append {
                batches: &batches,
                acks,
            };
            let outcome = partition.append(&[append], Origin::Client, now).pop();
            let outcome = outcome.expect("an outcome for each request");
            let appended = outcome.map_err(|refused| refused.code())?;
            Ok((partition, appended))
        });
        let (partition, appended) = match appended {
            Ok(appended) => appended,
            Err(code) => return Some(Err(code)),
        };
        let first = appended.first_offset.0;
        let numbers = [i64::from(place.1.0), first, appended.last_offset.0];
        outside.note("appended to", numbers);
        if acks == RequiredAcks::Leader {
            return Some(Ok(first));
        }
        let end = appended.last_offset.plus(1);
        let waits = || (self.mailbox.clone(), Waiter::Producer(to, first));
        partition.replicated(end, waits).then_some(Ok(first))
    }

    /// Answers a fetch, or lets it wait for records.
    pub fn fetch(&mut self, to: ReplyTo, fetch: Fetch, outside: &mut Outside) {
        self.count += 1;
        let number = self.count;
        let reader = Reader::new((self.mailbox.clone(), Waker::Client(number)));
        self.fetches.insert(number, Waiting { to, fetch, reader });
        self.look_at_fetch(number, outside);
        if self.fetches.contains_key(&number) {
            outside.later(self.process, fetch.max_wait, NodeEvent::FetchWaited(number));
        }
    }

    /// Answers a fetch if there is something to read, or an error; otherwise it waits on.
    pub fn look_at_fetch(&mut self, fetch: u64, outside: &mut Outside) {
        if let Some(reply) = self.try_fetch(fetch, outside)
            && let Some(Waiting { to, .. }) = self.fetches.remove(&fetch)
        {
            outside.reply(to, Reply::Fetched(reply));
        }
    }

    fn try_fetch(&self, fetch: u64, outside: &Outside) -> Option<Result<Fetched, ErrorCode>> {
        let Waiting { fetch, reader, .. } = self.fetches.get(&fetch)?;
        let partition = match self.find(fetch.place) {
            Ok(partition) => partition,
            Err(code) => return Some(Err(code)),
        };
        reader.lacks(1);
        partition.watch(reader, 0);
        match read(&partition, fetch, outside) {
            Ok((fetched, unflushed)) if fetched.bytes.is_empty() => {
                if unflushed > 0 {
                    partition.make_readable(outside.now().monotonic);
                }
                None
            }
            Ok((fetched, _)) => Some(Ok(fetched)),
            Err(code) => Some(Err(code)),
        }
    }

    pub fn end_fetch(&mut self, fetch: u64, outside: &mut Outside) {
        let Some(Waiting { to, fetch, .. }) = self.fetches.remove(&fetch) else {
            return;
        };
        let partition = self.find(fetch.place);
        let reply = partition.and_then(|partition| read(&partition, &fetch, outside));
        outside.reply(to, Reply::Fetched(reply.map(|(fetched, _)| fetched)));
    }

    /// The new log start is written down before the answer.
    pub fn delete_records(
        &self,
        place: Place,
        before: i64,
        outside: &mut Outside,
    ) -> Result<i64, ErrorCode> {
        let partition = self.find(place)?;
        let now = outside.now().wall;
        let deleted =
            partition.with_leader_log(None, |log| log.delete_records(Some(Offset(before)), now));
        let deleted = deleted.map_err(|unavailable| unavailable.code())?;
        let start = deleted.map_err(|error| match error {
            TrimError::Storage(error) => Unavailable::Storage(error).code(),
            TrimError::BeyondHighWatermark { .. } => ErrorCode::OffsetOutOfRange,
        })?;
        let directory = partition.directory();
        let written = checkpoints::ensure_log_starts(directory, || self.replicas.all_in(directory));
        outside.note("deleted records before", [i64::from(place.1.0), start.0, 0]);
        written.map_err(|_| ErrorCode::KafkaStorageError)?;
        Ok(start.0)
    }

    fn find(&self, (topic, index): Place) -> Result<Arc<Partition>, ErrorCode> {
        self.replicas.by_id(topic, index).or_code()
    }
}

/// A producer's records are acknowledged, or will not be.
pub fn acknowledge(
    to: ReplyTo,
    offset: i64,
    outcome: Result<(), Unavailable>,
    outside: &mut Outside,
) {
    let outcome = outcome.map(|()| offset);
    let outcome = outcome.map_err(|unavailable| unavailable.code());
    outside.reply(to, Reply::Produced(outcome));
}

/// Reads what consumers may see, and says how many bytes they could have besides once they are flushed.
fn read(
    partition: &Partition,
    fetch: &Fetch,
    outside: &Outside,
) -> Result<(Fetched, u64), ErrorCode> {
    let read = ReadAt {
        offset: Offset(fetch.offset),
        max_bytes: FETCH_BYTES,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::HighWatermark,
        answered_by: AnsweredBy::Leader,
        current_epoch: fetch.leader_epoch,
        last_fetched_epoch: None,
    };
    let planned = partition.plan(&read, outside.now().monotonic);
    let planned = planned.map_err(|unreadable: Unreadable| unreadable.code())?;
    let mut bytes = Vec::new();
    let read = planned.plan.read(&mut bytes);
    read.map_err(|error| Unavailable::Storage(error).code())?;
    let fetched = Fetched {
        bytes,
        log_start: planned.offsets.log_start.0,
        high_watermark: planned.offsets.high_watermark.0,
    };
    Ok((fetched, planned.unflushed))
}
