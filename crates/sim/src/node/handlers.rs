//! What clients ask of a node, as the handlers of the broker pass it on to its partitions and coordinators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::ControllerRequest;
use ottla_coordinator::group::requests::{GroupCall, GroupRequest};
use ottla_log::{Batch, Bound, FirstBatch, Origin, TrimError};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{Decompressor, first_batch, validate};
use ottla_replica::partition::{Append, ReadAt, RequiredAcks};
use ottla_replica::{Reader, Unavailable, Unreadable, checkpoints};

use super::controller::Caller;
use super::host::{Mailbox, Waiter};
use super::{NodeEvent, Partition, Process};
use crate::messages::{Fetched, Place, Produce, Reply, ReplyTo, Request};
use crate::outside::Outside;

/// Bytes that a fetch is content with.
const FETCH_BYTES: usize = 4096;
/// The version of Produce that clients speak.
const PRODUCE_VERSION: i16 = 13;

/// Fetches that wait for records.
#[derive(Debug, Default)]
pub struct Waiting {
    fetches: BTreeMap<u64, Fetch>,
    count: u64,
}

#[derive(Debug)]
struct Fetch {
    to: ReplyTo,
    place: Place,
    offset: i64,
    reader: Arc<Reader<(Mailbox, u64)>>,
}

impl Waiting {
    /// Adds a fetch, and returns its number.
    fn add(&mut self, to: ReplyTo, place: Place, offset: i64, mailbox: &Mailbox) -> u64 {
        self.count += 1;
        let reader = Reader::new((mailbox.clone(), self.count));
        let fetch = Fetch {
            to,
            place,
            offset,
            reader,
        };
        self.fetches.insert(self.count, fetch);
        self.count
    }
}

impl Process {
    pub fn on_request(&mut self, to: ReplyTo, request: Request, outside: &mut Outside) {
        match request {
            Request::Produce(request) => {
                if let Some(reply) = self.produce(to, &request, outside) {
                    outside.reply(to, Reply::Produced(reply));
                }
            }
            Request::Fetch {
                place,
                offset,
                max_wait,
            } => {
                let fetch = self.waiting.add(to, place, offset, &self.mailbox);
                self.begin_fetch(fetch, max_wait, outside);
            }
            Request::InitProducerId => self.give_producer_id(to, outside),
            Request::DeleteRecords { place, before } => {
                let deleted = self.delete_records(place, before, outside);
                outside.reply(to, Reply::Deleted(deleted));
            }
            Request::Controller(mut request) => {
                if let ControllerRequest::CreateTopics(create) = &mut request {
                    for topic in &mut create.topics {
                        topic.id = Uuid::from_parts(outside.random.next(), outside.random.next());
                    }
                }
                self.ask(Caller::Client(to), request, outside);
            }
            Request::Describe(name) => {
                let found = self.image.topic(&name).map(|topic| topic.id);
                outside.reply(to, Reply::Described(found));
            }
            Request::Group(request) => {
                let group = group_of(&request).to_owned();
                self.on_group_request(&group, request, to, outside);
            }
        }
        self.hear(outside);
    }

    fn find(&self, (topic, index): Place) -> Result<Arc<Partition>, ErrorCode> {
        self.replicas.by_id(topic, index).or_code()
    }

    /// Appends a batch; nothing where the reply waits for an acknowledgement.
    fn produce(
        &mut self,
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

    fn begin_fetch(&mut self, fetch: u64, max_wait: Duration, outside: &mut Outside) {
        self.look_at_fetch(fetch, outside);
        if self.waiting.fetches.contains_key(&fetch) {
            self.later(max_wait, NodeEvent::FetchWaited(fetch), outside);
        }
    }

    /// Answers a fetch if there is something to read, or an error; otherwise it waits on.
    pub(super) fn look_at_fetch(&mut self, fetch: u64, outside: &mut Outside) {
        if let Some(reply) = self.try_fetch(fetch, outside)
            && let Some(Fetch { to, .. }) = self.waiting.fetches.remove(&fetch)
        {
            outside.reply(to, Reply::Fetched(reply));
        }
    }

    fn try_fetch(&self, fetch: u64, outside: &Outside) -> Option<Result<Fetched, ErrorCode>> {
        let Fetch {
            place,
            offset,
            reader,
            ..
        } = self.waiting.fetches.get(&fetch)?;
        let partition = match self.find(*place) {
            Ok(partition) => partition,
            Err(code) => return Some(Err(code)),
        };
        reader.lacks(1);
        partition.watch(reader);
        match read(&partition, *offset, outside) {
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

    pub(super) fn end_fetch(&mut self, fetch: u64, outside: &mut Outside) {
        let Some(Fetch {
            to, place, offset, ..
        }) = self.waiting.fetches.remove(&fetch)
        else {
            return;
        };
        let partition = self.find(place);
        let reply = partition.and_then(|partition| read(&partition, offset, outside));
        outside.reply(to, Reply::Fetched(reply.map(|(fetched, _)| fetched)));
    }

    /// The new log start is written down before the answer.
    fn delete_records(
        &mut self,
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
    offset: i64,
    outside: &Outside,
) -> Result<(Fetched, u64), ErrorCode> {
    let read = ReadAt {
        offset: Offset(offset),
        max_bytes: FETCH_BYTES,
        first_batch: FirstBatch::MayExceed,
        bound: Bound::HighWatermark,
        current_epoch: None,
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

fn group_of(request: &GroupRequest) -> &str {
    match request {
        GroupRequest::Join(request) => request.group_id(),
        GroupRequest::Sync(request) => request.group_id(),
        GroupRequest::Heartbeat(request) => request.group_id(),
        GroupRequest::Leave(request) => request.group_id(),
        GroupRequest::CommitOffsets(request) => request.group_id(),
        GroupRequest::FetchOffsets(request) => request.group_id(),
        GroupRequest::DeleteOffsets(request) => request.group_id(),
        GroupRequest::DeleteGroup(request) => request.group_id(),
        GroupRequest::DescribeGroup(request) => request.group_id(),
        GroupRequest::ListGroups(_) | GroupRequest::ListOffsets(_) => "",
    }
}
