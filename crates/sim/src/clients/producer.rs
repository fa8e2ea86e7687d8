//! Producers: idempotent ones send a batch until they know its offset, others may give up.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_replica::partition::RequiredAcks;

use super::Client;
use super::session::Session;
use crate::messages::{ClientId, Place, Produce, Reply, Request};
use crate::model::{Model, Purpose, Sent, Survives};
use crate::outside::Outside;

/// Keys of each producer in a compacted partition.
const KEYS: u64 = 12;
/// The longest time between two batches, in microseconds.
const PAUSE: u64 = 340_000;

#[derive(Debug)]
pub struct Producer {
    session: Session,
    is_idempotent: bool,
    acks: RequiredAcks,
    id: Option<i64>,
    /// The next sequence number for each partition.
    sequences: BTreeMap<Place, i32>,
    orders: u64,
    /// The number of the batch that is not acknowledged yet.
    pending: Option<usize>,
}

impl Producer {
    pub fn new(
        client: ClientId,
        nodes: &[NodeId],
        is_idempotent: bool,
        acks: RequiredAcks,
    ) -> Self {
        Self {
            session: Session::new(client, nodes),
            is_idempotent,
            acks: if is_idempotent {
                RequiredAcks::All
            } else {
                acks
            },
            id: None,
            sequences: BTreeMap::new(),
            orders: 0,
            pending: None,
        }
    }

    fn send(&mut self, number: usize, model: &Model, outside: &mut Outside) {
        let sent = &model.sent[number];
        let request = Request::Produce(Produce {
            place: sent.place,
            batch: sent.bytes.clone(),
            acks: self.acks,
        });
        self.session.ask(request, outside);
    }

    /// A new batch for some partition.
    fn batch(&mut self, model: &mut Model, outside: &mut Outside) -> Option<usize> {
        let places = model.places(|purpose| purpose != Purpose::Internal);
        let place = *outside.random.pick(&places)?;
        let number = model.sent.len();
        let is_keyed = model.purpose(place) == Purpose::Compacted;
        let key = is_keyed.then(|| {
            let key = outside.random.below(KEYS);
            format!("{} {key}", self.session.client()).into_bytes()
        });
        let sequence = self.sequences.get(&place).copied().unwrap_or(0);
        let mut options = BatchOptions::default();
        if let Some(id) = self.id.filter(|_| self.is_idempotent) {
            options.producer_id = id;
            options.producer_epoch = 0;
            options.base_sequence = sequence;
        }
        let records = 1 + outside.random.signed(3);
        let bytes = build(options, (number, records), key.as_deref(), outside);
        self.orders += 1;
        Some(model.sends(Sent {
            place,
            producer: self.session.client(),
            order: self.orders,
            bytes,
            records,
            is_idempotent: self.is_idempotent,
            key,
        }))
    }

    fn acknowledged(&mut self, number: usize, base: i64, model: &mut Model) -> u64 {
        let survives = match self.acks {
            RequiredAcks::All => Survives::PowerCut,
            RequiredAcks::Leader => Survives::Kill,
        };
        model.acknowledged(number, base, survives);
        let sent = &model.sent[number];
        let sequence = self.sequences.entry(sent.place).or_default();
        *sequence += i32::try_from(sent.records).unwrap_or(0);
        self.pending = None;
        sent.records.unsigned_abs()
    }

    fn refused(&mut self, number: usize, code: ErrorCode, model: &Model, outside: &mut Outside) {
        let place = model.sent[number].place;
        match code {
            ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition
                if !model.is_live(place) =>
            {
                self.pending = None;
            }
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch => {
                // What a power cut may take, it may have taken.
                let may_be = model.purpose(place) == Purpose::Cached || !model.is_live(place);
                assert!(
                    may_be,
                    "check: idempotent producers go on: batch {number} of {place:?} is {code:?}"
                );
                self.pending = None;
                self.id = None;
                self.sequences.clear();
            }
            code if is_sent_again(code) => {}
            code => panic!("check: sound batches are taken: {code:?} for {number}"),
        }
        self.session.rest(50_000, 400_000, outside);
    }
}

impl Client for Producer {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn act(&mut self, model: &mut Model, outside: &mut Outside) {
        if self.is_idempotent && self.id.is_none() {
            return self.session.ask(Request::InitProducerId, outside);
        }
        if self.pending.is_none() {
            self.pending = self.batch(model, outside);
        }
        match self.pending {
            Some(number) => self.send(number, model, outside),
            None => self.session.rest(50_000, PAUSE, outside),
        }
    }

    fn on_reply(&mut self, reply: Reply, model: &mut Model, outside: &mut Outside) {
        self.session.rest(1_000, PAUSE, outside);
        match (reply, self.pending) {
            (Reply::ProducerId(Ok(id)), _) => {
                model.has_producer_id(id);
                self.id = Some(id);
            }
            (Reply::ProducerId(Err(_)), _) => {}
            (Reply::Produced(Ok(base)), Some(number)) => {
                outside.note("acknowledged", [number as i64, base, 0]);
                outside.counts.records += self.acknowledged(number, base, model);
            }
            (Reply::Produced(Err(code)), Some(number)) => {
                outside.note("refused", [number as i64, code.code().into(), 0]);
                self.refused(number, code, model, outside);
            }
            (reply, pending) => panic!("a producer is answered {reply:?} for {pending:?}"),
        }
    }

    fn on_lost(&mut self, _: &mut Model, outside: &mut Outside) {
        if !self.is_idempotent && outside.random.one_in(2) {
            self.pending = None;
        }
        self.session.rest(10_000, 200_000, outside);
    }
}

/// Whether a batch that was refused with this code is sent again as it is.
pub fn is_sent_again(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::KafkaStorageError
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition
    )
}

/// A batch whose records carry its number.
pub fn build(
    options: BatchOptions,
    (number, records): (usize, i64),
    key: Option<&[u8]>,
    outside: &mut Outside,
) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    let now = outside.now().wall.0;
    for _ in 0..records {
        let mut value = (number as u64).to_le_bytes().to_vec();
        value.resize(8 + outside.random.index(120), b'.');
        builder.append(now, key, Some(&value), &[]);
    }
    Bytes::from(builder.build().expect("a batch with records can be built"))
}
