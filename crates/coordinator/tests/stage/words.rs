//! Commands read from words, and outcomes put into words.

use std::fmt::{Debug, Write as _};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_coordinator::Action;
use ottla_coordinator::group::describe::{DescribeError, DescribedGroup};
use ottla_coordinator::group::offsets::{CommitReply, Fetched, FetchedTopic};
use ottla_protocol::messages::coordinator::group::GroupRecord;

/// `name subject key=value key=value`; a word without `=` is a flag or a place.
pub struct Command {
    pub name: String,
    pub subject: String,
    pub arguments: Vec<(String, String)>,
}

impl Command {
    pub fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace().peekable();
        let name = words.next().unwrap().to_owned();
        let subject = words
            .next_if(|word| !word.contains('='))
            .unwrap_or_default();
        let subject = if subject == "''" { "" } else { subject };
        let arguments = words.map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.to_owned(), value.to_owned())
        });
        Self {
            name,
            subject: subject.to_owned(),
            arguments: arguments.collect(),
        }
    }

    pub fn all(&self, key: &str) -> Vec<String> {
        let values = self.arguments.iter().filter(|(name, _)| name == key);
        values.map(|(_, value)| value.clone()).collect()
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.all(key).into_iter().next()
    }

    pub fn has(&self, key: &str) -> bool {
        self.text(key).is_some()
    }

    pub fn number(&self, key: &str) -> Option<i32> {
        self.text(key).map(|value| value.parse().unwrap())
    }

    pub fn generation(&self) -> i32 {
        self.number("generation").unwrap_or(-1)
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        self.text(key).map(|value| duration(&value))
    }

    /// The arguments that name a partition: `topic-0=what`.
    pub fn places(&self) -> Vec<(String, i32, String)> {
        let places = self.arguments.iter().filter_map(|(key, value)| {
            let (topic, partition) = key.rsplit_once('-')?;
            Some((topic.to_owned(), partition.parse().ok()?, value.clone()))
        });
        places.collect()
    }
}

/// `10s`, `5m`, `7d` or `20ms`.
pub fn duration(word: &str) -> Duration {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().unwrap();
    match &word[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "d" => Duration::from_secs(number * 86_400),
        unit => panic!("no such unit: {unit}"),
    }
}

/// A consumer's subscription, version 0, to topics joined by `+`; none leave it empty, which is no subscription.
pub fn subscription(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics
        .split('+')
        .filter(|topic| !topic.is_empty())
        .collect();
    let mut bytes = BytesMut::new();
    if topics.is_empty() {
        return bytes.freeze();
    }
    bytes.put_i16(0);
    bytes.put_i32(i32::try_from(topics.len()).unwrap());
    for topic in topics {
        bytes.put_i16(i16::try_from(topic.len()).unwrap());
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// The topics of such a subscription.
fn topics(mut subscription: Bytes) -> String {
    if subscription.len() < 6 {
        return "?".to_owned();
    }
    subscription.advance(2);
    let names = (0..subscription.get_i32()).map(|_| {
        let length = usize::try_from(subscription.get_i16()).unwrap();
        String::from_utf8(subscription.split_to(length).to_vec()).unwrap()
    });
    names.collect::<Vec<_>>().join("+")
}

fn text(bytes: &Bytes) -> String {
    match bytes.len() {
        0 => "-".to_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn or_dash(text: Option<&str>) -> &str {
    match text {
        None => "-",
        Some("") => "''",
        Some(text) => text,
    }
}

pub fn outcome<E: Debug>(outcome: &Result<(), E>) -> String {
    match outcome {
        Ok(()) => "ok\n".to_owned(),
        Err(error) => format!("refused: {error:?}\n"),
    }
}

pub fn action(action: &Action) -> String {
    match action {
        Action::ReplyJoin(ticket, reply) => {
            let id = or_dash(Some(&reply.member_id));
            match &reply.outcome {
                Err(error) => format!("#{} {id} join refused: {error:?}\n", ticket.0),
                Ok(joined) => {
                    let mut told = format!(
                        "#{} {id} joined generation {} {}/{} leader {}",
                        ticket.0,
                        joined.generation,
                        or_dash(joined.protocol_type.as_deref()),
                        or_dash(joined.protocol.as_deref()),
                        or_dash(joined.leader.as_deref()),
                    );
                    if joined.skip_assignment {
                        told += " skip-assignment";
                    }
                    for member in &joined.members {
                        let identity = member.instance_id.as_deref();
                        let identity = identity.map(|id| format!("({id})")).unwrap_or_default();
                        write!(
                            told,
                            " {}{identity}:{}",
                            member.id,
                            topics(member.metadata.clone())
                        )
                        .unwrap();
                    }
                    told + "\n"
                }
            }
        }
        Action::ReplySync(ticket, Err(error)) => format!("#{} sync refused: {error:?}\n", ticket.0),
        Action::ReplySync(ticket, Ok(synced)) => format!(
            "#{} synced {}/{} {}\n",
            ticket.0,
            or_dash(synced.protocol_type.as_deref()),
            or_dash(synced.protocol.as_deref()),
            text(&synced.assignment)
        ),
        Action::Report(event) => format!("{event:?}\n"),
        Action::Append(..) => unreachable!("appends are performed by the stage"),
    }
}

/// The owner answers with the refusal of an append what would have been answered after it.
pub fn unless_refused(told: &Action, is_refused: bool) -> String {
    match told {
        Action::ReplyJoin(ticket, _) | Action::ReplySync(ticket, _) if is_refused => {
            format!("#{} is told of the refusal\n", ticket.0)
        }
        told => action(told),
    }
}

pub fn record(record: &GroupRecord, version: i16) -> String {
    match record {
        GroupRecord::GroupMetadata(key, None) => format!("append group {} deleted\n", key.group),
        GroupRecord::GroupMetadata(key, Some(value)) => {
            let mut told = format!(
                "append group {} v{version} generation {} {}/{} leader {} since {}",
                key.group,
                value.generation,
                or_dash(Some(&value.protocol_type)),
                or_dash(value.protocol.as_deref()),
                or_dash(value.leader.as_deref()),
                value.current_state_timestamp
            );
            for member in &value.members {
                let identity = member.group_instance_id.as_deref();
                let identity = identity.map(|id| format!("({id})")).unwrap_or_default();
                let said = topics(member.subscription.clone());
                write!(
                    told,
                    " {}{identity}:{said}={}",
                    member.member_id,
                    text(&member.assignment)
                )
                .unwrap();
            }
            told + "\n"
        }
        GroupRecord::OffsetCommit(key, None) => {
            format!(
                "append offset {} {}-{} deleted\n",
                key.group, key.topic, key.partition
            )
        }
        GroupRecord::OffsetCommit(key, Some(value)) => format!(
            "append offset {} {}-{} v{version} {} epoch {} at {} expires {} '{}'\n",
            key.group,
            key.topic,
            key.partition,
            value.offset,
            value.leader_epoch,
            value.commit_timestamp,
            value.expire_timestamp,
            value.metadata
        ),
        other => format!("append {other:?}\n"),
    }
}

pub fn described(described: &Result<DescribedGroup, DescribeError>) -> String {
    match described {
        Err(error) => format!("refused: {error:?}\n"),
        Ok(group) => {
            let kind = or_dash(Some(&group.protocol_type));
            let mut told = format!(
                "{} {kind}/{}\n",
                group.state,
                or_dash(Some(&group.protocol))
            );
            for member in &group.members {
                let identity = member.instance_id.as_deref().unwrap_or("-");
                writeln!(
                    told,
                    "  {} {identity} {} {} {} {}",
                    member.id,
                    member.client_id,
                    member.client_host,
                    topics(member.metadata.clone()),
                    text(&member.assignment)
                )
                .unwrap();
            }
            told
        }
    }
}

pub fn committed(reply: &CommitReply) -> String {
    match reply {
        Err(error) => format!("refused: {error:?}\n"),
        Ok(topics) => {
            let mut told = String::new();
            for topic in topics {
                for partition in &topic.partitions {
                    writeln!(
                        told,
                        "{}-{} {:?}",
                        topic.name, partition.partition, partition.outcome
                    )
                    .unwrap();
                }
            }
            told
        }
    }
}

pub fn fetched(topics: &[FetchedTopic]) -> String {
    let mut told = String::new();
    for topic in topics {
        for (partition, fetched) in &topic.partitions {
            let said = match fetched {
                Fetched::Nothing => "nothing".to_owned(),
                Fetched::Unstable => "unstable".to_owned(),
                Fetched::Offset(committed) => {
                    format!("{} '{}'", committed.offset, committed.metadata)
                }
            };
            writeln!(told, "{}-{partition} {said}", topic.name).unwrap();
        }
    }
    told
}
