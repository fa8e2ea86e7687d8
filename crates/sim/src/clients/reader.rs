//! Readers follow partitions from their start, and miss nothing.

use std::time::Duration;

use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::ErrorCode;

use super::Client;
use super::session::Session;
use crate::messages::{ClientId, Fetch, Fetched, Place, Reply, Request};
use crate::model::{Model, Purpose, Survives};
use crate::outside::Outside;

#[derive(Debug)]
pub struct Reader {
    session: Session,
    /// The partition that it follows, and the next offset.
    follows: Option<(Place, i64)>,
}

impl Reader {
    pub fn new(client: ClientId, nodes: &[NodeId]) -> Self {
        Self {
            session: Session::new(client, nodes),
            follows: None,
        }
    }

    /// Another partition, from where records are there for sure.
    fn follow_another(&mut self, model: &Model, outside: &mut Outside) {
        let places = model.places(|purpose| {
            matches!(purpose, Purpose::Kept | Purpose::Cached | Purpose::Trimmed)
        });
        let place = outside.random.pick(&places).copied();
        self.follows = place.map(|place| {
            let known = &model.partitions[&place];
            // What is not durable may be gone when it reads.
            let mut durable = known.placed.iter().rev();
            let newest = durable.find(|(_, placed)| placed.survives == Survives::PowerCut);
            let newest = newest.map_or(0, |(base, _)| *base);
            let from = newest - outside.random.signed(60);
            (place, from.max(known.asked_before))
        });
    }
}

impl Client for Reader {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn act(&mut self, model: &mut Model, outside: &mut Outside) {
        if self.follows.is_none() {
            self.follow_another(model, outside);
        }
        match self.follows {
            Some((place, offset)) => {
                let max_wait = Duration::from_millis(500);
                let request = Request::Fetch(Fetch {
                    place,
                    offset,
                    max_wait,
                    leader_epoch: None,
                });
                self.session.ask(request, outside);
            }
            None => self.session.rest(100_000, 200_000, outside),
        }
    }

    fn on_reply(&mut self, reply: Reply, model: &mut Model, outside: &mut Outside) {
        let (Reply::Fetched(fetched), Some((place, offset))) = (reply, self.follows.take()) else {
            panic!("a reader is answered something else");
        };
        self.session.rest(1_000, 200_000, outside);
        match fetched {
            Ok(Fetched {
                bytes,
                high_watermark,
                ..
            }) => {
                let next = model.read(place, offset, &bytes);
                outside.note("read up to", [place.1.0.into(), next, high_watermark]);
                // Where nothing is new, another partition may have more.
                let goes_on = next > offset || !outside.random.one_in(3);
                self.follows = goes_on.then_some((place, next));
            }
            Err(ErrorCode::OffsetOutOfRange) => {
                let newest = model.leader_epochs.get(&place).copied();
                if self.session.has_asked_an_old_leader(place, newest) {
                    self.follows = Some((place, offset));
                    return;
                }
                let purpose = model.purpose(place);
                let may_be = matches!(purpose, Purpose::Trimmed | Purpose::Cached);
                assert!(
                    may_be || !model.is_live(place),
                    "check: what was read is there: {offset} of {place:?} is out of range"
                );
            }
            Err(ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError) => {
                self.follows = Some((place, offset));
                self.session.rest(50_000, 300_000, outside);
            }
            Err(ErrorCode::UnknownTopicId) if !model.is_live(place) => {}
            Err(code) => {
                panic!("check: partitions can be read: {code:?} for {offset} of {place:?}")
            }
        }
    }

    fn on_lost(&mut self, _: &mut Model, outside: &mut Outside) {
        self.session.rest(10_000, 200_000, outside);
    }
}
