//! Records and replies as lines of a story.

use std::fmt::Debug;

use ottla_controller::alter_partition::Rejection;
use ottla_controller::broker_heartbeat::Health;
use ottla_controller::create_topics;
use ottla_controller::delete_topics::Named;
use ottla_controller::directories::{self, Located};
use ottla_controller::{Refusal, UncleanElection};
use ottla_metadata::Partition;
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, PartitionChangeRecord,
};

/// `PartitionChangeRecord.leader` when the leader does not change.
const NO_LEADER_CHANGE: i32 = -2;

/// How a reply names a topic.
pub fn topic(named: &Named) -> String {
    let words = [named.name.clone(), named.id.map(id)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn id(id: Uuid) -> String {
    format!("id-{}", id.least_significant_bits())
}

/// One record, with what differs from its defaults.
pub fn record(record: &MetadataRecord) -> String {
    let text = match record {
        MetadataRecord::Topic(topic) => format!("Topic {} {}", topic.name, id(topic.topic_id)),
        MetadataRecord::Partition(partition) => format!(
            "Partition {}-{} replicas {:?} isr {:?} leader {}",
            id(partition.topic_id),
            partition.partition_id,
            partition.replicas,
            partition.isr,
            partition.leader
        ),
        MetadataRecord::PartitionChange(change) => partition_change(change),
        MetadataRecord::RemoveTopic(topic) => format!("RemoveTopic {}", id(topic.topic_id)),
        MetadataRecord::Config(config) => format!(
            "Config {}:{} {} = {:?}",
            config.resource_type, config.resource_name, config.name, config.value
        ),
        MetadataRecord::RegisterBroker(broker) => {
            format!(
                "RegisterBroker {} epoch {} fenced {}",
                broker.broker_id, broker.broker_epoch, broker.fenced
            )
        }
        MetadataRecord::BrokerRegistrationChange(change) => registration_change(change),
        MetadataRecord::UnregisterBroker(broker) => {
            format!(
                "UnregisterBroker {} epoch {}",
                broker.broker_id, broker.broker_epoch
            )
        }
        MetadataRecord::FeatureLevel(feature) => {
            format!("FeatureLevel {} {}", feature.name, feature.feature_level)
        }
        MetadataRecord::ClearElr(clear) => format!("ClearElr '{}'", clear.topic_name),
        MetadataRecord::ProducerIds(ids) => {
            format!(
                "ProducerIds broker {} next {}",
                ids.broker_id, ids.next_producer_id
            )
        }
        other => format!("{other:?}"),
    };
    format!("{text}\n")
}

/// What a change of a partition names.
fn partition_change(change: &PartitionChangeRecord) -> String {
    let place = format!(
        "PartitionChange {}-{}",
        id(change.topic_id),
        change.partition_id
    );
    let has_leader = change.leader != NO_LEADER_CHANGE;
    let leader = has_leader.then(|| format!("leader {}", change.leader));
    let list = |name: &str, list: &Option<Vec<i32>>| {
        let list = list.as_ref()?;
        Some(format!("{name} {list:?}"))
    };
    let recovery = match change.leader_recovery_state {
        0 => Some("recovered".to_owned()),
        1 => Some("recovering".to_owned()),
        _ => None,
    };
    let words = [
        Some(place),
        leader,
        list("replicas", &change.replicas),
        list("removing", &change.removing_replicas),
        list("adding", &change.adding_replicas),
        list("isr", &change.isr),
        list("eligible", &change.eligible_leader_replicas),
        list("last-known", &change.last_known_elr),
        change.directories.as_deref().map(directories),
        recovery,
    ];
    words
        .into_iter()
        .flatten()
        .collect::<Vec<String>>()
        .join(" ")
}

fn registration_change(change: &BrokerRegistrationChangeRecord) -> String {
    let fenced = match change.fenced {
        1 => Some("fenced".to_owned()),
        -1 => Some("unfenced".to_owned()),
        _ => None,
    };
    let stops = change.in_controlled_shutdown == 1;
    let has_directories = !change.log_dirs.is_empty();
    let cordoned = change.cordoned_log_dirs.as_deref();
    let words = [
        Some(format!("BrokerRegistrationChange {}", change.broker_id)),
        fenced,
        stops.then(|| "in controlled shutdown".to_owned()),
        has_directories.then(|| directories(&change.log_dirs)),
        cordoned.map(|ids| format!("cordoned {}", directories(ids))),
    ];
    words
        .into_iter()
        .flatten()
        .collect::<Vec<String>>()
        .join(" ")
}

fn directories(ids: &[Uuid]) -> String {
    let ids = ids.iter().map(|id| id.least_significant_bits());
    format!("directories {:?}", ids.collect::<Vec<u64>>())
}

/// An election that may lose records.
pub fn unclean(election: &UncleanElection) -> String {
    let old = election.old_leader.map(|leader| leader.0);
    format!(
        "unclean election {}-{}: {old:?} to {} epoch {} to {}: {:?}\n",
        election.topic,
        election.partition,
        election.new_leader,
        election.old_epoch,
        election.new_epoch,
        election.cause
    )
}

/// The answer to a heartbeat.
pub fn health(result: &Result<Health, Refusal>) -> String {
    let health = match result {
        Ok(health) => health,
        Err(refusal) => return refused("heartbeat", refusal),
    };
    let words = [
        (!health.is_caught_up).then_some("behind"),
        health.is_fenced.then_some("fenced"),
        health.shutdown.is_some().then_some("shutting down"),
        health.should_shut_down.then_some("may stop"),
    ];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let words = if words.is_empty() {
        "serves".to_owned()
    } else {
        words.join(", ")
    };
    format!("heartbeat: {words}\n")
}

/// The answer to AlterPartition.
pub fn altered(place: &str, result: &Result<Partition, Rejection>) -> String {
    match result {
        Ok(partition) => format!(
            "{place}: ok isr {:?} epoch {} partition epoch {}\n",
            numbers(&partition.isr),
            partition.leader_epoch,
            partition.partition_epoch
        ),
        Err(rejection) => format!("{place}: {:?} {rejection:?}\n", rejection.code()),
    }
}

/// The replicas whose directories were not recorded.
pub fn located(asked: &[Located], result: &Result<directories::Reply, Refusal>) -> String {
    let reply = match result {
        Ok(reply) => reply,
        Err(refusal) => return refused("locate", refusal),
    };
    let outcomes = asked.iter().zip(reply);
    let failed = outcomes.filter_map(|(((topic, index), _), outcome)| {
        let error = outcome.err()?;
        Some(format!("{}-{index}: {error:?}\n", id(*topic)))
    });
    failed.collect()
}

/// The state of a partition.
pub fn partition(name: &str, partition: &Partition) -> String {
    format!(
        "{name}: leader {:?} epoch {} isr {:?} eligible {:?} last-known {:?}{}\n",
        partition.leader.map(|leader| leader.0),
        partition.leader_epoch,
        numbers(&partition.isr),
        numbers(&partition.eligible_leaders),
        numbers(&partition.last_known_eligible_leaders),
        if partition.recovering {
            " recovering"
        } else {
            ""
        }
    )
}

fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

/// A reply about one thing.
pub fn outcome<T: Debug>(what: &str, result: &Result<T, Refusal>) -> String {
    match result {
        Ok(value) => format!("{what}: ok {value:?}\n"),
        Err(refusal) => refused(what, refusal),
    }
}

/// Replies about several things.
pub fn outcomes<'a, T: 'a>(
    results: impl Iterator<Item = (String, &'a Result<T, Refusal>)>,
) -> String {
    results
        .map(|(what, result)| match result {
            Ok(_) => format!("{what}: ok\n"),
            Err(refusal) => refused(&what, refusal),
        })
        .collect()
}

/// The reply of CreateTopics.
pub fn created(reply: &create_topics::Reply) -> String {
    reply
        .iter()
        .map(|(name, result)| match result {
            Ok(topic) => format!(
                "{name}: ok {} {} partition(s) {} replica(s)\n",
                id(topic.id),
                topic.partitions,
                topic.replication_factor
            ),
            Err(refusal) => refused(name, refusal),
        })
        .collect()
}

fn refused(what: &str, refusal: &Refusal) -> String {
    format!("{what}: {:?}: {refusal}\n", refusal.code())
}
