//! An idempotent producer with several batches in flight, as stock clients have them.
//!
//! The batches go to one partition in the order of their sequence numbers. One that is refused, or whose answer is lost, is
//! sent again until it is acknowledged, the earliest first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::BatchOptions;
use ottla_replica::partition::RequiredAcks;

use super::Client;
use super::producer::{build, is_sent_again};
use super::session::Session;
use crate::messages::{ClientId, Place, Produce, Reply, Request};
use crate::model::{Model, Purpose, Sent, Survives};
use crate::outside::Outside;

/// `max.in.flight.requests.per.connection` of stock clients.
const IN_FLIGHT: usize = 5;

/// A batch that is not acknowledged, or follows one that is not.
#[derive(Debug)]
struct Batch {
    number: usize,
    is_acknowledged: bool,
    /// Whether all before it were acknowledged when it was sent last.
    was_first: bool,
}

#[derive(Debug)]
pub struct Pipeline {
    session: Session,
    id: Option<i64>,
    place: Option<Place>,
    /// The next sequence number for each partition.
    sequences: BTreeMap<Place, i32>,
    /// The partitions whose leaders know this producer. Another leader would take any sequence number, as Kafka's does, and
    /// refuse the batches before it. So the first batch of a partition is acknowledged before others follow it.
    known_in: BTreeSet<Place>,
    orders: u64,
    /// The oldest first.
    batches: VecDeque<Batch>,
}

impl Pipeline {
    pub fn new(client: ClientId, nodes: &[NodeId]) -> Self {
        Self {
            session: Session::with_depth(client, nodes, IN_FLIGHT),
            id: None,
            place: None,
            sequences: BTreeMap::new(),
            known_in: BTreeSet::new(),
            orders: 0,
            batches: VecDeque::new(),
        }
    }

    /// Adds a new batch, if there is room for one.
    fn add(&mut self, id: i64, model: &mut Model, outside: &mut Outside) {
        if self.batches.is_empty() {
            let places = model.places(|purpose| purpose == Purpose::Kept);
            self.place = outside.random.pick(&places).copied();
        }
        let Some(place) = self.place else {
            return;
        };
        let is_known = self.known_in.contains(&place);
        if self.batches.len() >= if is_known { IN_FLIGHT } else { 1 } {
            return;
        }
        let records = 1 + outside.random.signed(2);
        let sequence = self.sequences.entry(place).or_default();
        let options = BatchOptions {
            producer_id: id,
            producer_epoch: 0,
            base_sequence: *sequence,
            ..BatchOptions::default()
        };
        *sequence += i32::try_from(records).unwrap_or(0);
        let number = model.sent.len();
        let bytes = build(options, (number, records), None, outside);
        self.orders += 1;
        let number = model.sends(Sent {
            place,
            producer: self.session.client(),
            order: self.orders,
            bytes,
            records,
            is_idempotent: true,
            key: None,
        });
        self.batches.push_back(Batch {
            number,
            is_acknowledged: false,
            was_first: false,
        });
    }

    fn refused(&mut self, number: usize, code: ErrorCode, outside: &mut Outside) {
        let mut batches = self.batches.iter();
        let Some(batch) = batches.find(|batch| batch.number == number) else {
            return;
        };
        match code {
            // One before it was refused, and is sent again first.
            ErrorCode::OutOfOrderSequenceNumber if !batch.was_first => {}
            code if is_sent_again(code) => {}
            code => {
                panic!("check: idempotent producers go on: batch {number} is refused with {code:?}")
            }
        }
        self.session.rest(20_000, 200_000, outside);
    }
}

impl Client for Pipeline {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn act(&mut self, model: &mut Model, outside: &mut Outside) {
        let Some(id) = self.id else {
            return self.session.ask(Request::InitProducerId, outside);
        };
        let is_unsent =
            |batch: &Batch| !batch.is_acknowledged && !self.session.awaits(batch.number);
        let mut unsent = self.batches.iter().position(is_unsent);
        if unsent.is_none() {
            let count = self.batches.len();
            self.add(id, model, outside);
            unsent = (self.batches.len() > count).then_some(count);
        }
        let Some((place, batch)) = unsent.and_then(|at| Some((at, self.batches.get_mut(at)?)))
        else {
            return self.session.rest(20_000, 200_000, outside);
        };
        batch.was_first = place == 0;
        let sent = &model.sent[batch.number];
        let request = Request::Produce(Produce {
            place: sent.place,
            batch: sent.bytes.clone(),
            acks: RequiredAcks::All,
        });
        let number = batch.number;
        self.session.ask_tagged(request, number, outside);
        // Batches come in bursts.
        if self.session.awaits(number) && !outside.random.one_in(3) {
            self.session.rest(100, 3_000, outside);
        } else {
            self.session.rest(20_000, 500_000, outside);
        }
    }

    fn on_reply(&mut self, reply: Reply, model: &mut Model, _: &mut Outside) {
        match reply {
            Reply::ProducerId(Ok(id)) => {
                model.has_producer_id(id);
                self.id = Some(id);
            }
            Reply::ProducerId(Err(_)) => {}
            reply => panic!("a producer is answered {reply:?}"),
        }
    }

    fn on_tagged(&mut self, number: usize, reply: Reply, model: &mut Model, outside: &mut Outside) {
        match reply {
            Reply::Produced(Ok(base)) => {
                outside.note("acknowledged", [number as i64, base, 0]);
                model.acknowledged(number, base, Survives::PowerCut);
                self.known_in.insert(model.sent[number].place);
                outside.counts.records += model.sent[number].records.unsigned_abs();
                let mut batches = self.batches.iter_mut();
                if let Some(batch) = batches.find(|batch| batch.number == number) {
                    batch.is_acknowledged = true;
                }
                // A leader knows the last five batches only: a retry must be among them.
                let is_done = |batch: &mut Batch| batch.is_acknowledged;
                while self.batches.pop_front_if(is_done).is_some() {}
            }
            Reply::Produced(Err(code)) => {
                outside.note("refused", [number as i64, code.code().into(), 0]);
                self.refused(number, code, outside);
            }
            reply => self.on_reply(reply, model, outside),
        }
    }

    fn on_lost(&mut self, _: &mut Model, outside: &mut Outside) {
        self.session.rest(10_000, 200_000, outside);
    }
}
