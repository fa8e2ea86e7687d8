//! A shard on a stage: commands in words go in, what happens comes out in words.
//!
//! It keeps the log as encoded records, so that `restart` replays bytes.

mod words;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use ottla_coordinator::group::classic::{
    HeartbeatRequest, JoinRequest, LeaveRequest, Leaving, Protocol, SyncRequest,
};
use ottla_coordinator::group::list::Filter;
use ottla_coordinator::group::offsets::{
    CommitRequest, CommitTopic, OffsetDeleteRequest, OffsetFetchRequest, OffsetToCommit,
    TopicToFetch, TransactionResult, record,
};
use ottla_coordinator::state::Position;
use ottla_coordinator::{Action, Config, Shard, Ticket};
use ottla_protocol::ids::{Offset, ProducerId, Uuid};
use ottla_protocol::messages::coordinator::group::GroupRecord;
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use words::Command;

/// The wall clock when the play begins.
const EPOCH: i64 = 1_000_000;

pub struct Stage {
    shard: Shard,
    log: Vec<(i64, Bytes, Option<Bytes>)>,
    elapsed: Duration,
    next_ticket: u64,
    next_id: u64,
    refuses_appends: bool,
}

impl Default for Stage {
    fn default() -> Self {
        let mut stage = Self {
            shard: Shard::new(Config {
                initial_rebalance_delay: Duration::ZERO,
                ..Config::default()
            }),
            log: Vec::new(),
            elapsed: Duration::ZERO,
            next_ticket: 1,
            next_id: 1,
            refuses_appends: false,
        };
        stage.shard.on_loaded(stage.now());
        stage
    }
}

impl Stage {
    pub fn run(&mut self, line: &str) -> String {
        let command = Command::parse(line);
        match command.name.as_str() {
            "config" => self.configure(&command),
            "join" => self.join(&command),
            "sync" => self.sync(&command),
            "heartbeat" => self.heartbeat(&command),
            "leave" => self.leave(&command),
            "commit" => self.commit(&command),
            "fetch" => self.fetch(&command),
            "delete-offsets" => self.delete_offsets(&command),
            "delete" => self.delete(&command),
            "describe" => words::described(&self.shard.describe(&command.subject)),
            "list" => self.list(&command),
            "expire" => {
                let records = self.shard.decide_expiry(self.now());
                self.append(records)
            }
            "topic-deleted" => {
                let records = self
                    .shard
                    .decide_topic_deleted(&command.subject, topic_id(&command));
                self.append(records)
            }
            "advance" => self.advance(words::duration(&command.subject)),
            "marker" => self.marker(&command),
            "restart" => self.restart(),
            "refuse-appends" => {
                self.refuses_appends = true;
                String::new()
            }
            other => panic!("no such command: {other}"),
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: MonotonicTime(self.elapsed),
            wall: Timestamp(EPOCH + i64::try_from(self.elapsed.as_millis()).unwrap()),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket - 1)
    }

    fn configure(&mut self, command: &Command) -> String {
        let mut config = self.shard.config().clone();
        for (key, value) in &command.arguments {
            match key.as_str() {
                "initial-delay" => config.initial_rebalance_delay = words::duration(value),
                "max-size" => config.max_size = value.parse().unwrap(),
                "max-metadata" => config.offset_metadata_max = value.parse().unwrap(),
                "retention" => config.offsets_retention = words::duration(value),
                other => panic!("no such setting: {other}"),
            }
        }
        self.shard = Shard::new(config);
        self.restart()
    }

    fn join(&mut self, command: &Command) -> String {
        let version = command.number("v").unwrap_or(9);
        let request = JoinRequest {
            group_id: command.subject.clone(),
            member_id: command.text("member").unwrap_or_default(),
            instance_id: command.text("instance"),
            client_id: command.text("client").unwrap_or_else(|| "c".into()),
            client_host: "/127.0.0.1".into(),
            session_timeout: command
                .duration("session")
                .unwrap_or(Duration::from_secs(10)),
            rebalance_timeout: command
                .duration("rebalance")
                .unwrap_or(Duration::from_mins(1)),
            protocol_type: command.text("type").unwrap_or_else(|| "consumer".into()),
            protocols: protocols(
                &command
                    .text("protocols")
                    .unwrap_or_else(|| "range:t".into()),
            ),
            reason: command.text("reason"),
            member_id_required: version >= 4,
            can_skip_assignment: version >= 9,
            fresh_id: self.next_id.to_string(),
        };
        let ticket = self.ticket();
        if let Err(error) = request.check(self.shard.config()) {
            return format!("#{} join refused: {error:?}\n", ticket.0);
        }
        if request.member_id.is_empty() {
            self.next_id += 1;
        }
        let actions = self.shard.on_join(ticket, &request, self.now());
        self.perform(&request.group_id, actions)
    }

    fn sync(&mut self, command: &Command) -> String {
        let assignments = command.text("assign").unwrap_or_default();
        let assignments = assignments.split(',').filter_map(|one| one.split_once(':'));
        let request = SyncRequest {
            group_id: command.subject.clone(),
            member_id: command.text("member").unwrap_or_default(),
            instance_id: command.text("instance"),
            generation: command.generation(),
            protocol_type: command.text("type"),
            protocol: command.text("protocol"),
            assignments: assignments
                .map(|(id, share)| (id.to_owned(), Bytes::copy_from_slice(share.as_bytes())))
                .collect(),
        };
        let ticket = self.ticket();
        let actions = self.shard.on_sync(ticket, &request, self.now());
        self.perform(&request.group_id, actions)
    }

    fn heartbeat(&mut self, command: &Command) -> String {
        let request = HeartbeatRequest {
            group_id: command.subject.clone(),
            member_id: command.text("member").unwrap_or_default(),
            instance_id: command.text("instance"),
            generation: command.generation(),
        };
        words::outcome(&self.shard.on_heartbeat(&request, self.now()))
    }

    fn leave(&mut self, command: &Command) -> String {
        let members = command.all("member").into_iter().map(|id| Leaving {
            member_id: id,
            instance_id: command.text("instance"),
            reason: None,
        });
        let mut members: Vec<Leaving> = members.collect();
        if members.is_empty() {
            members.push(Leaving {
                member_id: String::new(),
                instance_id: command.text("instance"),
                reason: None,
            });
        }
        let request = LeaveRequest {
            group_id: command.subject.clone(),
            members,
        };
        let (reply, actions) = self.shard.on_leave(&request, self.now());
        let mut told = self.perform(&request.group_id, actions);
        for left in reply {
            let name = left.instance_id.unwrap_or(left.member_id);
            write!(told, "{name} {}", words::outcome(&left.outcome)).unwrap();
        }
        told
    }

    fn commit(&mut self, command: &Command) -> String {
        let topics = command.places().into_iter().map(|(name, partition, said)| {
            let (offset, metadata) = said
                .split_once(':')
                .map_or((said.as_str(), None), |(o, m)| (o, Some(m)));
            CommitTopic {
                name,
                id: topic_id(command),
                partitions: vec![OffsetToCommit {
                    partition,
                    offset: offset.parse().unwrap(),
                    leader_epoch: command.number("epoch").unwrap_or(-1),
                    metadata: metadata.map(str::to_owned),
                }],
            }
        });
        let request = CommitRequest {
            group_id: command.subject.clone(),
            member_id: command.text("member").unwrap_or_default(),
            instance_id: command.text("instance"),
            generation: command.generation(),
            retention: command.duration("retention"),
            knows_missing_groups: command.number("v").unwrap_or(9) >= 9,
            topics: topics.collect(),
        };
        let decision = self.shard.decide_commit(request, self.now());
        let mut told = match command.number("producer") {
            Some(producer) => self.append_of(decision.records, i64::from(producer)),
            None => self.append(decision.records),
        };
        if let Some(keep_alive) = &decision.keep_alive {
            self.shard.keep_alive(keep_alive, self.now());
            writeln!(told, "{keep_alive:?}").unwrap();
        }
        told + &words::committed(&decision.reply)
    }

    fn fetch(&mut self, command: &Command) -> String {
        let places = command.places();
        let topics = places.iter().map(|(name, partition, _)| TopicToFetch {
            name: name.clone(),
            id: topic_id(command),
            partitions: vec![*partition],
        });
        let request = OffsetFetchRequest {
            group_id: command.subject.clone(),
            topics: (!places.is_empty()).then(|| topics.collect()),
            require_stable: command.has("stable"),
        };
        words::fetched(&self.shard.fetch_offsets(&request))
    }

    fn delete_offsets(&mut self, command: &Command) -> String {
        let places = command.places().into_iter();
        let request = OffsetDeleteRequest {
            group_id: command.subject.clone(),
            topics: places
                .map(|(topic, partition, _)| (topic, vec![partition]))
                .collect(),
        };
        let decision = self.shard.decide_offset_delete(&request);
        self.append(decision.records) + &format!("{:?}\n", decision.reply)
    }

    fn delete(&mut self, command: &Command) -> String {
        let decision = self.shard.decide_delete_group(&command.subject);
        self.append(decision.records) + &words::outcome(&decision.reply)
    }

    fn list(&self, command: &Command) -> String {
        let filter = Filter {
            states: command.all("state"),
            types: command.all("type"),
        };
        let groups = self.shard.list(&filter).into_iter().map(|group| {
            let kind = if group.protocol_type.is_empty() {
                "-"
            } else {
                &group.protocol_type
            };
            format!(
                "{} {} {} {kind}\n",
                group.id,
                group.kind.name(),
                group.state
            )
        });
        groups.collect()
    }

    fn advance(&mut self, by: Duration) -> String {
        let until = self.elapsed + by;
        let mut told = String::new();
        while let Some(next) = self.shard.next_deadline().filter(|next| next.0 <= until) {
            self.elapsed = self.elapsed.max(next.0);
            let actions = self.shard.on_deadline(self.now());
            if !actions.is_empty() {
                writeln!(told, "at {:?}", self.elapsed).unwrap();
            }
            told += &self.perform("", actions);
        }
        self.elapsed = until;
        told
    }

    fn marker(&mut self, command: &Command) -> String {
        let result = if command.has("commit") {
            TransactionResult::Commit
        } else {
            TransactionResult::Abort
        };
        let producer = ProducerId(command.subject.parse().unwrap());
        self.shard.apply_marker(producer, result);
        String::new()
    }

    fn restart(&mut self) -> String {
        let mut shard = Shard::new(self.shard.config().clone());
        for (index, (producer, key, value)) in self.log.iter().enumerate() {
            let record = GroupRecord::decode(key.clone(), value.clone()).unwrap();
            let position = Position {
                offset: Offset(i64::try_from(index).unwrap()),
                producer_id: ProducerId(*producer),
            };
            shard.apply(position, record);
        }
        self.shard = shard;
        let actions = self.shard.on_loaded(self.now());
        self.perform("", actions)
    }

    fn perform(&mut self, group_id: &str, actions: Vec<Action>) -> String {
        let mut told = String::new();
        let mut was_refused = false;
        for action in actions {
            match action {
                Action::Append(records, if_refused) if self.refuses_appends => {
                    self.refuses_appends = false;
                    was_refused = true;
                    writeln!(told, "refused {} records", records.len()).unwrap();
                    let now = self.now();
                    let actions = self.shard.on_append_refused(group_id, if_refused, now);
                    for action in actions {
                        told += &words::unless_refused(&action, was_refused);
                    }
                }
                Action::Append(records, _) => told += &self.append(records),
                action => told += &words::unless_refused(&action, was_refused),
            }
        }
        told
    }

    fn append(&mut self, records: Vec<GroupRecord>) -> String {
        self.append_of(records, -1)
    }

    fn append_of(&mut self, records: Vec<GroupRecord>, producer: i64) -> String {
        let mut told = String::new();
        for record in records {
            let version = record::value_version(&record);
            let (key, value) = record.encode(version).unwrap();
            told += &words::record(&record, version);
            let position = Position {
                offset: Offset(i64::try_from(self.log.len()).unwrap()),
                producer_id: ProducerId(producer),
            };
            self.log.push((producer, key, value));
            self.shard.apply(position, record);
        }
        told
    }
}

/// Topics have an id only where a scenario gives one.
fn topic_id(command: &Command) -> Uuid {
    let number = command.number("id").unwrap_or(0);
    Uuid::from_parts(0, u64::try_from(number).unwrap())
}

/// `range:t1+t2,sticky:t1` as protocols with the consumers' subscription to those topics.
fn protocols(words: &str) -> Vec<Protocol> {
    let protocols = words.split(',').filter(|word| !word.is_empty());
    protocols
        .map(|word| {
            let (name, topics) = word.split_once(':').unwrap_or((word, ""));
            Protocol {
                name: name.to_owned(),
                metadata: words::subscription(topics),
            }
        })
        .collect()
}
