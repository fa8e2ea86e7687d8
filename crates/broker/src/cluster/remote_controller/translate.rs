//! The operations that a broker asks for itself, as Kafka's requests to a controller, and the answers to them.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_controller::broker_heartbeat::{Health, Heartbeat, Wish};
use ottla_controller::brokers::Registration;
use ottla_controller::create_topics::{self, CreatedTopic, NewTopic};
use ottla_controller::producer_ids::Block;
use ottla_controller::{ControllerReply, ControllerRequest, Refusal, alter_partition, request};
use ottla_metadata::Partition;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, ProducerId, Uuid};
use ottla_protocol::messages::alter_partition_request::BrokerState;
use ottla_protocol::messages::broker_registration_request::{Feature, Listener};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::{
    AllocateProducerIdsRequestData, AllocateProducerIdsResponseData, AlterPartitionRequestData,
    AlterPartitionResponseData, AssignReplicasToDirsRequestData, AssignReplicasToDirsResponseData,
    BrokerHeartbeatRequestData, BrokerHeartbeatResponseData, BrokerRegistrationRequestData,
    BrokerRegistrationResponseData, CreateTopicsRequestData, CreateTopicsResponseData,
    EnvelopeRequestData, EnvelopeResponseData, ErrorCode, KafkaString, alter_partition_request,
    alter_partition_response, assign_replicas_to_dirs_request,
};

use super::{ANSWERED_WITHIN, Asked, Purpose, RemoteController, TRIED_FOR};
use crate::cluster::channel::NoController;
use crate::cluster::controller_clock;

const OWN: (Purpose, Duration) = (Purpose::Broker, TRIED_FOR);
const LIFE: (Purpose, Duration) = (Purpose::Life, ANSWERED_WITHIN);

/// How long the controller may wait for new partitions to exist.
const CREATED_WITHIN_MS: i32 = 5_000;

macro_rules! asked {
    ($($request:ident: $response:ident;)*) => {$(
        impl Asked for $request {
            fn error(response: &$response) -> ErrorCode {
                response.error_code.into()
            }
        }
    )*};
}

asked! {
    BrokerRegistrationRequestData: BrokerRegistrationResponseData;
    BrokerHeartbeatRequestData: BrokerHeartbeatResponseData;
    AlterPartitionRequestData: AlterPartitionResponseData;
    AllocateProducerIdsRequestData: AllocateProducerIdsResponseData;
    AssignReplicasToDirsRequestData: AssignReplicasToDirsResponseData;
    EnvelopeRequestData: EnvelopeResponseData;
}

impl Asked for CreateTopicsRequestData {
    fn error(response: &CreateTopicsResponseData) -> ErrorCode {
        let mut topics = response.topics.iter().map(|topic| topic.error_code.into());
        let refused = topics.find(|code| *code == ErrorCode::NotController);
        refused.unwrap_or(ErrorCode::None)
    }
}

/// Asks for an operation that has a request of its own.
pub(super) async fn ask(
    to: &RemoteController,
    asked: ControllerRequest,
) -> Result<ControllerReply, NoController> {
    Ok(match asked {
        ControllerRequest::RegisterBroker(asked) => {
            let request = registration(&asked.0, &to.cluster_id);
            let answer = to.call(LIFE, &request).await?;
            let epoch = refused(answer.error_code).map(|()| answer.broker_epoch);
            ControllerReply::RegisterBroker(epoch)
        }
        ControllerRequest::BrokerHeartbeat(asked) => {
            let answer = to.call(LIFE, &heartbeat(&asked.0)).await?;
            ControllerReply::BrokerHeartbeat(health(&answer))
        }
        ControllerRequest::AlterPartition(asked) => {
            let answer = to.call(OWN, &alter_partitions(&asked)).await?;
            ControllerReply::AlterPartition(altered(answer))
        }
        ControllerRequest::AllocateProducerIds(asked) => {
            let request = AllocateProducerIdsRequestData::default()
                .with_broker_id(asked.broker.0)
                .with_broker_epoch(asked.epoch);
            let answer = to.call(OWN, &request).await?;
            let block = refused(answer.error_code).map(|()| Block {
                first: ProducerId(answer.producer_id_start),
                size: answer.producer_id_len,
            });
            ControllerReply::AllocateProducerIds(block)
        }
        ControllerRequest::AssignReplicasToDirs(asked) => {
            let answer = to.call(OWN, &directories(&asked)).await?;
            // A replica that the controller does not know is gone by now: no caller looks at single replicas.
            let taken = refused(answer.error_code).map(|()| Vec::new());
            ControllerReply::AssignReplicasToDirs(taken)
        }
        ControllerRequest::CreateTopics(asked) => {
            let answer = to.call(OWN, &topics(asked)).await?;
            ControllerReply::CreateTopics(created(answer))
        }
        _ => return Err(NoController),
    })
}

fn refused(code: i16) -> Result<(), Refusal> {
    match ErrorCode::from(code) {
        ErrorCode::None => Ok(()),
        code => Err(Refusal::Elsewhere {
            code,
            message: None,
        }),
    }
}

fn registration(asked: &Registration, cluster_id: &str) -> BrokerRegistrationRequestData {
    let broker = &asked.broker;
    let listeners = broker.endpoints.iter().map(|endpoint| {
        Listener::default()
            .with_name(endpoint.listener.clone().into())
            .with_host(endpoint.host.clone().into())
            .with_port(endpoint.port)
            .with_security_protocol(endpoint.security_protocol)
    });
    let features = broker.features.iter().map(|feature| {
        Feature::default()
            .with_name(feature.name.clone().into())
            .with_min_supported_version(feature.minimum)
            .with_max_supported_version(feature.maximum)
    });
    BrokerRegistrationRequestData::default()
        .with_broker_id(broker.id.0)
        .with_cluster_id(cluster_id.to_owned().into())
        .with_incarnation_id(broker.incarnation)
        .with_listeners(listeners.collect())
        .with_features(features.collect())
        .with_rack(broker.rack.clone().map(KafkaString::from))
        .with_log_dirs(broker.directories.clone())
        .with_previous_broker_epoch(asked.previous_epoch)
}

fn heartbeat(asked: &Heartbeat) -> BrokerHeartbeatRequestData {
    let (fence, stop) = match asked.wish {
        Wish::Serve => (false, false),
        Wish::Fence => (true, false),
        Wish::ShutDown => (false, true),
        Wish::ShutDownFenced => (true, true),
    };
    BrokerHeartbeatRequestData::default()
        .with_broker_id(asked.broker.0)
        .with_broker_epoch(asked.epoch)
        .with_current_metadata_offset(asked.metadata_offset.0)
        .with_want_fence(fence)
        .with_want_shut_down(stop)
        .with_offline_log_dirs(asked.offline_directories.clone())
        .with_cordoned_log_dirs(asked.cordoned_directories.clone())
}

fn health(answer: &BrokerHeartbeatResponseData) -> Result<Health, Refusal> {
    refused(answer.error_code)?;
    Ok(Health {
        is_caught_up: answer.is_caught_up,
        is_fenced: answer.is_fenced,
        // The controller keeps it.
        shutdown: None,
        should_shut_down: answer.should_shut_down,
        clock: controller_clock::find(&answer.unknown_tagged_fields),
    })
}

fn alter_partitions(asked: &request::AlterPartition) -> AlterPartitionRequestData {
    let mut topics: BTreeMap<Uuid, Vec<alter_partition_request::PartitionData>> = BTreeMap::new();
    for wanted in &asked.partitions {
        let (topic, index) = wanted.place;
        let isr = wanted.isr.iter().map(|(member, epoch)| {
            BrokerState::default()
                .with_broker_id(member.0)
                .with_broker_epoch(*epoch)
        });
        let partition = alter_partition_request::PartitionData::default()
            .with_partition_index(index.0)
            .with_leader_epoch(wanted.leader_epoch.0)
            .with_partition_epoch(wanted.partition_epoch)
            .with_new_isr_with_epochs(isr.collect())
            .with_leader_recovery_state(i8::from(wanted.recovering));
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(id, partitions)| {
        alter_partition_request::TopicData::default()
            .with_topic_id(id)
            .with_partitions(partitions)
    });
    AlterPartitionRequestData::default()
        .with_broker_id(asked.broker.0)
        .with_broker_epoch(asked.epoch)
        .with_topics(topics.collect())
}

/// Of a changed partition, the answer has what a leader needs; the rest is in the metadata.
fn altered(answer: AlterPartitionResponseData) -> Result<alter_partition::Reply, Refusal> {
    refused(answer.error_code)?;
    let one = |partition: alter_partition_response::PartitionData| {
        let code = ErrorCode::from(partition.error_code);
        if code != ErrorCode::None {
            return Err(alter_partition::Rejection::Elsewhere(code));
        }
        Ok(Partition {
            leader: (partition.leader_id >= 0).then_some(NodeId(partition.leader_id)),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            isr: partition.isr.into_iter().map(NodeId).collect(),
            recovering: partition.leader_recovery_state != 0,
            partition_epoch: partition.partition_epoch,
            replicas: Vec::new(),
            directories: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            eligible_leaders: Vec::new(),
            last_known_eligible_leaders: Vec::new(),
        })
    };
    let topics = answer.topics.into_iter().flat_map(|topic| {
        let id = topic.topic_id;
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| {
            let place = (id, PartitionIndex(partition.partition_index));
            (place, one(partition))
        })
    });
    Ok(topics.collect())
}

fn directories(asked: &request::AssignReplicasToDirs) -> AssignReplicasToDirsRequestData {
    type Topics = BTreeMap<Uuid, Vec<assign_replicas_to_dirs_request::PartitionData>>;
    let mut directories: BTreeMap<Uuid, Topics> = BTreeMap::new();
    for ((topic, index), directory) in &asked.located {
        let partition =
            assign_replicas_to_dirs_request::PartitionData::default().with_partition_index(index.0);
        let topics = directories.entry(*directory).or_default();
        topics.entry(*topic).or_default().push(partition);
    }
    let topics = |topics: Topics| {
        let topics = topics.into_iter().map(|(id, partitions)| {
            assign_replicas_to_dirs_request::TopicData::default()
                .with_topic_id(id)
                .with_partitions(partitions)
        });
        topics.collect()
    };
    let directories = directories.into_iter().map(|(id, of_directory)| {
        assign_replicas_to_dirs_request::DirectoryData::default()
            .with_id(id)
            .with_topics(topics(of_directory))
    });
    AssignReplicasToDirsRequestData::default()
        .with_broker_id(asked.broker.0)
        .with_broker_epoch(asked.epoch)
        .with_directories(directories.collect())
}

/// The controller draws the ids of the topics.
fn topics(asked: request::CreateTopics) -> CreateTopicsRequestData {
    let one = |topic: NewTopic| {
        let assignments = topic.assignments.into_iter().map(|(index, replicas)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index.0)
                .with_broker_ids(replicas.into_iter().map(|replica| replica.0).collect())
        });
        let configs = topic.configs.into_iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(name.into())
                .with_value(value.map(KafkaString::from))
        });
        CreatableTopic::default()
            .with_name(topic.name.into())
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_assignments(assignments.collect())
            .with_configs(configs.collect())
    };
    CreateTopicsRequestData::default()
        .with_topics(asked.topics.into_iter().map(one).collect())
        .with_validate_only(asked.validate_only)
        .with_timeout_ms(CREATED_WITHIN_MS)
}

/// Of the configs, the answer has what a client is shown; no caller needs them.
fn created(answer: CreateTopicsResponseData) -> create_topics::Reply {
    let topics = answer.topics.into_iter().map(|topic| {
        let created = match ErrorCode::from(topic.error_code) {
            ErrorCode::None => Ok(CreatedTopic {
                id: topic.topic_id,
                partitions: usize::try_from(topic.num_partitions).unwrap_or(0),
                replication_factor: usize::try_from(topic.replication_factor).unwrap_or(0),
                configs: Vec::new(),
            }),
            code => Err(Refusal::Elsewhere {
                code,
                message: topic
                    .error_message
                    .map(|message| message.as_str().to_owned()),
            }),
        };
        (topic.name.as_str().to_owned(), created)
    });
    topics.collect()
}
