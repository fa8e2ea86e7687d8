//! The fetchers of a broker: each partition that it follows has one fetch under way to its leader.
//!
//! When the leader or its epoch changes, the next fetch does not wait for the answer of the last one, which may still come:
//! each leader has a fetcher of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_replica::Loss;
use ottla_replica::partition::{Fetched, LeaderAnswer};
use ottla_replication::{FollowerFetch, Replica};

use crate::between::{Between, Content, FollowerAnswer, ReplicaFetch};
use crate::messages::Place;
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::failed::Failed;
use crate::node::host::{Found, Replicas};
use crate::outside::Outside;

/// How long a leader may wait for records.
const WAIT: Duration = Duration::from_millis(150);
/// How much longer an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Asked {
    place: Place,
    leader: NodeId,
    fetch: FollowerFetch,
    /// How far the leader was told that the log is flushed, if it waits for that.
    told: Option<Offset>,
    /// An answer that comes later is for a connection that is closed.
    until: Duration,
}

#[derive(Debug)]
pub struct Replicating {
    process: ProcessId,
    /// This broker, as it is registered.
    replica: Replica,
    /// When each partition fetches next: what is under way then is lost.
    fetches_at: BTreeMap<Place, Duration>,
    /// What is under way, by number.
    asked: BTreeMap<u64, Asked>,
    /// The newest fetch of each partition.
    newest: BTreeMap<Place, u64>,
}

impl Replicating {
    pub fn new(process: ProcessId) -> Self {
        Self {
            process,
            replica: Replica {
                node: process.node,
                broker_epoch: None,
            },
            fetches_at: BTreeMap::new(),
            asked: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// The broker is registered in this epoch.
    pub fn set_epoch(&mut self, epoch: i64) {
        self.replica.broker_epoch = Some(epoch);
    }

    /// Follows the partitions that this node has and does not lead.
    pub fn reconcile(&mut self, replicas: &Replicas, outside: &mut Outside) {
        for partition in replicas.all() {
            let place = partition.id();
            let role = partition.role();
            let newest = self.newest.get(&place);
            let asked = newest.and_then(|number| self.asked.get(number));
            let is_old = asked.is_some_and(|asked| asked.fetch.leader_epoch != role.leader_epoch);
            if is_old {
                self.newest.remove(&place);
            }
            if !role.is_leader() && (is_old || !self.fetches_at.contains_key(&place)) {
                let delay = outside.between(50, 1_000);
                self.fetch_after(place, delay, outside);
            }
        }
    }

    fn fetch_after(&mut self, place: Place, delay: Duration, outside: &mut Outside) {
        self.fetches_at.insert(place, outside.time() + delay);
        outside.later(self.process, delay, NodeEvent::Fetch(place));
    }

    /// Fetches, if it is time. `number` names the fetch.
    pub fn fetch(
        &mut self,
        place: Place,
        number: u64,
        replicas: &Replicas,
        outside: &mut Outside,
    ) -> Result<(), Failed> {
        let at = self.fetches_at.get(&place);
        if at.is_none_or(|at| *at > outside.time()) {
            return Ok(());
        }
        let Found::Here(partition) = replicas.by_id(place.0, place.1) else {
            self.fetches_at.remove(&place);
            return Ok(());
        };
        let newest = self.newest.remove(&place);
        if let Some(asked) = newest.and_then(|number| self.asked.remove(&number)) {
            let lost = LeaderAnswer::Failed(ErrorCode::RequestTimedOut);
            let told = partition.on_fetched(&asked.fetch, &lost, outside.now(), &mut |_| ());
            let _ = told.map_err(Failed::Following)?;
        }
        if partition.role().is_leader() {
            self.fetches_at.remove(&place);
            return Ok(());
        }
        let Some(next) = replicas.next_fetch(&partition, outside.now()) else {
            let delay = outside.between(50_000, 150_000);
            self.fetch_after(place, delay, outside);
            return Ok(());
        };
        let fetch = ReplicaFetch {
            place,
            replica: self.replica,
            fetch: next.fetch,
            wants_offsets: next.wants_offsets,
            max_wait: WAIT,
        };
        let asked = Asked {
            place,
            leader: next.leader,
            fetch: next.fetch,
            told: next.fetch.flushed,
            until: outside.time() + WAIT + PATIENCE,
        };
        self.asked.insert(number, asked);
        self.newest.insert(place, number);
        self.fetch_after(place, WAIT + PATIENCE, outside);
        outside.send_between(&Between {
            from: self.process.node,
            to: next.leader,
            number,
            content: Content::Fetch(fetch),
        });
        Ok(())
    }

    /// Tells leaders what is flushed while a fetch waits, on another connection. The answers are of no use.
    pub fn tell_flushes(&mut self, replicas: &Replicas, outside: &mut Outside) {
        for number in self.newest.values() {
            let Some(asked) = self.asked.get_mut(number) else {
                continue;
            };
            let Found::Here(partition) = replicas.by_id(asked.place.0, asked.place.1) else {
                continue;
            };
            let flushed = partition.with_log(|log| log.flushed_offset());
            let flushed = flushed.map(|flushed| flushed.min(asked.fetch.offset));
            if asked.told.is_none() || flushed <= asked.told {
                continue;
            }
            asked.told = flushed;
            let fetch = ReplicaFetch {
                place: asked.place,
                replica: self.replica,
                fetch: FollowerFetch {
                    flushed,
                    ..asked.fetch
                },
                wants_offsets: false,
                max_wait: Duration::ZERO,
            };
            outside.send_between(&Between {
                from: self.process.node,
                to: asked.leader,
                number: 0,
                content: Content::Fetch(fetch),
            });
        }
    }

    /// A leader has answered the request of this number.
    pub fn on_answer(
        &mut self,
        (number, answer): (u64, &FollowerAnswer),
        replicas: &Replicas,
        outside: &mut Outside,
    ) -> Result<(), Failed> {
        let now = outside.time();
        self.asked.retain(|_, asked| asked.until >= now);
        let Some(Asked { place, fetch, .. }) = self.asked.remove(&number) else {
            return Ok(());
        };
        let Found::Here(partition) = replicas.by_id(place.0, place.1) else {
            return Ok(());
        };
        if self.newest.get(&place) == Some(&number) {
            self.newest.remove(&place);
            let delay = outside.between(100, 2_000);
            self.fetch_after(place, delay, outside);
        }
        let answer = as_answer(answer);
        let now = outside.now();
        let taken = partition.on_fetched(&fetch, &answer, now, &mut check_loss);
        taken.map(drop).map_err(Failed::Following)
    }
}

/// After an election of the last leader, what was never committed is told too.
fn check_loss(loss: &Loss) {
    assert_eq!(
        loss.from, loss.to,
        "check: nothing below a high watermark is removed, but {loss:?}"
    );
}

fn as_answer(answer: &FollowerAnswer) -> LeaderAnswer<'_> {
    match answer {
        FollowerAnswer::Records {
            bytes,
            high_watermark,
            log_start,
        } => LeaderAnswer::Records(Fetched {
            records: bytes,
            high_watermark: *high_watermark,
            log_start: *log_start,
        }),
        FollowerAnswer::Diverging(end) => LeaderAnswer::Diverging(*end),
        FollowerAnswer::Offsets(offsets) => LeaderAnswer::Offsets(*offsets),
        FollowerAnswer::Failed(code) => LeaderAnswer::Failed(*code),
    }
}
