//! BrokerHeartbeat: decides whether a broker is fenced, serves, moves its leaderships away or stops.
//!
//! A heartbeat that only extends the session makes no record; `heartbeats` counts it. The state of a broker is that of its
//! registration, and the progress of its controlled shutdown is in the request.

use ottla_metadata::{BrokerRegistration, MetadataImage, Partition};
use ottla_protocol::ids::{NodeId, Offset, Uuid};
use ottla_protocol::messages::metadata::BrokerRegistrationChangeRecord;
use ottla_protocol::time::Timestamp;

use crate::brokers::{fence, leave, registered, unchanged, unfence};
use crate::decision::Steps;
use crate::leadership;
use crate::partition_change::About;
use crate::{Decision, Refusal, View};

/// A heartbeat, with what the controller knows of the broker's shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub broker: NodeId,
    /// The epoch of its registration.
    pub epoch: i64,
    /// The last metadata offset that it has applied.
    pub metadata_offset: Offset,
    /// What the broker wants to be.
    pub wish: Wish,
    /// Its log directories that have failed.
    pub offline_directories: Vec<Uuid>,
    /// Its log directories that take no new replicas; `None` if it has not said.
    pub cordoned_directories: Option<Vec<Uuid>>,
    /// See `Heartbeats::shutdown`.
    pub shutdown: ControlledShutdown,
}

/// What a broker wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Unfenced: it serves.
    Serve,
    /// Fenced: it starts, or does not want to lead.
    Fence,
    /// Stopped, once its leaderships have moved.
    ShutDown,
    /// Stopped at once.
    ShutDownFenced,
}

/// The progress of a controlled shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlledShutdown {
    /// None has begun under this controller.
    None,
    /// Some active broker does not know the new leaders yet.
    Waiting,
    /// All active brokers know the new leaders.
    Seen,
}

/// What the controller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether the broker has applied its own registration.
    pub is_caught_up: bool,
    pub is_fenced: bool,
    /// The last offset of the changes that its shutdown made. All active brokers have to apply it before it may stop.
    pub shutdown: Option<Offset>,
    pub should_shut_down: bool,
    /// What the clock of another node showed when it answered as the controller, if it told.
    pub clock: Option<Timestamp>,
}

/// What a broker is, or becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fenced,
    Unfenced,
    ControlledShutdown,
    /// It is fenced, and may stop.
    ShutDown,
}

/// Decides BrokerHeartbeat. `next` is the offset that the first record will have.
pub fn decide(
    view: View<'_>,
    request: &Heartbeat,
    next: Offset,
) -> Decision<Result<Health, Refusal>> {
    let broker = (request.broker, request.epoch);
    let known = match registered(view.image, broker) {
        Ok(known) => known,
        Err(refusal) => return Decision::reply(Err(refusal)),
    };
    // The epoch is the offset of the registration.
    let is_caught_up = request.metadata_offset.0 >= known.epoch;
    let current = current(known, request.shutdown);
    let new = new(view.image, request, (current, is_caught_up));
    let mut steps = Steps::new(view);
    // Before the broker may lead: it must not lead what lies in a failed directory.
    steps.take(|view| offline_directories(view, request));
    match new {
        _ if new == current => {}
        State::Fenced | State::ShutDown => steps.take(|view| fence(view, broker)),
        State::Unfenced => steps.take(|view| unfence(view, broker)),
        State::ControlledShutdown => steps.take(|view| shut_down(view, known)),
    }
    steps.take(|view| cordoned_directories(view, known, request));
    let end = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let health = Health {
        is_caught_up,
        is_fenced: matches!(new, State::Fenced | State::ShutDown),
        shutdown: (new == State::ControlledShutdown).then_some(Offset(next.0 + end - 1)),
        should_shut_down: new == State::ShutDown,
        clock: None,
    };
    steps.finish(Ok(health))
}

fn current(broker: &BrokerRegistration, shutdown: ControlledShutdown) -> State {
    if broker.fenced {
        State::Fenced
    } else if shutdown == ControlledShutdown::None {
        // A shutdown that began under another controller begins anew.
        State::Unfenced
    } else {
        State::ControlledShutdown
    }
}

fn new(
    image: &MetadataImage,
    request: &Heartbeat,
    (current, is_caught_up): (State, bool),
) -> State {
    match (current, request.wish) {
        (State::Fenced, Wish::ShutDown)
        | (State::Fenced | State::Unfenced, Wish::ShutDownFenced)
        | (State::ShutDown, _) => State::ShutDown,
        (State::Fenced, Wish::Serve) if !is_caught_up => State::Fenced,
        (State::Fenced | State::Unfenced, Wish::Serve) => State::Unfenced,
        (State::Fenced | State::Unfenced, Wish::Fence) => State::Fenced,
        (State::Unfenced, Wish::ShutDown) => {
            if leads(image, request.broker) {
                State::ControlledShutdown
            } else {
                State::ShutDown
            }
        }
        // Whatever it wants by now: its shutdown ends before it serves again.
        (State::ControlledShutdown, _) => {
            let has_moved = request.shutdown == ControlledShutdown::Seen;
            if has_moved && !leads(image, request.broker) {
                State::ShutDown
            } else {
                State::ControlledShutdown
            }
        }
    }
}

fn leads(image: &MetadataImage, id: NodeId) -> bool {
    let mut topics = image.topics.values();
    topics.any(|topic| {
        let mut partitions = topic.partitions.values();
        partitions.any(|partition| partition.leader == Some(id))
    })
}

/// Another replica takes over each partition, and the broker leaves the ISRs.
fn shut_down(view: View<'_>, broker: &BrokerRegistration) -> Decision<()> {
    let mut decision = Decision::reply(());
    if !broker.in_controlled_shutdown {
        decision.add(BrokerRegistrationChangeRecord {
            in_controlled_shutdown: 1,
            ..unchanged((broker.id, broker.epoch))
        });
    }
    decision.join(leave(view, broker.id));
    decision
}

/// Replicas in a failed directory leave the ISRs, and lead nothing.
fn offline_directories(view: View<'_>, request: &Heartbeat) -> Decision<()> {
    let mut decision = Decision::reply(());
    let id = request.broker;
    let Some(broker) = view.image.brokers.get(&id) else {
        return decision;
    };
    let offline = &request.offline_directories;
    let known = &broker.directories;
    let (failed, online): (Vec<Uuid>, Vec<Uuid>) = known
        .iter()
        .partition(|directory| offline.contains(directory));
    if failed.is_empty() || !view.image.metadata_version().has_directory_assignment() {
        return decision;
    }
    let has_failed = |partition: &Partition| {
        let directory = partition.directory_of(id);
        directory.is_some_and(|directory| failed.contains(&directory))
    };
    decision.join(leadership::updates(view, About::Leaves(id), has_failed));
    // An empty list means no change. A broker without a directory stops.
    if !online.is_empty() {
        decision.add(BrokerRegistrationChangeRecord {
            log_dirs: online,
            ..unchanged((id, request.epoch))
        });
    }
    decision
}

fn cordoned_directories(
    view: View<'_>,
    broker: &BrokerRegistration,
    request: &Heartbeat,
) -> Decision<()> {
    let sorted = |ids: &[Uuid]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let mut decision = Decision::reply(());
    let Some(cordoned) = request.cordoned_directories.as_deref() else {
        return decision;
    };
    let known = broker.cordoned_directories.as_deref();
    let is_known = known.is_some_and(|known| sorted(known) == sorted(cordoned));
    if !is_known && view.image.metadata_version().has_cordoned_directories() {
        decision.add(BrokerRegistrationChangeRecord {
            cordoned_log_dirs: Some(cordoned.to_vec()),
            ..unchanged((request.broker, request.epoch))
        });
    }
    decision
}
