//! CreateTopics.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::effective::{self, EffectiveConfig};
use ottla_metadata::{ConfigResource, MetadataImage, Partition};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{MetadataRecord, TopicRecord};

use crate::configs::{self, Change};
use crate::placement::{self, Replicas};
use crate::{Decision, Refusal, View, topic_names};

/// The most partitions that one request may create: they must fit one proposal.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// One topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the default.
    pub partitions: i32,
    /// How many replicas; -1 for the default.
    pub replication_factor: i16,
    /// Replicas by partition, if chosen by hand; then both numbers must be -1.
    pub assignments: Vec<(PartitionIndex, Replicas)>,
    /// Its configs; a null value is refused.
    pub configs: Vec<(String, Option<String>)>,
    /// Its id, should it be created: random, chosen by the caller.
    pub id: Uuid,
}

/// A topic that was created, or would have been.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: usize,
    /// Its replicas.
    pub replication_factor: usize,
    /// Its configs.
    pub configs: Vec<EffectiveConfig>,
}

/// The reply for each name, in the order in which the request names them first.
pub type Reply = Vec<(String, Result<CreatedTopic, Refusal>)>;

/// Decides a CreateTopics request; each topic is created or refused by itself. A name that stands in the request
/// more than once is not created, and is answered once.
pub fn decide(view: View<'_>, topics: &[NewTopic], validate_only: bool) -> Decision<Reply> {
    let mut records = Vec::new();
    let mut reply = Vec::new();
    let mut left = MAX_PARTITIONS_PER_REQUEST;
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    for topic in topics {
        let result = match times.remove(topic.name.as_str()) {
            Some(1) => create(view, topic, left),
            Some(_) => Err(Refusal::InvalidRequest(format!(
                "duplicate topic name '{}'",
                topic.name
            ))),
            // The name has been answered.
            None => continue,
        };
        let result = result.map(|(created, its_records)| {
            left = left.saturating_sub(created.partitions);
            records.extend(its_records);
            created
        });
        reply.push((topic.name.clone(), result));
    }
    if validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn create(
    view: View<'_>,
    topic: &NewTopic,
    partitions_left: usize,
) -> Result<(CreatedTopic, Vec<MetadataRecord>), Refusal> {
    if topic.name == topic_names::CLUSTER_METADATA {
        return Err(Refusal::InvalidRequest(format!(
            "creation of internal topic {} is prohibited",
            topic.name
        )));
    }
    topic_names::check(&topic.name)?;
    check_is_new(view.image, &topic.name)?;
    let changes = config_changes(topic)?;
    let resource = ConfigResource::topic(topic.name.clone());
    let config_records = configs::set(view, &resource, Some(topic.id), &changes)?;
    let assignments = assignments(view, topic, partitions_left)?;

    let mut records = vec![
        TopicRecord {
            name: topic.name.clone(),
            topic_id: topic.id,
            ..TopicRecord::default()
        }
        .into(),
    ];
    records.extend(config_records);
    for (index, replicas) in (0..).zip(&assignments) {
        let partition = new_partition(view.image, PartitionIndex(index), replicas)?;
        records.push(partition.to_record(topic.id, PartitionIndex(index)).into());
    }
    let own: BTreeMap<String, String> = topic
        .configs
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    let created = CreatedTopic {
        id: topic.id,
        partitions: assignments.len(),
        replication_factor: assignments.first().map_or(0, Vec::len),
        configs: effective::topic_with(view.image, &view.settings.statics, &own),
    };
    Ok((created, records))
}

fn check_is_new(image: &MetadataImage, name: &str) -> Result<(), Refusal> {
    if image.topic_ids.contains_key(name) {
        return Err(Refusal::TopicExists(name.to_owned()));
    }
    if !topic_names::has_collision_characters(name) {
        return Ok(());
    }
    match image
        .topic_ids
        .keys()
        .find(|existing| topic_names::collide(existing, name))
    {
        Some(existing) => Err(Refusal::InvalidTopicName(format!(
            "topic '{name}' collides with existing topic: {existing}"
        ))),
        None => Ok(()),
    }
}

fn config_changes(topic: &NewTopic) -> Result<Vec<(String, Change)>, Refusal> {
    let null: Vec<&str> = topic
        .configs
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !null.is_empty() {
        return Err(Refusal::InvalidConfig(format!(
            "null value not supported for topic configs: {}",
            null.join(",")
        )));
    }
    let set = |(name, value): &(String, Option<String>)| {
        (name.clone(), Change::Set(value.clone().unwrap_or_default()))
    };
    Ok(topic.configs.iter().map(set).collect())
}

fn assignments(
    view: View<'_>,
    topic: &NewTopic,
    partitions_left: usize,
) -> Result<Vec<Replicas>, Refusal> {
    if !topic.assignments.is_empty() {
        return manual_assignments(view.image, topic);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(Refusal::InvalidReplicationFactor(
            "replication factor must be larger than 0, or -1 to use the default value".to_owned(),
        ));
    }
    if topic.partitions < -1 || topic.partitions == 0 {
        return Err(Refusal::InvalidPartitions(
            "number of partitions was set to an invalid non-positive value".to_owned(),
        ));
    }
    let or_default = |value: i32, default: i32| if value == -1 { default } else { value };
    let partitions = or_default(topic.partitions, view.settings.default_partitions);
    let partitions = usize::try_from(partitions).unwrap_or(0);
    if partitions > partitions_left {
        return Err(Refusal::Policy(format!(
            "excessively large number of partitions per request: at most {MAX_PARTITIONS_PER_REQUEST} can be created"
        )));
    }
    let replication_factor = if topic.replication_factor == -1 {
        view.settings.default_replication_factor
    } else {
        topic.replication_factor
    };
    placement::place(
        view.image,
        partitions,
        replication_factor,
        view.image.topics.len(),
    )
}

fn manual_assignments(image: &MetadataImage, topic: &NewTopic) -> Result<Vec<Replicas>, Refusal> {
    let unless_default = |what: &str| {
        Refusal::InvalidRequest(format!(
            "a manual partition assignment was specified, but {what} was not set to -1"
        ))
    };
    if topic.replication_factor != -1 {
        return Err(unless_default("replication factor"));
    }
    if topic.partitions != -1 {
        return Err(unless_default("numPartitions"));
    }
    let mut by_partition = BTreeMap::new();
    let mut replication_factor = None;
    for (index, replicas) in &topic.assignments {
        check_assignment(image, replicas, replication_factor)?;
        replication_factor = Some(replicas.len());
        if by_partition.insert(*index, replicas.clone()).is_some() {
            return Err(Refusal::InvalidAssignment(format!(
                "found multiple manual partition assignments for partition {index}"
            )));
        }
    }
    let consecutive = by_partition
        .keys()
        .copied()
        .eq((0..).take(by_partition.len()).map(PartitionIndex));
    if !consecutive {
        return Err(Refusal::InvalidAssignment(
            "partitions should be a consecutive 0-based integer sequence".to_owned(),
        ));
    }
    Ok(by_partition.into_values().collect())
}

/// Refuses an assignment made by hand that cannot be: empty, twice the same broker, an unknown one, or another
/// number of replicas than the topic has.
pub(crate) fn check_assignment(
    image: &MetadataImage,
    replicas: &[NodeId],
    replication_factor: Option<usize>,
) -> Result<(), Refusal> {
    let refuse = |why: String| {
        Err(Refusal::InvalidAssignment(format!(
            "the manual partition assignment {why}"
        )))
    };
    if replicas.is_empty() {
        return refuse("includes an empty replica list".to_owned());
    }
    let mut seen = BTreeSet::new();
    for broker in replicas {
        if !image.brokers.contains_key(broker) {
            return refuse(format!(
                "includes broker {broker}, but no such broker is registered"
            ));
        }
        if !seen.insert(broker) {
            return refuse(format!("includes the broker {broker} more than once"));
        }
    }
    match replication_factor {
        Some(expected) if expected != replicas.len() => refuse(format!(
            "includes a partition with {} replica(s), but this is not consistent with previous partitions, which \
             have {expected} replica(s)",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

/// A partition on these replicas, led by the first of them that may lead.
pub(crate) fn new_partition(
    image: &MetadataImage,
    index: PartitionIndex,
    replicas: &[NodeId],
) -> Result<Partition, Refusal> {
    let replicas_in_sync = replicas.iter().filter(|id| image.is_active(**id));
    let isr: Vec<NodeId> = replicas_in_sync.copied().collect();
    let Some(leader) = isr.first().copied() else {
        return Err(Refusal::InvalidAssignment(format!(
            "all brokers specified in the manual partition assignment for partition {index} are fenced or in \
             controlled shutdown"
        )));
    };
    Ok(Partition {
        replicas: replicas.to_vec(),
        directories: placement::directories(image, replicas),
        isr,
        removing: Vec::new(),
        adding: Vec::new(),
        leader: Some(leader),
        recovering: false,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        eligible_leaders: Vec::new(),
        last_known_eligible_leaders: Vec::new(),
    })
}
