//! Runs the stories in `tests/scenarios/`: admin requests, then the records and replies that come of them.
//!
//! Ids count up from 1 and are shown as `id-1`; the records are replayed before the next line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod show;

use std::path::Path;

use ottla_controller::alter_configs;
use ottla_controller::configs::Change;
use ottla_controller::create_partitions::{self, Growth};
use ottla_controller::create_topics::{self, NewTopic};
use ottla_controller::delete_topics::{self, TopicReference};
use ottla_controller::elections::{self, Election};
use ottla_controller::{
    Decision, Settings, View, brokers, directories, producer_ids, reassignments,
};
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{
    BrokerRegistration, ConfigResource, FeatureRange, MetadataDelta, MetadataImage,
    MetadataVersion, ResourceKind, versions,
};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};

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
    Uuid::from_parts(9, number.parse().unwrap())
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
        }
    }

    fn run(&mut self, text: &str) -> String {
        let line = Line::parse(text);
        match line.verb {
            "broker" => self.broker(&line),
            "create" => self.create(&line),
            "grow" => self.grow(&line),
            "delete" => self.delete(&line),
            "alter" | "append" | "subtract" | "reset" => self.alter(&line),
            "replace" => self.replace(&line),
            "elect" => self.elect(&line),
            "reassign" => self.reassign(&line),
            "producer-ids" => self.producer_ids(&line),
            "locate" => self.locate(&line),
            "set" => {
                self.settings.delete_topics = line.number("delete-topics", true);
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
        }
        self.image = delta.finish().0;
        out + &reply(&decision.reply)
    }

    fn broker(&mut self, line: &Line<'_>) -> String {
        let id = NodeId(line.first().parse().unwrap());
        let epoch = line.number("epoch", 100 + i64::from(id.0));
        let broker = BrokerRegistration {
            id,
            epoch: -1,
            incarnation: Uuid::ZERO,
            endpoints: Vec::new(),
            features: vec![FeatureRange {
                name: versions::FEATURE.to_owned(),
                minimum: MetadataVersion::MINIMUM.0,
                maximum: MetadataVersion::LATEST.0,
            }],
            rack: line.value("rack").map(str::to_owned),
            fenced: true,
            in_controlled_shutdown: false,
            directories: line.value("dirs").map_or_else(
                || vec![Uuid::from_parts(7, u64::try_from(id.0).unwrap())],
                |list| list.split(',').map(directory).collect(),
            ),
            cordoned_directories: None,
        };
        let mut out = self.decide(
            |view| brokers::register(view, &broker, epoch),
            |reply| show::outcome("register", reply),
        );
        if line.plain().any(|word| word == "fenced") {
            return out;
        }
        out += &self.decide(
            |view| brokers::unfence(view, id, epoch),
            |reply| show::outcome("unfence", reply),
        );
        out
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

    fn reassign(&mut self, line: &Line<'_>) -> String {
        let (topic, index) = line.first().rsplit_once('-').unwrap();
        let wanted = (
            (topic.to_owned(), PartitionIndex(index.parse().unwrap())),
            line.value("to").map(nodes),
        );
        self.decide(
            |view| reassignments::decide(view, &[wanted]),
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
            let topic = self.image.topic_ids[topic];
            let index = PartitionIndex(index.parse().unwrap());
            ((topic, index), directory(line.value("in").unwrap()))
        });
        let located: Vec<_> = located.collect();
        self.decide(
            |view| directories::decide(view, id, &located),
            |()| String::new(),
        )
    }

    fn producer_ids(&mut self, line: &Line<'_>) -> String {
        let id = NodeId(line.first().parse().unwrap());
        self.decide(
            |view| producer_ids::decide(view, id, line.number("epoch", 100 + i64::from(id.0))),
            |reply| show::outcome("block", reply),
        )
    }
}
