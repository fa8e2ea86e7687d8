//! A consumer without a group commits offsets of its own: each is higher than the last.

use ottla_coordinator::group::offsets::{
    CommitError, CommitRequest, CommitTopic, Fetched, OffsetFetchRequest, OffsetToCommit,
    TopicToFetch,
};
use ottla_coordinator::group::requests::{GroupReply, GroupRequest};
use ottla_protocol::ids::NodeId;

use super::Client;
use super::session::Session;
use crate::messages::{ClientId, Place, Reply, Request};
use crate::model::{Model, Purpose};
use crate::outside::Outside;

#[derive(Debug)]
pub struct Committer {
    session: Session,
    group: String,
    commits: i64,
    /// What is under way: a commit of this offset, or a question.
    asked: Option<(Place, Option<i64>)>,
}

impl Committer {
    pub fn new(client: ClientId, nodes: &[NodeId]) -> Self {
        Self {
            session: Session::new(client, nodes),
            group: format!("committer {client}"),
            commits: 0,
            asked: None,
        }
    }
}

impl Client for Committer {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn act(&mut self, model: &mut Model, outside: &mut Outside) {
        let places = model.places(|purpose| purpose == Purpose::Kept);
        let Some(place) = outside.random.pick(&places).copied() else {
            return self.session.rest(100_000, 200_000, outside);
        };
        let request = if outside.random.one_in(4) {
            self.asked = Some((place, None));
            fetch(&self.group, place, model)
        } else {
            self.commits += 1;
            self.asked = Some((place, Some(self.commits)));
            model.commit(&self.group, place).maybe.insert(self.commits);
            commit(&self.group, ("", -1), &[(place, self.commits)], model)
        };
        self.session.ask(Request::Group(request), outside);
    }

    fn on_reply(&mut self, reply: Reply, model: &mut Model, outside: &mut Outside) {
        self.session.rest(5_000, 350_000, outside);
        let Some((place, offset)) = self.asked.take() else {
            panic!("a committer has asked for nothing");
        };
        match reply {
            Reply::Group(Ok(GroupReply::CommitOffsets(committed))) => {
                let code = committed.err().map(CommitError::code);
                assert_eq!(code, None, "check: commits of no member are taken");
                let known = model.commit(&self.group, place);
                known.acknowledged = offset;
                known.maybe.clear();
                outside.note("committed", [place.1.0.into(), offset.unwrap_or(-1), 0]);
            }
            Reply::Group(Ok(GroupReply::FetchOffsets(fetched))) => {
                check_fetched(&self.group, &fetched, place, model);
            }
            // Whether it was appended is not known.
            Reply::Group(Err(_)) => self.session.settle(outside),
            reply => panic!("a committer is answered {reply:?}"),
        }
    }

    fn on_lost(&mut self, _: &mut Model, outside: &mut Outside) {
        self.asked = None;
        self.session.settle(outside);
    }
}

/// The name of a topic that is there.
fn name_of((id, _): Place, model: &Model) -> String {
    let found = model.topics.iter().find(|(_, topic)| topic.id == id);
    found.map_or_else(String::new, |(name, _)| name.clone())
}

/// A commit by a member of a generation, or by none.
pub fn commit(
    group: &str,
    (member, generation): (&str, i32),
    offsets: &[(Place, i64)],
    model: &Model,
) -> GroupRequest {
    let topics = offsets.iter().map(|(place, offset)| CommitTopic {
        name: name_of(*place, model),
        id: place.0,
        partitions: vec![OffsetToCommit {
            partition: place.1.0,
            offset: *offset,
            leader_epoch: -1,
            metadata: None,
        }],
    });
    GroupRequest::CommitOffsets(CommitRequest {
        group_id: group.to_owned(),
        member_id: member.to_owned(),
        instance_id: None,
        generation,
        retention: None,
        knows_missing_groups: true,
        topics: topics.collect(),
    })
}

/// Asks what a group has committed for a partition.
pub fn fetch(group: &str, place: Place, model: &Model) -> GroupRequest {
    GroupRequest::FetchOffsets(OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: Some(vec![TopicToFetch {
            name: name_of(place, model),
            id: place.0,
            partitions: vec![place.1.0],
        }]),
        require_stable: true,
    })
}

/// Compares what a group has committed with what is known; returns it.
pub fn check_fetched(
    group: &str,
    fetched: &[ottla_coordinator::group::offsets::FetchedTopic],
    place: Place,
    model: &Model,
) -> Option<i64> {
    let found = fetched.first().and_then(|topic| topic.partitions.first());
    let found = match found {
        Some((_, Fetched::Offset(committed))) => Some(committed.offset),
        Some((_, Fetched::Nothing)) => None,
        other => panic!("a group is answered {other:?}"),
    };
    model.check_commit(group, place, found);
    found
}
