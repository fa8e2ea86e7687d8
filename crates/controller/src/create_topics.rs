//! CreateTopics.

use std::collections::BTreeMap;

use ottla_metadata::effective::{self, EffectiveConfig};
use ottla_metadata::{ConfigResource, MetadataImage};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{MetadataRecord, TopicRecord};

use crate::config_refusal::ConfigRefusal;
use crate::configs::{self, Change, MIN_IN_SYNC};
use crate::placement::{self, InvalidReplicationFactor, Replicas};
use crate::refusal::MAX_PARTITIONS_PER_REQUEST;
use crate::topic_names::InvalidTopicName;
use crate::{Decision, Refusal, View, assignments, topic_names};

/// The number of replicas from which a topic gets [`SAFE_MIN_IN_SYNC`].
const REPLICATED: usize = 3;
/// The `min.insync.replicas` with which no acknowledged record is on one replica only.
const SAFE_MIN_IN_SYNC: &str = "2";

/// One topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// The number of partitions, -1 for the default.
    pub partitions: i32,
    /// The number of replicas, -1 for the default.
    pub replication_factor: i16,
    /// Replicas by partition, if the request assigns them; then both numbers must be -1.
    pub assignments: Vec<(PartitionIndex, Replicas)>,
    /// `None` as a value is refused.
    pub configs: Vec<(String, Option<String>)>,
    /// The id that it gets: random, made by the caller.
    pub id: Uuid,
}

/// A topic that was created, or would have been.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedTopic {
    pub id: Uuid,
    pub partitions: usize,
    /// Its replicas.
    pub replication_factor: usize,
    pub configs: Vec<EffectiveConfig>,
}

/// The reply for each name, in the order in which the request names them first.
pub type Reply = Vec<(String, Result<CreatedTopic, Refusal>)>;

/// Decides CreateTopics; each topic is created or refused by itself. A name that the request has more than once is not
/// created, and gets one error.
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
            Some(_) => Err(Refusal::DuplicateTopic(topic.name.clone())),
            // The first of the same name was answered.
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
    Decision::new(records, reply)
}

fn create(
    view: View<'_>,
    topic: &NewTopic,
    partitions_left: usize,
) -> Result<(CreatedTopic, Vec<MetadataRecord>), Refusal> {
    if topic.name == topic_names::CLUSTER_METADATA {
        return Err(Refusal::InternalTopic(topic.name.clone()));
    }
    topic_names::check(&topic.name)?;
    check_is_new(view.image, &topic.name)?;
    let changes = config_changes(topic)?;
    let resource = ConfigResource::topic(topic.name.clone());
    let mut config_records = configs::set(view, &resource, Some(topic.id), &changes)?;
    let assignments = replicas(view, topic, partitions_left)?;
    let own = topic.configs.iter();
    let mut own: BTreeMap<String, String> = own
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    if needs_min_in_sync(view, topic, &assignments) {
        let change = [(
            MIN_IN_SYNC.to_owned(),
            Change::Set(SAFE_MIN_IN_SYNC.to_owned()),
        )];
        config_records.extend(configs::set(view, &resource, Some(topic.id), &change)?);
        own.insert(MIN_IN_SYNC.to_owned(), SAFE_MIN_IN_SYNC.to_owned());
    }

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
        let partition = assignments::new_partition(view.image, PartitionIndex(index), replicas)?;
        records.push(partition.to_record(topic.id, PartitionIndex(index)).into());
    }
    let created = CreatedTopic {
        id: topic.id,
        partitions: assignments.len(),
        replication_factor: assignments.first().map_or(0, Vec::len),
        configs: effective::topic_with(view.image, &view.settings.statics, &own),
    };
    Ok((created, records))
}

/// Whether a new topic gets a `min.insync.replicas` of its own: it has enough replicas, and neither the request, nor the
/// file, nor the config of all brokers has a value. With Kafka's default of 1, the last replica that is in sync
/// acknowledges alone.
fn needs_min_in_sync(view: View<'_>, topic: &NewTopic, assignments: &[Replicas]) -> bool {
    let is_replicated = assignments
        .iter()
        .all(|replicas| replicas.len() >= REPLICATED);
    let in_request = topic.configs.iter().any(|(name, _)| name == MIN_IN_SYNC);
    let in_file = view.settings.statics.get(MIN_IN_SYNC).is_some();
    // With eligible leader replicas all brokers must have one value, and the first leader writes Kafka's default (see
    // `bootstrap`).
    let of_cluster = view.image.config(&ConfigResource::cluster(), MIN_IN_SYNC);
    let in_cluster = of_cluster.is_some_and(|value| value.trim() != "1");
    is_replicated && !in_request && !in_file && !in_cluster
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
        Some(existing) => {
            let (name, existing) = (name.to_owned(), existing.clone());
            Err(InvalidTopicName::Collides { name, existing }.into())
        }
        None => Ok(()),
    }
}

fn config_changes(topic: &NewTopic) -> Result<Vec<(String, Change)>, ConfigRefusal> {
    let null = topic.configs.iter().filter(|(_, value)| value.is_none());
    let null: Vec<String> = null.map(|(name, _)| name.clone()).collect();
    if !null.is_empty() {
        return Err(ConfigRefusal::Null(null));
    }
    let set = |(name, value): &(String, Option<String>)| {
        (name.clone(), Change::Set(value.clone().unwrap_or_default()))
    };
    Ok(topic.configs.iter().map(set).collect())
}

/// The replicas of each partition.
fn replicas(
    view: View<'_>,
    topic: &NewTopic,
    partitions_left: usize,
) -> Result<Vec<Replicas>, Refusal> {
    if !topic.assignments.is_empty() {
        if topic.replication_factor != -1 {
            return Err(Refusal::AssignmentAndReplicationFactor);
        }
        if topic.partitions != -1 {
            return Err(Refusal::AssignmentAndPartitions);
        }
        return Ok(assignments::check(view.image, &topic.assignments)?);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(InvalidReplicationFactor::NotPositive.into());
    }
    if topic.partitions < -1 || topic.partitions == 0 {
        return Err(Refusal::PartitionsNotPositive);
    }
    let or_default = |value: i32, default: i32| if value == -1 { default } else { value };
    let partitions = or_default(topic.partitions, view.settings.default_partitions);
    let partitions = usize::try_from(partitions).unwrap_or(0);
    if partitions > partitions_left {
        return Err(Refusal::TooManyPartitions);
    }
    let replication_factor = if topic.replication_factor == -1 {
        view.settings.default_replication_factor
    } else {
        topic.replication_factor
    };
    let start = view.image.topics.len();
    let placed = placement::place(view.image, partitions, replication_factor, start);
    Ok(placed?)
}
