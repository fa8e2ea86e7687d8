//! Runs the stories in `tests/scenarios/`: admin requests, then the records and replies that come of them.
//!
//! Ids count up from 1 and are shown as `id-1`; the records are replayed before the next line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod show;

use std::path::Path;

use ottla_controller::alter_configs;
use ottla_controller::alter_partition;
use ottla_controller::broker_heartbeat::{self, ControlledShutdown, Heartbeat, Wish};
use ottla_controller::brokers::Registration;
use ottla_controller::configs::Change;
use ottla_controller::create_partitions::{self, Growth};
use ottla_controller::create_topics::{self, NewTopic};
use ottla_controller::delete_topics::{self, TopicReference};
use ottla_controller::due_elections;
use ottla_controller::elections::{self, Election};
use ottla_controller::reassignments::{self, ReplicationFactor};
use ottla_controller::{Decision, Settings, View, brokers, directories, producer_ids};
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::partition::LOST;
use ottla_metadata::{
    BrokerRegistration, ConfigResource, FeatureRange, MetadataDelta, MetadataImage,
    MetadataVersion, Partition, ResourceKind, versions,
};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};

#[test]
fn scenarios_play_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    ottla_scenario::play_all(&directory, 8, || {
        let mut stage = Stage::new();
        move |line: &str| stage.run(line)
    });
}

struct Stage {
    image: MetadataImage,
    settings: Settings,
    ids: u64,
    /// The offset of the next record.
    next: i64,
}

/// One command line: its verb, plain words, and `key=value` words.
struct Line<'a> {
    verb: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Self {
        let mut words = text.split(' ');
        Self {
            verb: words.next().unwrap(),
            words: words.collect(),
        }
    }

    fn plain(&self) -> impl Iterator<Item = &'a str> {
        self.words
            .iter()
            .copied()
            .filter(|word| !word.contains('='))
    }

    fn first(&self) -> &'a str {
        self.plain().next().unwrap()
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.value(key)
            .map_or(default, |value| value.parse().ok().unwrap())
    }

    /// The `key=value` words of configs: those whose key has a dot.
    fn configs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.words
            .iter()
            .filter_map(|word| word.split_once('='))
            .filter(|(key, _)| key.contains('.'))
    }
}

/// `0:1,2;1:2,3` as partitions with their replicas.
fn assignments(text: &str) -> Vec<(PartitionIndex, Vec<NodeId>)> {
    text.split(';')
        .map(|one| {
            let (index, replicas) = one.split_once(':').unwrap();
            (PartitionIndex(index.parse().unwrap()), nodes(replicas))
        })
        .collect()
}

/// The log directory of this number.
fn directory(number: &str) -> Uuid {
    match number {
        "lost" => LOST,
        number => Uuid::from_parts(9, number.parse().unwrap()),
    }
}

fn nodes(text: &str) -> Vec<NodeId> {
    text.split(',')
        .map(|id| NodeId(id.parse().unwrap()))
        .collect()
}

/// A cluster of the newest metadata version, without brokers.
fn new_cluster() -> MetadataImage {
    let mut image = MetadataImage::default();
    let version = MetadataVersion::LATEST;
    image
        .features
        .insert(versions::FEATURE.to_owned(), version.0);
    image
}

impl Stage {
    fn new() -> Self {
        let settings = Settings {
            default_partitions: 2,
            default_replication_factor: 1,
            delete_topics: true,
            statics: StaticConfigs::default(),
        };
        Self {
            image: new_cluster(),
            settings,
            ids: 0,
            next: 0,
        }
    }

    fn run(&mut self, text: &str) -> String {
        let line = Line::parse(text);
        match line.verb {
            "broker" => self.broker(&line),
            "feature" => self.feature(&line),
            "heartbeat" => self.heartbeat(&line),
            "fence" => self.fence(&line),
            "unregister" => self.unregister(&line),
            "isr" => self.alter_partition(&line),
            "show" => line.plain().map(|name| self.show(name)).collect(),
            "create" => self.create(&line),
            "grow" => self.grow(&line),
            "delete" => self.delete(&line),
            "alter" | "append" | "subtract" | "reset" => self.alter(&line),
            "replace" => self.replace(&line),
            "elect" => self.elect(&line),
            "elect-due" => self.elect_due(&line),
            "reassign" => self.reassign(&line),
            "producer-ids" => self.producer_ids(&line),
            "locate" => self.locate(&line),
            "set" => {
                self.settings.delete_topics = line.number("delete-topics", true);
                String::new()
            }
            "file" => {
                let configs = line.configs();
                let values = configs.map(|(key, value)| (key.to_owned(), value.to_owned()));
                self.settings.statics.values = values.collect();
                String::new()
            }
            unknown => panic!("no command {unknown}"),
        }
    }

    /// Decides on the image so far, replays the records, and shows them and the reply.
    fn decide<R>(
        &mut self,
        operation: impl FnOnce(View<'_>) -> Decision<R>,
        reply: impl Fn(&R) -> String,
    ) -> String {
        let decision = operation(View {
            image: &self.image,
            settings: &self.settings,
        });
        let mut delta = MetadataDelta::new(self.image.clone());
        let mut out = String::new();
        for record in &decision.records {
            delta.replay(record);
            out += &show::record(record);
            self.next += 1;
        }
        out.extend(decision.unclean_elections.iter().map(show::unclean));
        self.image = delta.finish().0;
        out + &reply(&decision.reply)
    }

    /// A new process of a broker, which serves unless it is `fenced`. After a `clean` shutdown it knows its last epoch.
    fn broker(&mut self, line: &Line<'_>) -> String {
        let id = NodeId(line.first().parse().unwrap());
        let has = |word| line.plain().any(|plain| plain == word);
        let known = self.image.brokers.get(&id).cloned();
        self.ids += 1;
        let feature = |(name, maximum): (&str, i16)| FeatureRange {
            name: name.to_owned(),
            minimum: 0,
            maximum,
        };
        let of_cluster = self.image.features.iter();
        let features = of_cluster.map(|(name, level)| feature((name, *level)));
        let broker = BrokerRegistration {
            id,
            incarnation: match &known {
                Some(known) if has("again") => known.incarnation,
                _ => Uuid::from_parts(8, self.ids),
            },
            features: match line.value("features") {
                Some(_) => vec![feature((versions::FEATURE, line.number("features", 0)))],
                None => features.collect(),
            },
            rack: line.value("rack").map(str::to_owned),
            directories: line.value("dirs").map_or_else(
                || vec![Uuid::from_parts(7, u64::try_from(id.0).unwrap())],
                |list| list.split(',').map(directory).collect(),
            ),
            ..BrokerRegistration::default()
        };
        let clean = known.filter(|_| has("clean"));
        let registration = Registration {
            broker,
            previous_epoch: clean.map_or(-1, |known| known.epoch),
            is_alive: has("alive"),
        };
        let next = Offset(self.next);
        let out = self.decide(
            |view| brokers::register(view, &registration, next),
            |reply| show::outcome("register", reply),
        );
        if has("fenced") || has("alive") || has("again") || out.contains("Invalid") {
            return out;
        }
        let heartbeat = format!("heartbeat {id}");
        out + &self.heartbeat(&Line::parse(&heartbeat))
    }

    /// The epoch with which a broker is registered.
    fn epoch(&self, id: NodeId) -> i64 {
        self.image
            .brokers
            .get(&id)
            .map_or(-1, |broker| broker.epoch)
    }

    fn feature(&mut self, line: &Line<'_>) -> String {
        let mut words = line.plain();
        let name = words.next().unwrap().to_owned();
        self.image.features.insert(name, line.number("level", 1));
        String::new()
    }

    fn heartbeat(&mut self, line: &Line<'_>) -> String {
        let broker = NodeId(line.first().parse().unwrap());
        let has = |word| line.plain().any(|plain| plain == word);
        let wish = match (has("want-fence"), has("want-stop")) {
            (false, false) => Wish::Serve,
            (true, false) => Wish::Fence,
            (false, true) => Wish::ShutDown,
            (true, true) => Wish::ShutDownFenced,
        };
        let ids = |key| {
            let list = line.value(key)?;
            let ids = list.split(',').filter(|id| !id.is_empty());
            Some(ids.map(directory).collect::<Vec<Uuid>>())
        };
        let heartbeat = Heartbeat {
            broker,
            epoch: line.number("epoch", self.epoch(broker)),
            metadata_offset: Offset(line.number("offset", self.next - 1)),
            wish,
            offline_directories: ids("offline").unwrap_or_default(),
            cordoned_directories: ids("cordoned"),
            shutdown: match (has("seen"), has("waiting")) {
                (true, _) => ControlledShutdown::Seen,
                (_, true) => ControlledShutdown::Waiting,
                _ => ControlledShutdown::None,
            },
        };
        let next = Offset(self.next);
        self.decide(
            |view| broker_heartbeat::decide(view, &heartbeat, next),
            show::health,
        )
    }

    fn fence(&mut self, line: &Line<'_>) -> String {
        let id = NodeId(line.first().parse().unwrap());
        let epoch = line.number("epoch", self.epoch(id));
        self.decide(|view| brokers::fence(view, (id, epoch)), |()| String::new())
    }

    fn unregister(&mut self, line: &Line<'_>) -> String {
        let id = NodeId(line.first().parse().unwrap());
        self.decide(
            |view| brokers::unregister(view, id),
            |reply| show::outcome("unregister", reply),
        )
    }

    /// A leader changes the ISR of a partition. Epochs that are not given are those of the partition and the brokers.
    fn alter_partition(&mut self, line: &Line<'_>) -> String {
        let (topic, index) = line.first().rsplit_once('-').unwrap();
        let index = PartitionIndex(index.parse().unwrap());
        let topic = match self.image.topic_ids.get(topic) {
            Some(id) => *id,
            None => Uuid::from_parts(6, 6),
        };
        let partition = self.image.partition(topic, index);
        let leader = partition.and_then(|partition| partition.leader);
        let leader = NodeId(line.number("by", leader.map_or(-1, |leader| leader.0)));
        let member = |text: &str| {
            let (id, epoch) = text.split_once('@').unwrap_or((text, "-1"));
            (NodeId(id.parse().unwrap()), epoch.parse().unwrap())
        };
        let isr = line.value("to").unwrap_or_default().split(',');
        let wanted = alter_partition::Wanted {
            place: (topic, index),
            leader_epoch: LeaderEpoch(
                line.number("leader-epoch", partition.map_or(0, |it| it.leader_epoch.0)),
            ),
            partition_epoch: line.number(
                "partition-epoch",
                partition.map_or(0, |it| it.partition_epoch),
            ),
            isr: isr.filter(|text| !text.is_empty()).map(member).collect(),
            recovering: line.plain().any(|word| word == "recovering"),
        };
        let broker = (leader, line.number("epoch", self.epoch(leader)));
        self.decide(
            |view| alter_partition::decide(view, broker, &[wanted]),
            |reply| match reply {
                Ok(reply) => show::altered(line.first(), &reply[0].1),
                Err(refusal) => show::outcome::<()>("isr", &Err(refusal.clone())),
            },
        )
    }

    fn show(&self, name: &str) -> String {
        let (topic, index) = name.rsplit_once('-').unwrap();
        let index = PartitionIndex(index.parse().unwrap());
        let partition: &Partition = &self.image.topic(topic).unwrap().partitions[&index];
        show::partition(name, partition)
    }

    fn create(&mut self, line: &Line<'_>) -> String {
        let validate_only = line.plain().any(|word| word == "validate-only");
        let topics: Vec<NewTopic> = line
            .plain()
            .filter(|word| *word != "validate-only")
            .map(|name| {
                self.ids += 1;
                NewTopic {
                    name: name.trim_matches('"').to_owned(),
                    partitions: line.number("partitions", -1),
                    replication_factor: line.number("replicas", -1),
                    assignments: line.value("assign").map(assignments).unwrap_or_default(),
                    configs: line
                        .configs()
                        .map(|(k, v)| (k.to_owned(), Some(v.to_owned())))
                        .collect(),
                    id: Uuid::from_parts(0, self.ids),
                }
            })
            .collect();
        self.decide(
            |view| create_topics::decide(view, &topics, validate_only),
            show::created,
        )
    }

    fn grow(&mut self, line: &Line<'_>) -> String {
        let assignments = line.value("assign");
        let growth = |name: &str| Growth {
            topic: name.to_owned(),
            count: line.number("count", 0),
            assignments: assignments.map(|text| text.split(';').map(nodes).collect()),
        };
        let growths: Vec<Growth> = line.plain().map(growth).collect();
        self.decide(
            |view| create_partitions::decide(view, &growths, false),
            |reply| show::outcomes(reply.iter().map(|(name, result)| (name.clone(), result))),
        )
    }

    fn delete(&mut self, line: &Line<'_>) -> String {
        let reference = |word: &str| match word.strip_prefix("id-") {
            Some(number) => TopicReference::Id(Uuid::from_parts(0, number.parse().unwrap())),
            None => TopicReference::Name(word.to_owned()),
        };
        let topics: Vec<TopicReference> = line.plain().map(reference).collect();
        self.decide(
            |view| delete_topics::decide(view, &topics),
            |reply| {
                show::outcomes(
                    reply
                        .iter()
                        .map(|(topic, result)| (show::topic(topic), result)),
                )
            },
        )
    }

    fn resource(line: &Line<'_>) -> ConfigResource {
        match line.first().split_once(':').unwrap() {
            ("topic", name) => ConfigResource::topic(name),
            ("broker", name) => ConfigResource {
                kind: ResourceKind::Broker,
                name: name.to_owned(),
            },
            ("group", name) => ConfigResource::group(name),
            other => panic!("no resource {other:?}"),
        }
    }

    fn alter(&mut self, line: &Line<'_>) -> String {
        let change = |value: &str| match line.verb {
            "alter" => Change::Set(value.to_owned()),
            "append" => Change::Append(value.to_owned()),
            "subtract" => Change::Subtract(value.to_owned()),
            _ => Change::Delete,
        };
        let mut changes: Vec<(String, Change)> = line
            .configs()
            .map(|(key, value)| (key.to_owned(), change(value)))
            .collect();
        if line.verb == "reset" {
            changes.extend(
                line.plain()
                    .skip(1)
                    .map(|key| (key.to_owned(), Change::Delete)),
            );
        }
        self.decide(
            |view| {
                alter_configs::decide_incremental(view, &[(Self::resource(line), changes)], false)
            },
            |reply| {
                show::outcomes(
                    reply
                        .iter()
                        .map(|(resource, result)| (resource.name.clone(), result)),
                )
            },
        )
    }

    fn replace(&mut self, line: &Line<'_>) -> String {
        let values = line
            .configs()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        self.decide(
            |view| alter_configs::decide_replacing(view, &[(Self::resource(line), values)], false),
            |reply| {
                show::outcomes(
                    reply
                        .iter()
                        .map(|(resource, result)| (resource.name.clone(), result)),
                )
            },
        )
    }

    fn elect(&mut self, line: &Line<'_>) -> String {
        let kind = match line.first() {
            "preferred" => Election::Preferred,
            _ => Election::Unclean,
        };
        let named: Vec<(String, PartitionIndex)> = line
            .plain()
            .skip(1)
            .map(|word| {
                let (topic, index) = word.rsplit_once('-').unwrap();
                (topic.to_owned(), PartitionIndex(index.parse().unwrap()))
            })
            .collect();
        let asked = (!named.is_empty()).then_some(named.as_slice());
        self.decide(
            |view| elections::decide(view, kind, asked),
            |reply| {
                show::outcomes(
                    reply
                        .iter()
                        .map(|((topic, index), result)| (format!("{topic}-{index}"), result)),
                )
            },
        )
    }

    fn elect_due(&mut self, line: &Line<'_>) -> String {
        let election = match line.first() {
            "preferred" => Election::Preferred,
            _ => Election::Unclean,
        };
        self.decide(
            |view| due_elections::decide(view, election),
            |may_be_more| {
                let text = if *may_be_more { "more\n" } else { "" };
                text.to_owned()
            },
        )
    }

    fn reassign(&mut self, line: &Line<'_>) -> String {
        let (topic, index) = line.first().rsplit_once('-').unwrap();
        let wanted = (
            (topic.to_owned(), PartitionIndex(index.parse().unwrap())),
            line.value("to").map(nodes),
        );
        let is_same_number = line.plain().any(|word| word == "same-number");
        let factor = if is_same_number {
            ReplicationFactor::Stays
        } else {
            ReplicationFactor::MayChange
        };
        self.decide(
            |view| reassignments::decide(view, &[wanted], factor),
            |reply| {
                show::outcomes(
                    reply
                        .iter()
                        .map(|((topic, index), result)| (format!("{topic}-{index}"), result)),
                )
            },
        )
    }

    fn locate(&mut self, line: &Line<'_>) -> String {
        let mut words = line.plain();
        let id = NodeId(words.next().unwrap().parse().unwrap());
        let located = words.map(|word| {
            let (topic, index) = word.rsplit_once('-').unwrap();
            let topic = self.image.topic_ids.get(topic);
            let topic = topic.copied().unwrap_or(Uuid::from_parts(0, 99));
            let index = PartitionIndex(index.parse().unwrap());
            ((topic, index), directory(line.value("in").unwrap()))
        });
        let located: Vec<_> = located.collect();
        let epoch = line.number("epoch", self.epoch(id));
        self.decide(
            |view| directories::decide(view, (id, epoch), &located),
            |reply| show::located(&located, reply),
        )
    }

    fn producer_ids(&mut self, line: &Line<'_>) -> String {
        let id = NodeId(line.first().parse().unwrap());
        let epoch = line.number("epoch", self.epoch(id));
        self.decide(
            |view| producer_ids::decide(view, id, epoch),
            |reply| show::outcome("block", reply),
        )
    }
}
