//! Members of a consumer group: they join, are assigned partitions, read, commit, leave, or die without a word.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ottla_coordinator::group::classic::{
    HeartbeatError, HeartbeatRequest, JoinError, JoinReply, JoinRequest, Joined, LeaveRequest,
    Leaving, Protocol, SyncRequest,
};
use ottla_coordinator::group::offsets::CommitError;
use ottla_coordinator::group::requests::{GroupReply, GroupRequest};
use ottla_protocol::ids::{NodeId, PartitionIndex};
use ottla_protocol::messages::ErrorCode;

use super::Client;
use super::committer::{check_fetched, commit, fetch};
use super::session::Session;
use crate::messages::{ClientId, Fetch, Place, Reply, Request};
use crate::model::{Model, Purpose};
use crate::outside::Outside;

pub const GROUP: &str = "members";
const SESSION_TIMEOUT: Duration = Duration::from_secs(3);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(4);
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a member does next, or has asked for.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Join,
    Sync(Joined),
    /// Asks where its partition of this number was left.
    Position(usize),
    /// Reads, commits and beats.
    Member,
}

/// What a member has asked for.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Step(Step),
    Heartbeat,
    Fetch(Place),
    Commit(Vec<Position>),
    Leave,
}

/// An offset that is being committed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Position {
    place: Place,
    offset: i64,
    /// Whether it was not asked for before, with an outcome that is not known.
    is_new: bool,
}

#[derive(Debug)]
pub struct Consumer {
    session: Session,
    member: String,
    generation: i32,
    step: Step,
    asked: Option<Asked>,
    assigned: Vec<Place>,
    positions: BTreeMap<Place, i64>,
    /// Positions that were committed.
    committed: BTreeMap<Place, i64>,
    beats_at: Duration,
}

impl Consumer {
    pub fn new(client: ClientId, nodes: &[NodeId]) -> Self {
        Self {
            session: Session::new(client, nodes),
            member: String::new(),
            generation: -1,
            step: Step::Join,
            asked: None,
            assigned: Vec::new(),
            positions: BTreeMap::new(),
            committed: BTreeMap::new(),
            beats_at: Duration::ZERO,
        }
    }

    /// Another member takes its place: the group hears nothing more of this one.
    fn die(&mut self) {
        self.member.clear();
        self.join_again();
    }

    fn join_again(&mut self) {
        self.step = Step::Join;
        self.generation = -1;
        self.assigned.clear();
        self.positions.clear();
        self.committed.clear();
    }

    fn join(&self, outside: &mut Outside) -> GroupRequest {
        let fresh = outside.random.next();
        GroupRequest::Join(JoinRequest {
            group_id: GROUP.to_owned(),
            member_id: self.member.clone(),
            instance_id: None,
            client_id: format!("consumer {}", self.session.client()),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION_TIMEOUT,
            rebalance_timeout: REBALANCE_TIMEOUT,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: subscription(),
            }],
            reason: None,
            member_id_required: true,
            can_skip_assignment: false,
            fresh_id: format!("{fresh:016x}"),
        })
    }

    fn sync(&self, joined: &Joined, model: &Model) -> GroupRequest {
        let places = model.places(|purpose| purpose == Purpose::Kept);
        let mut shares: Vec<Vec<u8>> = joined.members.iter().map(|_| Vec::new()).collect();
        for (number, (_, index)) in places.iter().enumerate() {
            if let Some(count) = shares.len().checked_sub(1) {
                shares[number % (count + 1)].push(u8::try_from(index.0).unwrap_or(0));
            }
        }
        let members = joined.members.iter().zip(shares);
        let assignments = members.map(|(member, share)| (member.id.clone(), Bytes::from(share)));
        GroupRequest::Sync(SyncRequest {
            group_id: GROUP.to_owned(),
            member_id: self.member.clone(),
            instance_id: None,
            generation: self.generation,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some("range".to_owned()),
            assignments: assignments.collect(),
        })
    }

    /// What a member of a generation does now.
    fn member_step(&mut self, model: &mut Model, outside: &mut Outside) -> (Asked, Request) {
        if outside.time() >= self.beats_at || self.assigned.is_empty() {
            self.beats_at = outside.time() + HEARTBEAT;
            let beat = GroupRequest::Heartbeat(HeartbeatRequest {
                group_id: GROUP.to_owned(),
                member_id: self.member.clone(),
                instance_id: None,
                generation: self.generation,
            });
            return (Asked::Heartbeat, Request::Group(beat));
        }
        if outside.random.one_in(150) {
            let leave = GroupRequest::Leave(LeaveRequest {
                group_id: GROUP.to_owned(),
                members: vec![Leaving {
                    member_id: self.member.clone(),
                    instance_id: None,
                    reason: None,
                }],
            });
            return (Asked::Leave, Request::Group(leave));
        }
        if self.positions != self.committed && outside.random.one_in(2) {
            let offsets: Vec<(Place, i64)> =
                self.positions.iter().map(|(at, to)| (*at, *to)).collect();
            let request = commit(GROUP, (&self.member, self.generation), &offsets, model);
            let positions = offsets.into_iter().map(|(place, offset)| Position {
                place,
                offset,
                is_new: model.commit(GROUP, place).maybe.insert(offset),
            });
            return (Asked::Commit(positions.collect()), Request::Group(request));
        }
        let place = outside.random.pick(&self.assigned).copied();
        let Some((place, offset)) = place.and_then(|at| Some((at, *self.positions.get(&at)?)))
        else {
            self.step = Step::Join;
            return (Asked::Step(Step::Join), Request::Group(self.join(outside)));
        };
        let request = Request::Fetch(Fetch {
            place,
            offset,
            max_wait: Duration::from_millis(300),
            leader_epoch: None,
        });
        (Asked::Fetch(place), request)
    }

    fn on_joined(&mut self, reply: JoinReply, model: &mut Model, outside: &mut Outside) {
        match reply.outcome {
            Ok(joined) => {
                model.joined(GROUP, joined.generation);
                outside.note("joined", [joined.generation.into(), 0, 0]);
                self.member = reply.member_id;
                self.generation = joined.generation;
                self.step = Step::Sync(joined);
            }
            Err(JoinError::MemberIdRequired) => self.member = reply.member_id,
            Err(JoinError::UnknownMember) => self.die(),
            Err(JoinError::Superseded) => {}
            Err(error) => panic!("check: members may join: {error:?}"),
        }
    }

    fn on_synced(&mut self, assignment: &Bytes, model: &Model) {
        let topic = model
            .topics
            .values()
            .find(|topic| topic.purpose == Purpose::Kept);
        let Some(id) = topic.map(|topic| topic.id) else {
            return;
        };
        let places = assignment
            .iter()
            .map(|index| (id, PartitionIndex(i32::from(*index))));
        self.assigned = places.collect();
        self.step = if self.assigned.is_empty() {
            Step::Member
        } else {
            Step::Position(0)
        };
    }

    fn on_position(&mut self, number: usize, found: Option<i64>) {
        let place = self.assigned[number];
        self.positions.insert(place, found.unwrap_or(0));
        self.committed.insert(place, found.unwrap_or(0));
        let next = number + 1;
        self.step = if next < self.assigned.len() {
            Step::Position(next)
        } else {
            Step::Member
        };
    }

    fn on_committed(
        &mut self,
        positions: Vec<Position>,
        outcome: Result<(), CommitError>,
        model: &mut Model,
    ) {
        for position in positions {
            let known = model.commit(GROUP, position.place);
            if outcome.is_ok() {
                known.acknowledged = Some(position.offset);
                known.maybe.clear();
                self.committed.insert(position.place, position.offset);
            } else if position.is_new {
                known.maybe.remove(&position.offset);
            }
        }
        match outcome {
            Ok(()) => {}
            Err(CommitError::UnknownMember | CommitError::GroupNotFound) => self.die(),
            Err(CommitError::IllegalGeneration | CommitError::RebalanceInProgress) => {
                self.join_again();
            }
            Err(CommitError::FencedInstance) => {
                panic!("check: members without an instance id are not fenced")
            }
        }
    }

    fn on_group_reply(
        &mut self,
        asked: Asked,
        reply: GroupReply,
        model: &mut Model,
        outside: &mut Outside,
    ) {
        match (asked, reply) {
            (Asked::Step(Step::Join), GroupReply::Join(reply)) => {
                self.on_joined(reply, model, outside);
            }
            (Asked::Step(Step::Sync(_)), GroupReply::Sync(Ok(synced))) => {
                model.synced(GROUP, self.generation);
                self.on_synced(&synced.assignment, model);
            }
            (Asked::Step(Step::Sync(_)), GroupReply::Sync(Err(error))) => {
                if error.code() == ErrorCode::UnknownMemberId {
                    self.die();
                }
                self.join_again();
            }
            (Asked::Step(Step::Position(number)), GroupReply::FetchOffsets(fetched)) => {
                let place = self.assigned[number];
                let found = check_fetched(GROUP, &fetched, place, model);
                self.on_position(number, found);
            }
            (Asked::Heartbeat, GroupReply::Heartbeat(outcome)) => match outcome {
                Ok(()) => {}
                Err(HeartbeatError::UnknownMember) => self.die(),
                Err(_) => self.join_again(),
            },
            (Asked::Commit(positions), GroupReply::CommitOffsets(outcome)) => {
                self.on_committed(positions, outcome.map(|_| ()), model);
            }
            (Asked::Leave, GroupReply::Leave(_)) => self.die(),
            (asked, reply) => panic!("a member is answered {reply:?} for {asked:?}"),
        }
    }

    fn on_fetched(
        &mut self,
        place: Place,
        reply: Result<crate::messages::Fetched, ErrorCode>,
        model: &mut Model,
    ) {
        match reply {
            Ok(fetched) => {
                if let Some(position) = self.positions.get_mut(&place) {
                    *position = model.read(place, *position, &fetched.bytes);
                }
            }
            Err(
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::KafkaStorageError
                | ErrorCode::UnknownTopicId,
            ) => {}
            Err(code) => panic!("check: a group's partitions can be read: {code:?} for {place:?}"),
        }
    }
}

impl Client for Consumer {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn act(&mut self, model: &mut Model, outside: &mut Outside) {
        if model.places(|purpose| purpose == Purpose::Kept).is_empty() {
            return self.session.rest(200_000, 400_000, outside);
        }
        if self.step == Step::Member && outside.random.one_in(200) {
            self.die();
            return self.session.rest(500_000, 4_000_000, outside);
        }
        let step = self.step.clone();
        let (asked, request) = match &step {
            Step::Join => (Asked::Step(step), Request::Group(self.join(outside))),
            Step::Sync(joined) => {
                let request = self.sync(joined, model);
                (Asked::Step(step), Request::Group(request))
            }
            Step::Position(number) => {
                let request = fetch(GROUP, self.assigned[*number], model);
                (Asked::Step(step), Request::Group(request))
            }
            Step::Member => self.member_step(model, outside),
        };
        let waits_for_others = matches!(asked, Asked::Step(Step::Join | Step::Sync(_)));
        self.asked = Some(asked);
        if waits_for_others {
            self.session.ask_of_group(request, outside);
        } else {
            self.session.ask(request, outside);
        }
    }

    fn on_reply(&mut self, reply: Reply, model: &mut Model, outside: &mut Outside) {
        self.session.rest(1_000, 300_000, outside);
        let Some(asked) = self.asked.take() else {
            panic!("a member has asked for nothing");
        };
        match (asked, reply) {
            (Asked::Fetch(place), Reply::Fetched(fetched)) => {
                self.on_fetched(place, fetched, model);
            }
            (asked, Reply::Group(Ok(reply))) => self.on_group_reply(asked, reply, model, outside),
            // Whether a commit was appended is not known.
            (_, Reply::Group(Err(_))) => self.session.settle(outside),
            (asked, reply) => panic!("a member is answered {reply:?} for {asked:?}"),
        }
    }

    fn on_lost(&mut self, _: &mut Model, outside: &mut Outside) {
        self.asked = None;
        self.session.settle(outside);
    }
}

/// A subscription as consumers write it, version 0: the topic.
fn subscription() -> Bytes {
    let topic = b"kept";
    let mut bytes = vec![0, 0];
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend([0, 4]);
    bytes.extend(topic);
    bytes.extend((-1_i32).to_be_bytes());
    Bytes::from(bytes)
}
