//! The requests to the active controller, as a closed list: they can be logged, sent and replayed.
//!
//! [`Operation`] ties each request to the type of its reply. Today a broker passes requests by a call; in a cluster it
//! sends them.

use std::collections::BTreeMap;

use ottla_metadata::{ConfigResource, FeatureRange};
use ottla_protocol::ids::{NodeId, Offset};

use crate::broker_heartbeat::{Health, Heartbeat};
use crate::brokers::Registration;
use crate::configs::Change;
use crate::create_partitions::Growth;
use crate::create_topics::NewTopic;
use crate::delete_topics::TopicReference;
use crate::directories::Located;
use crate::elections::{self, Election};
use crate::features::{Local, Update};
use crate::reassignments::ReplicationFactor;
use crate::{
    Decision, Refusal, View, alter_configs, alter_partition, broker_heartbeat, brokers,
    create_partitions, create_topics, delete_topics, directories, due_elections, features,
    producer_ids, reassignments,
};

/// A request, with the type of its reply.
pub trait Operation: Into<ControllerRequest> {
    type Reply: Send + 'static;

    /// Takes the reply out of the controller's enum.
    ///
    /// # Panics
    /// If it is the reply to another request.
    fn reply(reply: ControllerReply) -> Self::Reply;
}

/// Names each request with its reply, once.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident -> $reply:ty;)+) => {
        /// Kafka's requests to the active controller.
        #[derive(Debug, Clone, PartialEq)]
        pub enum ControllerRequest {
            $($(#[$doc])* $name($name),)+
        }

        /// The reply to a [`ControllerRequest`] of the same name.
        #[derive(Debug, Clone, PartialEq)]
        pub enum ControllerReply {
            $($(#[$doc])* $name($reply),)+
        }

        $(
            impl From<$name> for ControllerRequest {
                fn from(request: $name) -> Self {
                    Self::$name(request)
                }
            }

            impl Operation for $name {
                type Reply = $reply;

                fn reply(reply: ControllerReply) -> $reply {
                    match reply {
                        ControllerReply::$name(reply) => reply,
                        other => panic!("a reply to {} is {other:?}", stringify!($name)),
                    }
                }
            }
        )+

        impl ControllerRequest {
            /// Decides the request. `next` is the offset that its first record will have.
            pub fn decide(&self, view: View<'_>, next: Offset) -> Decision<ControllerReply> {
                match self {
                    $(Self::$name(request) => {
                        request.decide(view, next).replying(ControllerReply::$name)
                    })+
                }
            }
        }
    };
}

operations! {
    /// BrokerRegistration: the epoch of the broker.
    RegisterBroker -> Result<i64, Refusal>;
    BrokerHeartbeat -> Result<Health, Refusal>;
    /// The controller's own: a session is over, or its broker is known to be dead.
    FenceBroker -> ();
    UnregisterBroker -> Result<(), Refusal>;
    CreateTopics -> create_topics::Reply;
    DeleteTopics -> delete_topics::Reply;
    CreatePartitions -> create_partitions::Reply;
    AlterConfigs -> alter_configs::Reply;
    IncrementalAlterConfigs -> alter_configs::Reply;
    ElectLeaders -> elections::Reply;
    /// The controller's own: some time has passed.
    ElectDueLeaders -> due_elections::MayBeMore;
    AlterPartition -> Result<alter_partition::Reply, Refusal>;
    AlterPartitionReassignments -> reassignments::Reply;
    UpdateFeatures -> Result<(), Refusal>;
    AssignReplicasToDirs -> Result<directories::Reply, Refusal>;
    AllocateProducerIds -> Result<producer_ids::Block, Refusal>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct RegisterBroker(pub Registration);

impl RegisterBroker {
    fn decide(&self, view: View<'_>, next: Offset) -> Decision<Result<i64, Refusal>> {
        brokers::register(view, &self.0, next)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct BrokerHeartbeat(pub Heartbeat);

impl BrokerHeartbeat {
    fn decide(&self, view: View<'_>, next: Offset) -> Decision<Result<Health, Refusal>> {
        broker_heartbeat::decide(view, &self.0, next)
    }
}

/// Fences a broker, unless it has registered anew meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct FenceBroker {
    pub broker: NodeId,
    /// The epoch of its registration.
    pub epoch: i64,
}

impl FenceBroker {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<()> {
        brokers::fence(view, (self.broker, self.epoch))
    }
}

/// Forgets a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct UnregisterBroker(pub NodeId);

impl UnregisterBroker {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<Result<(), Refusal>> {
        brokers::unregister(view, self.0)
    }
}

/// Creates topics, each by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    /// Whether the topics are only checked.
    pub validate_only: bool,
}

impl CreateTopics {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<create_topics::Reply> {
        create_topics::decide(view, &self.topics, self.validate_only)
    }
}

/// Deletes topics, each by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteTopics(pub Vec<TopicReference>);

impl DeleteTopics {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<delete_topics::Reply> {
        delete_topics::decide(view, &self.0)
    }
}

/// Adds partitions to topics, each by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatePartitions {
    /// The topics, with their new numbers of partitions.
    pub growths: Vec<Growth>,
    /// Whether the change is only checked.
    pub validate_only: bool,
}

impl CreatePartitions {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<create_partitions::Reply> {
        create_partitions::decide(view, &self.growths, self.validate_only)
    }
}

/// Replaces all configs of resources, each by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterConfigs {
    /// The resources, each with all configs that it will have.
    pub resources: Vec<(ConfigResource, BTreeMap<String, String>)>,
    /// Whether the change is only checked.
    pub validate_only: bool,
}

impl AlterConfigs {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<alter_configs::Reply> {
        alter_configs::decide_replacing(view, &self.resources, self.validate_only)
    }
}

/// Changes some configs of resources, each resource by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct IncrementalAlterConfigs {
    /// The resources, and the changes of each.
    pub resources: Vec<(ConfigResource, Vec<(String, Change)>)>,
    /// Whether the change is only checked.
    pub validate_only: bool,
}

impl IncrementalAlterConfigs {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<alter_configs::Reply> {
        alter_configs::decide_incremental(view, &self.resources, self.validate_only)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ElectLeaders {
    /// The kind of election.
    pub election: Election,
    /// The partitions; `None` means all that need an election.
    pub partitions: Option<Vec<elections::Named>>,
}

impl ElectLeaders {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<elections::Reply> {
        elections::decide(view, self.election, self.partitions.as_deref())
    }
}

/// Elects the leaders that are due, by elections of this kind.
#[derive(Debug, Clone, PartialEq)]
pub struct ElectDueLeaders(pub Election);

impl ElectDueLeaders {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<due_elections::MayBeMore> {
        due_elections::decide(view, self.0)
    }
}

/// Changes the ISRs of partitions, each by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterPartition {
    /// The leader that asks.
    pub broker: NodeId,
    /// The epoch of its registration.
    pub epoch: i64,
    pub partitions: Vec<alter_partition::Wanted>,
}

impl AlterPartition {
    fn decide(
        &self,
        view: View<'_>,
        _: Offset,
    ) -> Decision<Result<alter_partition::Reply, Refusal>> {
        alter_partition::decide(view, (self.broker, self.epoch), &self.partitions)
    }
}

/// Assigns partitions to other brokers, or cancels that, each by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterPartitionReassignments {
    pub partitions: Vec<reassignments::Wanted>,
    pub replication_factor: ReplicationFactor,
}

impl AlterPartitionReassignments {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<reassignments::Reply> {
        reassignments::decide(view, &self.partitions, self.replication_factor)
    }
}

/// Changes the levels of features, all of them or none.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateFeatures {
    /// The controller's node.
    pub node: NodeId,
    /// The features that its release supports.
    pub supported: Vec<FeatureRange>,
    /// The level of `kraft.version`, which is in the quorum's records and not in the metadata.
    pub kraft_version: i16,
    /// The changes.
    pub updates: Vec<Update>,
    /// Whether the change is only checked.
    pub validate_only: bool,
}

impl UpdateFeatures {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<Result<(), Refusal>> {
        let local = Local {
            node: self.node,
            supported: &self.supported,
            kraft_version: self.kraft_version,
        };
        features::decide(view, local, &self.updates, self.validate_only)
    }
}

/// Records the log directories of a broker's replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignReplicasToDirs {
    pub broker: NodeId,
    /// The epoch of its registration.
    pub epoch: i64,
    /// The directory of each of its replicas.
    pub located: Vec<Located>,
}

impl AssignReplicasToDirs {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<Result<directories::Reply, Refusal>> {
        directories::decide(view, (self.broker, self.epoch), &self.located)
    }
}

/// Gives a block of producer ids to a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct AllocateProducerIds {
    pub broker: NodeId,
    /// The epoch of its registration.
    pub epoch: i64,
}

impl AllocateProducerIds {
    fn decide(&self, view: View<'_>, _: Offset) -> Decision<Result<producer_ids::Block, Refusal>> {
        producer_ids::decide(view, self.broker, self.epoch)
    }
}
