//! The fetchers of a broker: each partition that it follows has one fetch under way to its leader.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// How long a leader may wait for records: shorter where it waits for the follower's flush.
const WAIT: Duration = Duration::from_millis(150);
const WAIT_FOR_FLUSH: Duration = Duration::from_millis(4);
/// How much longer an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    fetch: FollowerFetch,
}

#[derive(Debug)]
pub struct Replicating {
    process: ProcessId,
    /// This broker, as it is registered.
    replica: Replica,
    /// When each partition fetches next: what is under way then is lost.
    fetches_at: BTreeMap<Place, Duration>,
    asked: BTreeMap<Place, Asked>,
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
            if !partition.role().is_leader() && !self.fetches_at.contains_key(&place) {
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
        if let Some(asked) = self.asked.remove(&place) {
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
        let is_flushed = next
            .fetch
            .flushed
            .is_none_or(|flushed| flushed >= next.fetch.offset);
        let max_wait = if is_flushed { WAIT } else { WAIT_FOR_FLUSH };
        let fetch = ReplicaFetch {
            place,
            replica: self.replica,
            fetch: next.fetch,
            wants_offsets: next.wants_offsets,
            max_wait,
        };
        let asked = Asked {
            number,
            fetch: next.fetch,
        };
        self.asked.insert(place, asked);
        self.fetch_after(place, max_wait + PATIENCE, outside);
        outside.send_between(&Between {
            from: self.process.node,
            to: next.leader,
            number,
            content: Content::Fetch(fetch),
        });
        Ok(())
    }

    /// A leader has answered the request of this number.
    pub fn on_answer(
        &mut self,
        (number, answer): (u64, &FollowerAnswer),
        replicas: &Replicas,
        outside: &mut Outside,
    ) -> Result<(), Failed> {
        let mut asked = self.asked.iter();
        let Some(place) = asked
            .find(|(_, asked)| asked.number == number)
            .map(|(at, _)| *at)
        else {
            return Ok(());
        };
        let Some(asked) = self.asked.remove(&place) else {
            return Ok(());
        };
        let Found::Here(partition) = replicas.by_id(place.0, place.1) else {
            return Ok(());
        };
        let delay = outside.between(100, 2_000);
        self.fetch_after(place, delay, outside);
        let answer = as_answer(answer);
        let now = outside.now();
        let taken = partition.on_fetched(&asked.fetch, &answer, now, &mut check_loss);
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
