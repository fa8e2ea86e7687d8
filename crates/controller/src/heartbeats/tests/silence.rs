//! Brokers that fall silent, as the active controller sees them: machines that vanish, and others that are only slow.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::MonotonicTime;

use super::{beat, fence, image, node};
use crate::heartbeats::reach::{ANSWERED_WITHIN, Answer, Reach};
use crate::heartbeats::{DEFAULT_SESSION, Heartbeats};
use crate::request::FenceBroker;
use crate::running_time::RunningTime;

/// Milliseconds between two looks of the controller.
const STEP: usize = 50;
/// Milliseconds between two heartbeats of Ottla's brokers, and of Kafka's.
const PACE: u64 = 250;
const KAFKAS_PACE: u64 = 2_000;
const NEVER: Range<u64> = 0..0;

/// What happens, in milliseconds.
#[derive(Clone)]
struct World {
    pace: u64,
    /// No heartbeat of broker 1 arrives.
    silent: Range<u64>,
    /// Heartbeats of broker 1 arrive when this is over.
    delayed: Vec<Range<u64>>,
    /// The machine of broker 1 does not answer.
    gone: Range<u64>,
    /// The network of the controller is away: nothing arrives or answers.
    cut: Range<u64>,
    /// The controller's process does not run.
    stopped: Range<u64>,
    /// The controller becomes active; before, it only tries to connect.
    active: u64,
}

const fn world() -> World {
    World {
        pace: PACE,
        silent: NEVER,
        delayed: Vec::new(),
        gone: NEVER,
        cut: NEVER,
        stopped: NEVER,
        active: 0,
    }
}

/// The active controller, and the brokers 1 and 2 on other machines. All is well in the first ten seconds.
struct Watching {
    world: World,
    image: MetadataImage,
    time: RunningTime,
    heartbeats: Option<Heartbeats>,
    reach: Reach,
    /// The attempts that have no answer yet.
    waiting: BTreeMap<NodeId, (u64, MonotonicTime)>,
    /// Heartbeats that are on the way: when they arrive, and of which broker.
    arriving: Vec<(u64, i32)>,
}

impl World {
    /// What is fenced within the first minute, and when.
    fn fenced(&self) -> Option<(u64, FenceBroker)> {
        let mut watching = Watching {
            world: self.clone(),
            image: image(),
            time: RunningTime::default(),
            heartbeats: None,
            reach: Reach::default(),
            waiting: BTreeMap::new(),
            arriving: Vec::new(),
        };
        (0..60_000).step_by(STEP).find_map(|millis| {
            watching.send(millis);
            let is_running = !self.stopped.contains(&millis);
            let fence = is_running.then(|| watching.look(millis)).flatten();
            fence.map(|fence| (millis, fence))
        })
    }

    fn answers(&self, id: i32, millis: u64) -> bool {
        !(self.cut.contains(&millis) || (id == 1 && self.gone.contains(&millis)))
    }
}

impl Watching {
    fn send(&mut self, millis: u64) {
        let world = &self.world;
        for id in [1, 2] {
            let is_lost =
                world.cut.contains(&millis) || (id == 1 && world.silent.contains(&millis));
            if millis.is_multiple_of(world.pace) && !is_lost && millis >= world.active {
                let mut delays = world.delayed.iter().filter(|_| id == 1);
                let delay = delays.find(|delay| delay.contains(&millis));
                self.arriving
                    .push((delay.map_or(millis, |delay| delay.end), id));
            }
        }
    }

    fn look(&mut self, millis: u64) -> Option<FenceBroker> {
        let now = self.time.at(MonotonicTime(Duration::from_millis(millis)));
        if self.heartbeats.is_none() && millis >= self.world.active {
            let session = DEFAULT_SESSION;
            self.heartbeats = Some(Heartbeats::new(&self.image, session, now).beside(NodeId(3)));
        }
        // The worst order: the controller looks before it reads what has arrived.
        let over = self.heartbeats.as_mut().and_then(|all| all.on_tick(now));
        let away = over.or_else(|| self.attempt(millis, now));
        for (_, id) in self.arriving.extract_if(.., |(at, _)| *at <= millis) {
            if let Some(heartbeats) = &mut self.heartbeats {
                heartbeats.on_heartbeat(&self.image, &beat(node(id), 50), now);
            }
        }
        away
    }

    fn attempt(&mut self, millis: u64, now: MonotonicTime) -> Option<FenceBroker> {
        let mut wanted = self.reach.untried(&self.image, now);
        let late = self.heartbeats.as_ref().map(|all| all.late(now));
        wanted.extend(late.unwrap_or_default());
        for (id, epoch) in wanted {
            let (began, began_at) = *self.waiting.entry(id).or_insert((millis, now));
            let answer = if self.world.answers(id.0, began) {
                Answer::Accepted
            } else if Duration::from_millis(millis - began) >= ANSWERED_WITHIN {
                Answer::Unanswered
            } else {
                continue;
            };
            self.waiting.remove(&id);
            self.reach.on_attempt((id, epoch), (began_at, now), answer);
            let since = self.reach.unreachable_since((id, epoch));
            let heartbeats = self.heartbeats.as_mut();
            if let Some((heartbeats, since)) = heartbeats.zip(since)
                && let Some(fence) = heartbeats.on_unreachable((id, epoch), since, now)
            {
                return Some(fence);
            }
        }
        None
    }
}

/// How long after the tenth second broker 1 is fenced.
fn fenced_after(world: &World) -> u64 {
    let (millis, found) = world.fenced().expect("nothing is fenced");
    assert_eq!(found, fence(1));
    millis - 10_000
}

#[test]
fn a_vanished_machine_is_fenced_within_two_seconds() {
    for moment in (0..PACE).step_by(STEP) {
        let vanished = World {
            silent: 10_000 - moment..u64::MAX,
            gone: 10_000 - moment..u64::MAX,
            ..world()
        };
        assert!(fenced_after(&vanished) < 1_500);
    }
}

#[test]
fn a_machine_that_vanished_with_the_last_controller_is_fenced_within_a_second() {
    let vanished = World {
        silent: 8_000..u64::MAX,
        gone: 8_000..u64::MAX,
        active: 10_000,
        ..world()
    };
    assert!(fenced_after(&vanished) < 1_000);
}

#[test]
fn a_process_that_stands_still_has_the_whole_session_while_its_machine_answers() {
    let stopped = World {
        silent: 10_000..u64::MAX,
        ..world()
    };
    assert!(fenced_after(&stopped) > 8_500);
    for seconds in [1, 5, 8] {
        let stopped = World {
            silent: 10_000..10_000 + seconds * 1_000,
            ..world()
        };
        assert_eq!(stopped.fenced(), None, "{seconds} s");
    }
}

#[test]
fn a_machine_that_stands_still_for_a_moment_is_not_fenced() {
    let paused = World {
        silent: 10_000..10_750,
        gone: 10_000..10_750,
        ..world()
    };
    assert_eq!(paused.fenced(), None);
}

#[test]
fn load_or_a_slow_disk_that_delays_heartbeats_fences_nobody() {
    let slow_disk = World {
        delayed: std::iter::once(10_000..15_000).collect(),
        ..world()
    };
    assert_eq!(slow_disk.fenced(), None);
    // Each second's heartbeats come at its end, and its attempts to connect are not answered in time now and then.
    let loaded = World {
        delayed: (10..50).map(|at| at * 1_000..at * 1_000 + 950).collect(),
        gone: 20_100..20_700,
        ..world()
    };
    assert_eq!(loaded.fenced(), None);
}

#[test]
fn a_controller_that_stood_still_fences_nobody() {
    for seconds in [1, 5, 20] {
        let stopped = World {
            stopped: 10_000..10_000 + seconds * 1_000,
            ..world()
        };
        assert_eq!(stopped.fenced(), None, "{seconds} s");
    }
}

#[test]
fn a_controller_whose_own_network_is_away_fences_nobody_before_the_end_of_sessions() {
    let cut = World {
        cut: 10_000..u64::MAX,
        ..world()
    };
    assert!(fenced_after(&cut) > 8_500);
    let short = World {
        cut: 10_000..15_000,
        ..world()
    };
    assert_eq!(short.fenced(), None);
}

#[test]
fn an_address_that_never_answered_is_no_evidence() {
    let hidden = World {
        gone: 0..u64::MAX,
        silent: 10_000..u64::MAX,
        ..world()
    };
    assert!(fenced_after(&hidden) > 8_500);
}

#[test]
fn a_broker_of_kafka_keeps_its_pace() {
    let well = World {
        pace: KAFKAS_PACE,
        ..world()
    };
    assert_eq!(well.fenced(), None);
    let paused = World {
        gone: 10_050..13_500,
        silent: 10_050..13_500,
        ..well.clone()
    };
    assert_eq!(paused.fenced(), None);
    let vanished = World {
        gone: 10_050..u64::MAX,
        silent: 10_050..u64::MAX,
        ..well
    };
    assert!((4_000..7_000).contains(&fenced_after(&vanished)));
}
