//! The operator of the cluster: makes the topics that clients need, and then creates, grows, configures, trims and deletes
//! others. It asks for one thing until it knows that it is done.

use ottla_controller::configs::Change;
use ottla_controller::create_partitions::Growth;
use ottla_controller::create_topics::NewTopic;
use ottla_controller::delete_topics::TopicReference;
use ottla_controller::request::{
    CreatePartitions, CreateTopics, DeleteTopics, IncrementalAlterConfigs,
};
use ottla_controller::{ControllerReply, Refusal};
use ottla_metadata::ConfigResource;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::ErrorCode;

use super::Client;
use super::session::Session;
use crate::messages::{ClientId, Place, Reply, Request};
use crate::model::{Model, Presence, Purpose, TopicModel};
use crate::outside::Outside;

/// A topic to be made.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    name: &'static str,
    purpose: Purpose,
    partitions: i32,
    configs: &'static [(&'static str, &'static str)],
}

/// What clients need; segments are small, so that faults fall on their rolls.
pub const NEEDED: &[Wanted] = &[
    Wanted {
        name: "__consumer_offsets",
        purpose: Purpose::Internal,
        partitions: 2,
        configs: &[
            ("cleanup.policy", "compact"),
            ("internal.segment.bytes", "6000"),
            ("min.cleanable.dirty.ratio", "0.3"),
        ],
    },
    Wanted {
        name: "kept",
        purpose: Purpose::Kept,
        partitions: 3,
        configs: &[("internal.segment.bytes", "8000"), ("retention.ms", "-1")],
    },
    Wanted {
        name: "cached",
        purpose: Purpose::Cached,
        partitions: 1,
        configs: &[
            ("internal.segment.bytes", "8000"),
            ("retention.ms", "-1"),
            ("ottla.ack.durability", "page-cache"),
        ],
    },
    Wanted {
        name: "trimmed",
        purpose: Purpose::Trimmed,
        partitions: 2,
        configs: &[
            ("internal.segment.bytes", "4000"),
            ("retention.bytes", "16000"),
            ("retention.ms", "600000"),
        ],
    },
    Wanted {
        name: "compacted",
        purpose: Purpose::Compacted,
        partitions: 2,
        configs: &[
            ("cleanup.policy", "compact"),
            ("internal.segment.bytes", "4000"),
            ("min.cleanable.dirty.ratio", "0.2"),
        ],
    },
];

/// What clients of a cluster need.
pub const NEEDED_IN_CLUSTER: &[Wanted] = &[NEEDED[0], NEEDED[1]];

/// Names of topics that come and go.
const NAMES: [&str; 4] = ["made-1", "made-2", "made-3", "made-4"];

/// What is asked for until it is done.
#[derive(Debug, Clone)]
enum Task {
    Create(Wanted),
    Grow(&'static str, i32),
    Configure(&'static str, String),
    Delete(&'static str),
    Trim(Place, i64),
}

#[derive(Debug)]
pub struct Admin {
    session: Session,
    needed: &'static [Wanted],
    replication_factor: i16,
    task: Option<Task>,
    /// Whether an answer is about to say whether the topic of the task is there.
    looks: bool,
    /// Whether the outcome of an earlier request of the task is not known.
    is_unsure: bool,
}

impl Admin {
    pub fn new(client: ClientId, nodes: &[NodeId], needed: &'static [Wanted]) -> Self {
        Self {
            session: Session::new(client, nodes),
            needed,
            replication_factor: i16::try_from(nodes.len()).unwrap_or(i16::MAX),
            task: None,
            looks: false,
            is_unsure: false,
        }
    }

    fn is_in_cluster(&self) -> bool {
        self.replication_factor > 1
    }

    fn next_task(needed: &[Wanted], model: &mut Model, outside: &mut Outside) -> Option<Task> {
        let missing = needed
            .iter()
            .find(|wanted| !model.topics.contains_key(wanted.name));
        if let Some(wanted) = missing {
            return Some(Task::Create(*wanted));
        }
        let name = *outside.random.pick(&NAMES)?;
        let topic = model.topics.get(name);
        let Some(topic) = topic.filter(|topic| topic.presence == Presence::Live) else {
            return Some(Task::Create(Wanted {
                name,
                purpose: Purpose::Made,
                partitions: 1 + i32::from(outside.random.one_in(3)),
                configs: &[
                    ("internal.segment.bytes", "5000"),
                    ("retention.ms", "1000000000"),
                ],
            }));
        };
        match outside.random.below(6) {
            0 | 1 => Some(Task::Delete(name)),
            2 if topic.partitions < 4 => Some(Task::Grow(name, topic.partitions + 1)),
            3 | 4 => {
                let value = 1_000_000_000 + outside.random.below(1_000_000);
                Some(Task::Configure(name, value.to_string()))
            }
            _ => Self::trim(model, outside),
        }
    }

    /// Deletes the records before one that a client knows.
    fn trim(model: &Model, outside: &mut Outside) -> Option<Task> {
        let places = model.places(|purpose| purpose == Purpose::Trimmed);
        let place = *outside.random.pick(&places)?;
        let known = &model.partitions[&place].placed;
        let known: Vec<i64> = known.keys().rev().take(30).copied().collect();
        let before = *outside.random.pick(&known)?;
        Some(Task::Trim(place, before))
    }

    fn ask(&mut self, task: &Task, model: &mut Model, outside: &mut Outside) {
        let request = match task {
            Task::Create(wanted) => create(wanted, self.replication_factor, model),
            Task::Grow(name, partitions) => CreatePartitions {
                growths: vec![Growth {
                    topic: (*name).to_owned(),
                    count: *partitions,
                    assignments: None,
                }],
                validate_only: false,
            }
            .into(),
            Task::Configure(name, value) => {
                if let Some(topic) = model.topics.get_mut(*name) {
                    topic.retention_maybe.push(value.clone());
                }
                let change = ("retention.ms".to_owned(), Change::Set(value.clone()));
                IncrementalAlterConfigs {
                    resources: vec![(ConfigResource::topic(*name), vec![change])],
                    validate_only: false,
                }
                .into()
            }
            Task::Delete(name) => {
                let Some(topic) = model.topics.get_mut(*name) else {
                    return;
                };
                topic.presence = Presence::Deleting;
                DeleteTopics(vec![TopicReference::Id(topic.id)]).into()
            }
            Task::Trim(place, before) => {
                if let Some(known) = model.partitions.get_mut(place) {
                    known.asked_before = known.asked_before.max(*before);
                }
                let request = Request::DeleteRecords {
                    place: *place,
                    before: *before,
                };
                return self.session.ask(request, outside);
            }
        };
        self.session.ask(Request::Controller(request), outside);
    }

    /// Asks whether the topic that is to be made is there.
    fn look(&mut self, name: &str, outside: &mut Outside) {
        self.looks = true;
        let request = Request::Describe(name.to_owned());
        self.session.ask(request, outside);
    }

    fn on_controller_reply(&mut self, reply: ControllerReply, model: &mut Model) -> bool {
        let Some(task) = self.task.clone() else {
            return true;
        };
        match (task, reply) {
            (Task::Create(wanted), ControllerReply::CreateTopics(mut topics)) => {
                match topics.pop().map(|(_, created)| created) {
                    Some(Ok(created)) => made(&wanted, created.id, model),
                    Some(Err(Refusal::TopicExists(_))) if self.is_unsure => return false,
                    // Too few brokers are active now.
                    Some(Err(Refusal::InvalidReplicationFactor(_))) if self.is_in_cluster() => {
                        return false;
                    }
                    other => panic!("check: topics can be created: {wanted:?}: {other:?}"),
                }
            }
            (Task::Grow(name, partitions), ControllerReply::CreatePartitions(mut topics)) => {
                match topics.pop().map(|(_, grown)| grown) {
                    Some(Ok(())) => {}
                    // It was done before the answer was lost.
                    Some(Err(Refusal::SamePartitions { .. })) if self.is_unsure => {}
                    Some(Err(Refusal::InvalidReplicationFactor(_))) if self.is_in_cluster() => {
                        return false;
                    }
                    other => panic!("check: topics can grow: {name}: {other:?}"),
                }
                model.grown(name, partitions);
            }
            (
                Task::Configure(name, value),
                ControllerReply::IncrementalAlterConfigs(mut resources),
            ) => {
                let outcome = resources.pop().map(|(_, outcome)| outcome);
                assert_eq!(
                    outcome,
                    Some(Ok(())),
                    "check: topics can be configured: {name}"
                );
                if let Some(topic) = model.topics.get_mut(name) {
                    topic.retention = Some(value);
                    topic.retention_maybe.clear();
                }
            }
            (Task::Delete(name), ControllerReply::DeleteTopics(mut topics)) => {
                match topics.pop().map(|(_, deleted)| deleted) {
                    Some(Ok(())) => {}
                    Some(Err(Refusal::UnknownTopicId(_))) if self.is_unsure => {}
                    other => panic!("check: topics can be deleted: {name}: {other:?}"),
                }
                model.deleted(name);
            }
            (task, reply) => panic!("an operator is answered {reply:?} for {task:?}"),
        }
        true
    }

    fn on_trimmed(trimmed: Result<i64, ErrorCode>, task: &Task, model: &mut Model) {
        let Task::Trim(place, before) = task else {
            panic!("an operator has trimmed nothing");
        };
        match trimmed {
            Ok(start) => {
                assert!(start >= *before, "check: records are deleted: from {start}");
                if let Some(known) = model.partitions.get_mut(place) {
                    known.deleted_before = known.deleted_before.max(start);
                    known.asked_before = known.asked_before.max(start);
                }
            }
            Err(
                ErrorCode::OffsetOutOfRange
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::KafkaStorageError
                | ErrorCode::NotEnoughReplicas,
            ) => {}
            Err(code) => panic!("check: records can be deleted: {code:?}"),
        }
    }
}

impl Client for Admin {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn act(&mut self, model: &mut Model, outside: &mut Outside) {
        if self.task.is_none() {
            // In a cluster a request may come to the controller twice.
            self.is_unsure = self.is_in_cluster();
            self.task = Self::next_task(self.needed, model, outside);
        }
        let Some(task) = self.task.clone() else {
            return self.session.rest(100_000, 400_000, outside);
        };
        if let Task::Create(wanted) = &task
            && self.is_unsure
            && !self.looks
        {
            return self.look(wanted.name, outside);
        }
        self.looks = false;
        self.ask(&task, model, outside);
    }

    fn on_reply(&mut self, reply: Reply, model: &mut Model, outside: &mut Outside) {
        self.session.rest(20_000, 900_000, outside);
        let is_done = match reply {
            Reply::Described(found) => {
                let found = found.filter(|id| !model.gone.contains(id));
                if let (Some(id), Some(Task::Create(wanted))) = (found, &self.task) {
                    made(wanted, id, model);
                    self.looks = false;
                    self.task = None;
                }
                return;
            }
            Reply::Controller(Ok(reply)) => self.on_controller_reply(reply, model),
            Reply::Controller(Err(_)) => false,
            Reply::Deleted(trimmed) => {
                if let Some(task) = &self.task {
                    Self::on_trimmed(trimmed, task, model);
                }
                true
            }
            reply => panic!("an operator is answered {reply:?}"),
        };
        if is_done {
            outside.note("administered", [model.topics.len() as i64, 0, 0]);
            self.task = None;
        } else {
            self.is_unsure = true;
            self.looks = false;
            self.session.settle(outside);
        }
    }

    fn on_lost(&mut self, _: &mut Model, outside: &mut Outside) {
        self.is_unsure = true;
        self.looks = false;
        self.session.settle(outside);
    }
}

/// Asks for a topic, which may be there from now on.
fn create(
    wanted: &Wanted,
    replication_factor: i16,
    model: &mut Model,
) -> ottla_controller::ControllerRequest {
    let retention = wanted
        .configs
        .iter()
        .find(|(name, _)| *name == "retention.ms");
    let topic = TopicModel {
        purpose: wanted.purpose,
        presence: Presence::Creating,
        id: Uuid::ZERO,
        partitions: 0,
        retention: None,
        retention_maybe: retention
            .iter()
            .map(|(_, value)| (*value).to_owned())
            .collect(),
    };
    model.topics.insert(wanted.name.to_owned(), topic);
    let configs = wanted.configs.iter();
    let configs = configs.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    CreateTopics {
        topics: vec![NewTopic {
            name: wanted.name.to_owned(),
            partitions: wanted.partitions,
            replication_factor,
            assignments: Vec::new(),
            configs: configs.collect(),
            // The node chooses it.
            id: Uuid::ZERO,
        }],
        validate_only: false,
    }
    .into()
}

/// The topic is there.
fn made(wanted: &Wanted, id: Uuid, model: &mut Model) {
    model.created(wanted.name, wanted.purpose, id, wanted.partitions);
    if let Some(topic) = model.topics.get_mut(wanted.name) {
        topic.retention = topic.retention_maybe.pop();
        topic.retention_maybe.clear();
    }
}
