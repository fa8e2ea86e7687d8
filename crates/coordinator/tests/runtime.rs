//! Plays the stories in `tests/runtime/` against [`Runtime`], and replays the inputs of each into a second one.
//!
//! The log of the stage accepts an append unless the story says `refuse`. It commits only where the story says so:
//! `committed 3` commits the records below offset 3, `lose 3` loses those from offset 3 on, and `load` reads the rest.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ottla_coordinator::group::classic::{HeartbeatRequest, JoinRequest, Protocol, SyncRequest};
use ottla_coordinator::group::list::Filter;
use ottla_coordinator::group::offsets::{
    CommitRequest, CommitTopic, OffsetFetchRequest, OffsetToCommit, TopicToFetch,
};
use ottla_coordinator::group::requests::{GroupReply, GroupRequest, Notice};
use ottla_coordinator::state::Position;
use ottla_coordinator::{Config, Effect, Runtime, Shard, Ticket, Unavailable};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};

#[test]
fn scenarios_play_as_written() {
    ottla_scenario::play_all(&directory(), 8, || {
        let mut stage = Stage::new();
        move |line: &str| stage.run(line)
    });
}

#[test]
fn the_same_inputs_have_the_same_effects() {
    let mut inputs = 0;
    for entry in std::fs::read_dir(directory()).unwrap() {
        let story = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut stage = Stage::new();
        for block in story.split("\n\n") {
            let lines = block.lines().take_while(|line| *line != "---");
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                stage.run(line);
            }
        }
        let mut second = new_runtime();
        for (input, effects) in stage.recorded {
            assert_eq!(input.put_into(&mut second), effects, "{input:?}");
            inputs += 1;
        }
    }
    assert!(inputs > 50, "the stories have inputs");
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime")
}

fn config() -> Config {
    Config {
        initial_rebalance_delay: Duration::ZERO,
        offsets_retention: Duration::from_mins(1),
        ..Config::default()
    }
}

fn new_runtime() -> Runtime {
    Runtime::new(config(), Duration::from_secs(5))
}

/// One call of the runtime, with its arguments.
#[derive(Debug, Clone)]
enum Input {
    Loaded(Vec<GroupRecord>, Now),
    Request(Box<GroupRequest>, Ticket, Now),
    Notice(Notice, Now),
    Tick(Now),
    Appended(Vec<GroupRecord>, Offset, Now),
    Refused(Unavailable, Now),
    Committed(Offset),
    Lost,
}

impl Input {
    fn put_into(&self, runtime: &mut Runtime) -> Vec<Effect> {
        match self.clone() {
            Self::Loaded(records, now) => {
                let mut shard = Shard::new(config());
                for (offset, record) in (0..).zip(records) {
                    shard.apply(Position::plain(Offset(offset)), record);
                }
                runtime.on_loaded(shard, now)
            }
            Self::Request(request, ticket, now) => runtime.on_request(*request, ticket, now),
            Self::Notice(notice, now) => runtime.on_notice(&notice, now),
            Self::Tick(now) => runtime.on_tick(now),
            Self::Appended(records, first, now) => runtime.on_appended(records, first, now),
            Self::Refused(why, now) => runtime.on_append_refused(why, now),
            Self::Committed(end) => runtime.on_committed(end),
            Self::Lost => runtime.on_append_lost(),
        }
    }
}

struct Stage {
    runtime: Runtime,
    log: Vec<GroupRecord>,
    refuses: bool,
    elapsed: Duration,
    tickets: u64,
    recorded: Vec<(Input, Vec<Effect>)>,
}

impl Stage {
    fn new() -> Self {
        Self {
            runtime: new_runtime(),
            log: Vec::new(),
            refuses: false,
            elapsed: Duration::ZERO,
            tickets: 0,
            recorded: Vec::new(),
        }
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["load"] => self.input(Input::Loaded(self.log.clone(), self.now())),
            ["refuse"] => {
                self.refuses = true;
                String::new()
            }
            ["committed", end] => self.input(Input::Committed(Offset(end.parse().unwrap()))),
            ["lose", from] => {
                self.log.truncate(from.parse().unwrap());
                self.input(Input::Lost)
            }
            ["advance", seconds] => self.advance(Duration::from_secs(seconds.parse().unwrap())),
            ["expire"] => self.input(Input::Notice(Notice::ExpiryDue, self.now())),
            ["delete-topic", name] => {
                let (name, id) = ((*name).to_owned(), Uuid::ZERO);
                self.input(Input::Notice(Notice::TopicDeleted { name, id }, self.now()))
            }
            request => self.request(request),
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: MonotonicTime(self.elapsed),
            wall: Timestamp(i64::try_from(self.elapsed.as_millis()).unwrap()),
        }
    }

    fn request(&mut self, words: &[&str]) -> String {
        self.tickets += 1;
        let request = Box::new(parse(words, self.tickets));
        self.input(Input::Request(request, Ticket(self.tickets), self.now()))
    }

    /// Stops at each deadline of the runtime.
    fn advance(&mut self, by: Duration) -> String {
        let until = self.elapsed + by;
        let mut told = String::new();
        while let Some(next) = self.runtime.next_deadline().filter(|next| next.0 <= until) {
            self.elapsed = self.elapsed.max(next.0);
            writeln!(told, "at {:?}", self.elapsed).unwrap();
            told += &self.input(Input::Tick(self.now()));
        }
        self.elapsed = until;
        told
    }

    /// Performs one input and what its effects lead to.
    fn input(&mut self, input: Input) -> String {
        let effects = input.put_into(&mut self.runtime);
        self.recorded.push((input, effects.clone()));
        let mut told = String::new();
        for effect in effects {
            match effect {
                Effect::Append(_) if self.refuses => {
                    self.refuses = false;
                    told += "append refused\n";
                    told += &self.input(Input::Refused(Unavailable::TooLarge, self.now()));
                }
                Effect::Append(records) => {
                    let first = Offset(i64::try_from(self.log.len()).unwrap());
                    let names: Vec<String> = records.iter().map(named).take(4).collect();
                    let (count, names) = (records.len(), names.join(", "));
                    write!(told, "append at {}: {names}", first.0).unwrap();
                    if count > 4 {
                        write!(told, " and more, {count} records").unwrap();
                    }
                    told.push('\n');
                    self.log.extend(records.clone());
                    told += &self.input(Input::Appended(records, first, self.now()));
                }
                Effect::Reply(ticket, reply) => {
                    writeln!(told, "#{} {}", ticket.0, answered(&reply)).unwrap();
                }
                Effect::Report(event) => writeln!(told, "{event:?}").unwrap(),
            }
        }
        told
    }
}

/// `join g [member]`, `sync g member`, `heartbeat g member`, `commit g topic offset [partitions]`, `fetch g topic` or
/// `list`. A new member is named after its ticket: `c-3`.
fn parse(words: &[&str], ticket: u64) -> GroupRequest {
    let word = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
    let group_id = word(1);
    let generation = 1;
    let count = word(4).parse().unwrap_or(1);
    match words[0] {
        "join" => GroupRequest::Join(JoinRequest {
            group_id,
            member_id: word(2),
            instance_id: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_mins(1),
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(b"m"),
            }],
            reason: None,
            member_id_required: false,
            can_skip_assignment: true,
            fresh_id: ticket.to_string(),
        }),
        "sync" => GroupRequest::Sync(SyncRequest {
            group_id,
            member_id: word(2),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: [(word(2), Bytes::from_static(b"A"))].into(),
        }),
        "heartbeat" => GroupRequest::Heartbeat(HeartbeatRequest {
            group_id,
            member_id: word(2),
            instance_id: None,
            generation,
        }),
        "commit" => GroupRequest::CommitOffsets(CommitRequest {
            group_id,
            member_id: String::new(),
            instance_id: None,
            generation: -1,
            retention: None,
            knows_missing_groups: true,
            topics: vec![CommitTopic {
                name: word(2),
                id: Uuid::ZERO,
                partitions: (0..count)
                    .map(|partition| OffsetToCommit {
                        partition,
                        offset: word(3).parse().unwrap(),
                        leader_epoch: -1,
                        metadata: None,
                    })
                    .collect(),
            }],
        }),
        "fetch" => GroupRequest::FetchOffsets(OffsetFetchRequest {
            group_id,
            topics: Some(vec![TopicToFetch {
                name: word(2),
                id: Uuid::ZERO,
                partitions: vec![0],
            }]),
            require_stable: false,
        }),
        "list" => GroupRequest::ListGroups(Filter::default()),
        other => panic!("no such command: {other}"),
    }
}

fn named(record: &GroupRecord) -> String {
    match record {
        GroupRecord::GroupMetadata(key, None) => format!("group {} deleted", key.group),
        GroupRecord::GroupMetadata(key, Some(value)) => {
            let members = value.members.len();
            let generation = value.generation;
            format!(
                "group {} generation {generation} members {members}",
                key.group
            )
        }
        GroupRecord::OffsetCommit(key, None) => {
            format!("offset {} {} deleted", key.group, key.topic)
        }
        GroupRecord::OffsetCommit(key, Some(value)) => {
            format!("offset {} {} {}", key.group, key.topic, value.offset)
        }
        other => format!("{other:?}"),
    }
}

fn answered(reply: &Result<GroupReply, Unavailable>) -> String {
    match reply {
        Err(unavailable) => format!("{unavailable:?}"),
        Ok(GroupReply::Join(reply)) => match &reply.outcome {
            Ok(joined) => format!(
                "{} joined generation {}",
                reply.member_id, joined.generation
            ),
            Err(error) => format!("{} join refused: {error:?}", reply.member_id),
        },
        Ok(GroupReply::Sync(Ok(synced))) => format!("synced {:?}", synced.assignment),
        Ok(GroupReply::CommitOffsets(Ok(_))) => "committed".to_owned(),
        Ok(GroupReply::FetchOffsets(topics)) => format!("{:?}", topics[0].partitions[0].1)
            .split(", leader_epoch")
            .next()
            .unwrap()
            .to_owned(),
        Ok(GroupReply::ListGroups(groups)) if groups.is_empty() => "no groups".to_owned(),
        Ok(GroupReply::ListGroups(groups)) => {
            let groups = groups
                .iter()
                .map(|group| format!("{} {}", group.id, group.state));
            format!("groups: {}", groups.collect::<Vec<_>>().join(", "))
        }
        Ok(reply) => format!("{reply:?}"),
    }
}
