//! Sessions, evidence of death and controlled shutdowns, with time as an argument.

mod silence;

use std::time::Duration;

use ottla_metadata::{BrokerRegistration, MetadataDelta, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::time::MonotonicTime;

use super::{DEFAULT_SESSION, Heartbeats};
use crate::broker_heartbeat::{ControlledShutdown, Health, Heartbeat, Wish};
use crate::request::FenceBroker;

const SERVES: Health = Health {
    is_caught_up: true,
    is_fenced: false,
    shutdown: None,
    should_shut_down: false,
    clock: None,
};

fn at(seconds: u64) -> MonotonicTime {
    MonotonicTime(Duration::from_secs(seconds))
}

fn node(id: i32) -> (NodeId, i64) {
    (NodeId(id), 10 + i64::from(id))
}

/// Brokers 1 and 2 serve; 3 is fenced.
fn image() -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    for id in [1, 2, 3] {
        let (id, epoch) = node(id);
        let fenced = id.0 == 3;
        let broker = BrokerRegistration {
            id,
            epoch,
            fenced,
            ..BrokerRegistration::default()
        };
        delta.replay(&broker.to_record().into());
    }
    delta.finish().0
}

/// A heartbeat of a broker that has applied the metadata up to `offset`.
fn beat((broker, epoch): (NodeId, i64), offset: i64) -> Heartbeat {
    Heartbeat {
        broker,
        epoch,
        metadata_offset: Offset(offset),
        wish: Wish::Serve,
        offline_directories: Vec::new(),
        cordoned_directories: None,
        shutdown: ControlledShutdown::None,
    }
}

fn fence(id: i32) -> FenceBroker {
    let (broker, epoch) = node(id);
    FenceBroker { broker, epoch }
}

#[test]
fn a_silent_broker_is_fenced_after_its_session_and_one_at_a_time() {
    let image = image();
    let mut heartbeats = Heartbeats::new(&image, DEFAULT_SESSION, at(100));
    assert!(heartbeats.is_alive(&image, NodeId(1), at(100)));
    assert!(
        !heartbeats.is_alive(&image, NodeId(3), at(100)),
        "it is fenced"
    );
    assert_eq!(heartbeats.on_tick(at(109)), None, "the session is not over");
    let due = heartbeats.next_tick().unwrap();
    assert_eq!(heartbeats.on_tick(due), Some(fence(1)));
    assert_eq!(heartbeats.on_tick(due), Some(fence(2)));
    assert_eq!(heartbeats.on_tick(due), None);
    assert_eq!(heartbeats.next_tick(), None);
    assert!(!heartbeats.is_alive(&image, NodeId(1), due));
}

#[test]
fn a_fencing_that_is_not_committed_is_asked_for_again_unless_the_broker_beats() {
    let image = image();
    let mut heartbeats = Heartbeats::new(&image, DEFAULT_SESSION, at(100));
    assert_eq!(heartbeats.on_tick(at(110)), Some(fence(1)));
    assert_eq!(heartbeats.on_tick(at(110)), Some(fence(2)));
    heartbeats.on_not_fenced(&fence(1), at(110));
    assert!(!heartbeats.is_alive(&image, NodeId(1), at(110)));
    assert_eq!(heartbeats.on_tick(at(110)), Some(fence(1)));
    heartbeats.on_heartbeat(&image, &beat(node(2), 50), at(110));
    heartbeats.on_not_fenced(&fence(2), at(111));
    assert_eq!(heartbeats.on_tick(at(112)), None, "2 has beaten meanwhile");
}

#[test]
fn only_the_registered_process_extends_its_session() {
    let image = image();
    let mut heartbeats = Heartbeats::new(&image, DEFAULT_SESSION, at(100));
    let (id, epoch) = node(1);
    heartbeats.on_heartbeat(&image, &beat((id, epoch - 1), 50), at(105));
    heartbeats.on_heartbeat(&image, &beat((id, epoch + 1), 50), at(105));
    heartbeats.on_heartbeat(&image, &beat((NodeId(9), 19), 50), at(105));
    heartbeats.on_heartbeat(&image, &beat(node(2), 50), at(105));
    assert_eq!(heartbeats.on_tick(at(110)), Some(fence(1)));
    assert_eq!(heartbeats.on_tick(at(110)), None);
    assert_eq!(heartbeats.on_tick(at(115)), Some(fence(2)));
    assert_eq!(heartbeats.on_tick(at(999)), None);
}

#[test]
fn evidence_ends_a_session_at_once_but_not_that_of_the_next_process() {
    let image = image();
    let mut heartbeats = Heartbeats::new(&image, DEFAULT_SESSION, at(100));
    assert_eq!(
        heartbeats.on_evidence((NodeId(1), 5)),
        None,
        "an old process"
    );
    assert!(heartbeats.is_alive(&image, NodeId(1), at(101)));
    assert_eq!(heartbeats.on_evidence(node(1)), Some(fence(1)));
    assert!(!heartbeats.is_alive(&image, NodeId(1), at(101)));
    assert_eq!(heartbeats.on_evidence(node(1)), None, "said already");
}

#[test]
fn a_shutdown_waits_until_all_active_brokers_know_the_new_leaders() {
    let image = image();
    let mut heartbeats = Heartbeats::new(&image, DEFAULT_SESSION, at(100));
    let hear = |heartbeats: &mut Heartbeats, id, offset| {
        heartbeats.on_heartbeat(&image, &beat(node(id), offset), at(101));
    };
    assert_eq!(
        heartbeats.shutdown(&image, NodeId(1)),
        ControlledShutdown::None
    );
    hear(&mut heartbeats, 1, 70);
    let shutdown = |offset| Health {
        shutdown: Some(Offset(offset)),
        ..SERVES
    };
    heartbeats.on_decided(node(1), &shutdown(60));
    assert_eq!(
        heartbeats.shutdown(&image, NodeId(1)),
        ControlledShutdown::Waiting
    );
    hear(&mut heartbeats, 2, 59);
    assert_eq!(
        heartbeats.shutdown(&image, NodeId(1)),
        ControlledShutdown::Waiting
    );
    // A later heartbeat does not move the goal.
    heartbeats.on_decided(node(1), &shutdown(99));
    hear(&mut heartbeats, 2, 60);
    assert_eq!(
        heartbeats.shutdown(&image, NodeId(1)),
        ControlledShutdown::Seen
    );
    let fenced = Health {
        is_fenced: true,
        ..SERVES
    };
    heartbeats.on_decided(node(1), &fenced);
    assert_eq!(
        heartbeats.shutdown(&image, NodeId(1)),
        ControlledShutdown::None
    );
}

#[test]
fn a_broker_that_beats_is_not_fenced_because_its_address_does_not_answer() {
    let image = image();
    let mut heartbeats = Heartbeats::new(&image, DEFAULT_SESSION, at(100));
    heartbeats.on_heartbeat(&image, &beat(node(1), 50), at(103));
    heartbeats.on_heartbeat(&image, &beat(node(2), 50), at(103));
    assert_eq!(heartbeats.on_unreachable(node(1), at(101), at(104)), None);
    heartbeats.on_heartbeat(&image, &beat(node(2), 50), at(108));
    let fenced = heartbeats.on_unreachable(node(1), at(101), at(108));
    assert_eq!(fenced, Some(fence(1)));
}
