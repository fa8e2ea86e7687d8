//! Random events with up to five brokers: whatever happens, the partitions keep what the controller promises.
//!
//! [`Model::complete`] is the definition of an acknowledged record: while a partition has a leader and enough replicas
//! in sync, every member of the ISR has all of them, and the others may lack some. A crash may lose records of a
//! replica. A leader that may lack some is always reported as an unclean election.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use ottla_controller::alter_partition::Wanted;
use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::brokers::Registration;
use ottla_controller::configs::Change;
use ottla_controller::create_topics::NewTopic;
use ottla_controller::elections::Election;
use ottla_controller::reassignments::ReplicationFactor;
use ottla_controller::request::{
    AlterPartition, AlterPartitionReassignments, AssignReplicasToDirs, BrokerHeartbeat,
    CreateTopics, ElectLeaders, FenceBroker, IncrementalAlterConfigs, RegisterBroker,
    UnregisterBroker,
};
use ottla_controller::{ControllerRequest, Settings, UncleanElection, View};
use ottla_metadata::{
    BrokerRegistration, ConfigResource, FeatureRange, MetadataDelta, MetadataImage,
    MetadataVersion, Partition, versions,
};
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex, Uuid};
use proptest::prelude::*;

const BROKERS: i32 = 5;
/// The topics, with the replicas of their only partition.
const TOPICS: [(&str, &[i32]); 2] = [("a", &[1, 2, 3]), ("b", &[2, 4])];

#[derive(Debug, Clone)]
enum Event {
    Register {
        broker: i32,
        clean: bool,
    },
    Heartbeat {
        broker: i32,
        wish: Wish,
        shutdown: ControlledShutdown,
    },
    DirectoryFails {
        broker: i32,
    },
    /// The broker reports in which directory its replica is.
    Locate {
        broker: i32,
        topic: usize,
        number: u64,
    },
    Fence {
        broker: i32,
    },
    Unregister {
        broker: i32,
    },
    /// The leader asks for an ISR of the members in this mask; it is among them.
    Isr {
        topic: usize,
        members: u8,
        recovering: bool,
    },
    Elect {
        topic: usize,
        election: Election,
    },
    /// To the brokers in this mask, from this one on; none cancels.
    Reassign {
        topic: usize,
        brokers: u8,
        first: usize,
    },
    MinInSync {
        topic: usize,
        value: i32,
    },
    AllowUnclean {
        topic: usize,
        value: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let broker = || 1..=BROKERS;
    let topic = || 0..TOPICS.len();
    let wish = prop_oneof![
        6 => Just(Wish::Serve),
        1 => Just(Wish::Fence),
        2 => Just(Wish::ShutDown),
        1 => Just(Wish::ShutDownFenced),
    ];
    let shutdown = prop_oneof![
        Just(ControlledShutdown::None),
        Just(ControlledShutdown::Waiting),
        Just(ControlledShutdown::Seen),
    ];
    let election = prop_oneof![Just(Election::Preferred), Just(Election::Unclean)];
    prop_oneof![
        4 => (broker(), any::<bool>()).prop_map(|(broker, clean)| {
            Event::Register { broker, clean }
        }),
        8 => (broker(), wish, shutdown).prop_map(|(broker, wish, shutdown)| {
            Event::Heartbeat { broker, wish, shutdown }
        }),
        1 => broker().prop_map(|broker| Event::DirectoryFails { broker }),
        2 => (broker(), topic(), 1..=2_u64).prop_map(|(broker, topic, number)| {
            Event::Locate { broker, topic, number }
        }),
        3 => broker().prop_map(|broker| Event::Fence { broker }),
        1 => broker().prop_map(|broker| Event::Unregister { broker }),
        8 => (topic(), any::<u8>(), any::<bool>()).prop_map(|(topic, members, recovering)| {
            Event::Isr { topic, members, recovering }
        }),
        2 => (topic(), election).prop_map(|(topic, election)| Event::Elect { topic, election }),
        3 => (topic(), any::<u8>(), 0..5_usize).prop_map(|(topic, brokers, first)| {
            Event::Reassign { topic, brokers, first }
        }),
        1 => (topic(), 1..=3).prop_map(|(topic, value)| Event::MinInSync { topic, value }),
        1 => (topic(), any::<bool>()).prop_map(|(topic, value)| {
            Event::AllowUnclean { topic, value }
        }),
    ]
}

fn nodes(mask: u8) -> Vec<NodeId> {
    let ids = (1..=BROKERS).filter(|id| mask & (1 << id) != 0);
    ids.map(NodeId).collect()
}

struct Model {
    image: MetadataImage,
    settings: Settings,
    next: i64,
    incarnations: u64,
    /// By topic: the replicas that have every acknowledged record.
    complete: BTreeMap<&'static str, BTreeSet<NodeId>>,
}

impl Model {
    fn new(has_eligible_leaders: bool) -> Self {
        let mut image = MetadataImage::default();
        let version = MetadataVersion::OF_NEW_CLUSTERS;
        image
            .features
            .insert(versions::FEATURE.to_owned(), version.0);
        if has_eligible_leaders {
            let name = versions::ELIGIBLE_LEADER_REPLICAS.to_owned();
            image.features.insert(name, 1);
        }
        let mut model = Self {
            image,
            settings: Settings::default(),
            next: 0,
            incarnations: 0,
            complete: BTreeMap::new(),
        };
        for broker in 1..=BROKERS {
            model.play(&Event::Register {
                broker,
                clean: true,
            });
            let (wish, shutdown) = (Wish::Serve, ControlledShutdown::None);
            model.play(&Event::Heartbeat {
                broker,
                wish,
                shutdown,
            });
        }
        let topics = TOPICS
            .iter()
            .zip(1..)
            .map(|((name, replicas), id)| NewTopic {
                name: (*name).to_owned(),
                partitions: -1,
                replication_factor: -1,
                assignments: vec![(
                    PartitionIndex(0),
                    replicas.iter().copied().map(NodeId).collect(),
                )],
                configs: vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))],
                id: Uuid::from_parts(1, id),
            });
        let create = CreateTopics {
            topics: topics.collect(),
            validate_only: false,
        };
        model.decide(&create.into());
        for (topic, _) in TOPICS {
            let isr = model.partition(topic).isr.iter().copied().collect();
            model.complete.insert(topic, isr);
        }
        model
    }

    fn partition(&self, topic: &str) -> &Partition {
        &self.image.topic(topic).unwrap().partitions[&PartitionIndex(0)]
    }

    fn epoch(&self, broker: i32) -> i64 {
        let broker = self.image.brokers.get(&NodeId(broker));
        broker.map_or(-1, |broker| broker.epoch)
    }

    fn min_in_sync(&self, topic: &str) -> usize {
        let config = self
            .image
            .config(&ConfigResource::topic(topic), "min.insync.replicas");
        let config: usize = config.unwrap().parse().unwrap();
        config.min(self.partition(topic).replicas.len())
    }

    /// Decides, and replays the records. Returns the elections that are reported as unclean.
    fn decide(&mut self, request: &ControllerRequest) -> Vec<UncleanElection> {
        let view = View {
            image: &self.image,
            settings: &self.settings,
        };
        let decision = request.decide(view, Offset(self.next));
        let mut delta = MetadataDelta::new(self.image.clone());
        for record in &decision.records {
            delta.replay(record);
            self.next += 1;
        }
        self.image = delta.finish().0;
        decision.unclean_elections
    }

    fn registration(&mut self, broker: i32, clean: bool) -> RegisterBroker {
        self.incarnations += 1;
        let features = self.image.features.iter();
        RegisterBroker(Registration {
            previous_epoch: if clean { self.epoch(broker) } else { -1 },
            is_alive: false,
            broker: BrokerRegistration {
                id: NodeId(broker),
                incarnation: Uuid::from_parts(8, self.incarnations),
                features: features
                    .map(|(name, level)| FeatureRange {
                        name: name.clone(),
                        minimum: 0,
                        maximum: *level,
                    })
                    .collect(),
                directories: [1, 2].map(|number| directory(broker, number)).to_vec(),
                ..BrokerRegistration::default()
            },
        })
    }

    fn heartbeat(&self, broker: i32, wish: Wish) -> Heartbeat {
        Heartbeat {
            broker: NodeId(broker),
            epoch: self.epoch(broker),
            metadata_offset: Offset(self.next),
            wish,
            offline_directories: Vec::new(),
            cordoned_directories: None,
            shutdown: ControlledShutdown::None,
        }
    }

    fn request(&mut self, event: &Event) -> ControllerRequest {
        match *event {
            Event::Register { broker, clean } => self.registration(broker, clean).into(),
            Event::Heartbeat {
                broker,
                wish,
                shutdown,
            } => {
                let heartbeat = self.heartbeat(broker, wish);
                BrokerHeartbeat(Heartbeat {
                    shutdown,
                    ..heartbeat
                })
                .into()
            }
            Event::DirectoryFails { broker } => {
                let mut heartbeat = self.heartbeat(broker, Wish::Serve);
                heartbeat.offline_directories = vec![directory(broker, 1)];
                BrokerHeartbeat(heartbeat).into()
            }
            Event::Locate {
                broker,
                topic,
                number,
            } => AssignReplicasToDirs {
                broker: NodeId(broker),
                epoch: self.epoch(broker),
                located: vec![(
                    (self.image.topic_ids[TOPICS[topic].0], PartitionIndex(0)),
                    directory(broker, number),
                )],
            }
            .into(),
            Event::Fence { broker } => FenceBroker {
                broker: NodeId(broker),
                epoch: self.epoch(broker),
            }
            .into(),
            Event::Unregister { broker } => UnregisterBroker(NodeId(broker)).into(),
            Event::Isr {
                topic,
                members,
                recovering,
            } => self.alter_partition(TOPICS[topic].0, members, recovering),
            Event::Elect { topic, election } => ElectLeaders {
                election,
                partitions: Some(vec![named(topic)]),
            }
            .into(),
            Event::Reassign {
                topic,
                brokers,
                first,
            } => {
                let mut target = nodes(brokers);
                let first = first.min(target.len());
                target.rotate_left(first);
                let target = (!target.is_empty()).then_some(target);
                AlterPartitionReassignments {
                    partitions: vec![(named(topic), target)],
                    replication_factor: ReplicationFactor::MayChange,
                }
                .into()
            }
            Event::MinInSync { topic, value } => {
                config(topic, "min.insync.replicas", &value.to_string())
            }
            Event::AllowUnclean { topic, value } => {
                config(topic, "unclean.leader.election.enable", &value.to_string())
            }
        }
    }

    fn alter_partition(&self, topic: &str, members: u8, recovering: bool) -> ControllerRequest {
        let partition = self.partition(topic);
        let leader = partition.leader.unwrap_or(NodeId(1));
        let mut isr = nodes(members);
        isr.retain(|member| partition.replicas.contains(member) && *member != leader);
        isr.push(leader);
        AlterPartition {
            broker: leader,
            epoch: self.epoch(leader.0),
            partitions: vec![Wanted {
                place: (self.image.topic_ids[topic], PartitionIndex(0)),
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                isr: isr.into_iter().map(|member| (member, -1)).collect(),
                recovering,
            }],
        }
        .into()
    }

    fn play(&mut self, event: &Event) {
        let before = self.image.clone();
        let request = self.request(event);
        let unclean = self.decide(&request);
        if let Event::Register {
            broker,
            clean: false,
        } = event
        {
            for complete in self.complete.values_mut() {
                complete.remove(&NodeId(*broker));
            }
        }
        let known: Vec<&'static str> = self.complete.keys().copied().collect();
        for topic in known {
            let old = before.topic(topic).unwrap().partitions[&PartitionIndex(0)].clone();
            let of_topic = unclean.iter().filter(|election| election.topic == topic);
            let of_topic: Vec<&UncleanElection> = of_topic.collect();
            self.check_state(topic);
            self.check_change(topic, &old, &of_topic);
            let is_asked = matches!(event, Event::Isr { .. });
            self.acknowledge(topic, (&old, is_asked), &of_topic);
        }
    }

    fn check_state(&self, topic: &str) {
        let partition = self.partition(topic);
        let Partition {
            isr,
            eligible_leaders: eligible,
            replicas,
            ..
        } = partition;
        let is_replica = |node: &NodeId| replicas.contains(node);
        assert!(isr.iter().chain(eligible).all(is_replica), "{partition:?}");
        let both: BTreeSet<&NodeId> = isr.iter().chain(eligible).collect();
        assert_eq!(
            both.len(),
            isr.len() + eligible.len(),
            "they overlap: {partition:?}"
        );
        if isr.len() >= self.min_in_sync(topic) {
            assert!(
                eligible.is_empty(),
                "nobody need be eligible: {partition:?}"
            );
        }
        if let Some(leader) = partition.leader {
            assert!(
                isr.contains(&leader),
                "the leader is not in sync: {partition:?}"
            );
            assert!(
                self.image.is_active(leader),
                "it may not lead: {partition:?}"
            );
            let broker = &self.image.brokers[&leader];
            assert!(
                broker.is_online(partition),
                "its directory failed: {partition:?}"
            );
        }
        let is_fenced = |node: &NodeId| !self.image.is_active(*node);
        let kept = isr.len() == 1 && !self.image.has_eligible_leader_replicas();
        assert!(
            kept || !isr.iter().any(is_fenced),
            "a fenced one is in sync: {partition:?}"
        );
        let moving = partition.adding.iter().chain(&partition.removing);
        assert!(
            moving.copied().all(|node| is_replica(&node)),
            "{partition:?}"
        );
    }

    fn check_change(&self, topic: &str, old: &Partition, unclean: &[&UncleanElection]) {
        let new = self.partition(topic);
        assert!(new.partition_epoch >= old.partition_epoch && new.leader_epoch >= old.leader_epoch);
        let differs = new != old;
        assert_eq!(
            differs,
            new.partition_epoch > old.partition_epoch || cleared(old, new)
        );
        if new.leader != old.leader {
            assert!(
                new.leader_epoch > old.leader_epoch,
                "two leaders in an epoch: {new:?}"
            );
        }
        assert!(unclean.len() <= 1);
        for election in unclean {
            assert_eq!(Some(election.new_leader), new.leader);
            let epochs = (election.old_epoch, election.new_epoch);
            assert_eq!(epochs, (old.leader_epoch, new.leader_epoch));
        }
        if new.recovering && !old.recovering {
            assert_eq!(unclean.len(), 1, "it recovers from nothing: {new:?}");
        }
    }

    /// A new leader has every acknowledged record, or is reported. Then records are acknowledged, if they can be.
    fn acknowledge(
        &mut self,
        topic: &'static str,
        (old, is_asked): (&Partition, bool),
        unclean: &[&UncleanElection],
    ) {
        let new = self.partition(topic).clone();
        let minimum = self.min_in_sync(topic);
        let has_eligible = self.image.has_eligible_leader_replicas();
        let complete = self.complete.get_mut(topic).unwrap();
        let Some(leader) = new.leader else {
            return;
        };
        // What joins the ISR has caught up with the leader that asks.
        if is_asked && old.leader.is_some_and(|leader| complete.contains(&leader)) {
            complete.extend(&new.isr);
        }
        if !unclean.is_empty() {
            *complete = [leader].into();
        }
        assert!(
            !has_eligible || complete.contains(&leader),
            "a leader that may lack records is not reported: {old:?} then {new:?}"
        );
        if new.isr.len() >= minimum {
            *complete = new.isr.iter().copied().collect();
        }
    }
}

/// The eligible leader replicas are cleared by a record of their own, which raises no epoch.
fn cleared(old: &Partition, new: &Partition) -> bool {
    let is_empty = new.eligible_leaders.is_empty() && new.last_known_eligible_leaders.is_empty();
    let mut same = old.clone();
    same.eligible_leaders.clear();
    same.last_known_eligible_leaders.clear();
    is_empty && same == *new && old != new
}

fn directory(broker: i32, number: u64) -> Uuid {
    Uuid::from_parts(u64::try_from(broker).unwrap(), 1000 + number)
}

fn named(topic: usize) -> (String, PartitionIndex) {
    (TOPICS[topic].0.to_owned(), PartitionIndex(0))
}

fn config(topic: usize, key: &str, value: &str) -> ControllerRequest {
    let change = (key.to_owned(), Change::Set(value.to_owned()));
    IncrementalAlterConfigs {
        resources: vec![(ConfigResource::topic(TOPICS[topic].0), vec![change])],
        validate_only: false,
    }
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn partitions_keep_what_is_promised_whatever_happens(
        has_eligible_leaders in any::<bool>(),
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut model = Model::new(has_eligible_leaders);
        for event in &events {
            model.play(event);
        }
    }
}
