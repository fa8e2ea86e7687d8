//! Whatever happens, what is below the high watermark is on every member of the ISR.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::time::MonotonicTime;
use ottla_replication::{
    Answer, Broker, Brokers, Committed, EpochStart, Leader, Progress, Replica, Role, Situation,
};
use proptest::prelude::*;

const ME: NodeId = NodeId(1);
const START: EpochStart = EpochStart {
    offset: Offset(0),
    high_watermark: Offset(0),
};

#[derive(Debug, Clone)]
enum Step {
    Append(i64),
    Flush(i64),
    /// A follower fetches, after it has received and flushed this many more records.
    Fetch(i32, i64, i64),
    Wait(u64),
    Commit,
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..5_i64).prop_map(Step::Append),
        (1..5_i64).prop_map(Step::Flush),
        (2..4_i32, 0..6_i64, 0..6_i64)
            .prop_map(|(node, got, flushed)| Step::Fetch(node, got, flushed)),
        (0..20_u64).prop_map(Step::Wait),
        Just(Step::Commit),
        Just(Step::Refuse),
    ]
}

/// The logs of leader and followers: their ends and their flushed offsets.
#[derive(Debug, Default)]
struct World {
    end: i64,
    flushed: i64,
    followers: BTreeMap<i32, (i64, i64)>,
    now: MonotonicTime,
}

impl World {
    fn situation<'a>(&self, brokers: &'a Brokers) -> Situation<'a> {
        Situation {
            progress: Progress {
                end: Offset(self.end),
                counted: Offset(self.flushed),
            },
            min_insync_replicas: 2,
            max_lag: Duration::from_secs(30),
            brokers,
            now: self.now,
        }
    }

    fn run(&mut self, step: &Step, leader: &mut Leader, brokers: &Brokers) {
        match *step {
            Step::Append(count) => self.end += count,
            Step::Flush(count) => self.flushed = self.end.min(self.flushed + count),
            Step::Fetch(node, got, flushed) => {
                let place = self.followers.entry(node).or_default();
                place.0 = self.end.min(place.0 + got);
                place.1 = place.0.min(place.1 + flushed);
                let progress = Progress {
                    end: Offset(place.0),
                    counted: Offset(place.1),
                };
                let from = Replica {
                    node: NodeId(node),
                    broker_epoch: Some(7),
                };
                let fetched = leader.on_fetch(from, progress, &self.situation(brokers));
                assert!(fetched.is_ok(), "{fetched:?}");
            }
            Step::Wait(seconds) => {
                self.now = self.now.after(Duration::from_secs(seconds));
                leader.on_tick(&self.situation(brokers));
            }
            Step::Commit => {
                if let Some(change) = leader.pending().cloned() {
                    let committed = Committed {
                        leader_epoch: change.leader_epoch,
                        partition_epoch: change.partition_epoch + 1,
                        isr: change.isr.iter().map(|member| member.node).collect(),
                    };
                    leader.on_answer(&change, Answer::Committed(committed), self.now);
                }
            }
            Step::Refuse => {
                if let Some(change) = leader.pending().cloned() {
                    leader.on_answer(&change, Answer::Refused, self.now);
                }
            }
        }
    }

    /// The offset up to which a replica's records are on stable storage.
    fn flushed_by(&self, node: NodeId) -> i64 {
        if node == ME {
            return self.flushed;
        }
        self.followers
            .get(&node.0)
            .map_or(0, |(_, flushed)| *flushed)
    }
}

proptest! {
    #[test]
    fn every_member_of_the_isr_has_what_is_below_the_high_watermark(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let nodes = vec![ME, NodeId(2), NodeId(3)];
        let role = Role {
            node: ME,
            leader: Some(ME),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: nodes.clone(),
            isr: nodes,
            recovering: false,
        };
        let mut world = World::default();
        let alive = Broker { epoch: 7, is_fenced: false, is_shutting_down: false };
        let brokers: Brokers = role.replicas.iter().map(|id| (*id, alive)).collect();
        let mut leader = Leader::new(role, START, world.now);
        let mut before = Offset(0);
        for step in &steps {
            world.run(step, &mut leader, &brokers);
            let has_too_few = leader.has_too_few_in_sync(2);
            let next = leader.next_high_watermark(&world.situation(&brokers));
            prop_assert!(next.is_none() || !has_too_few, "moves below the min ISR");
            if let Some(next) = next {
                leader.advanced(next);
            }
            let at = leader.high_watermark();
            prop_assert!(at >= before, "went back");
            before = at;
            prop_assert!(leader.role().isr.contains(&ME), "the leader left the ISR");
            for node in &leader.role().isr {
                let flushed = world.flushed_by(*node);
                prop_assert!(flushed >= at.0, "{node:?} has {flushed}, the high watermark is {at}");
            }
        }
    }
}
