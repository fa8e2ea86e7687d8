//! The first records of a new cluster.
//!
//! What `kafka-storage format --standalone` puts into `bootstrap.checkpoint`, and what the first leader writes
//! from it: the feature levels, inside a metadata transaction where the version allows one.

use ottla_metadata::{ConfigResource, MetadataImage, MetadataVersion, versions};
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, ConfigRecord, EndTransactionRecord, FeatureLevelRecord, MetadataRecord,
};

const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Features besides `metadata.version` that a new cluster starts with, and their levels: what works here.
pub const FEATURES: &[(&str, i16)] = &[];

/// The records of `bootstrap.checkpoint`.
pub fn checkpoint(version: MetadataVersion) -> Vec<MetadataRecord> {
    let level = |name: &str, feature_level| {
        FeatureLevelRecord {
            name: name.to_owned(),
            feature_level,
            ..FeatureLevelRecord::default()
        }
        .into()
    };
    let mut records = vec![level(versions::FEATURE, version.0)];
    records.extend(
        FEATURES
            .iter()
            .map(|(name, feature_level)| level(name, *feature_level)),
    );
    records
}

/// The cluster's `min.insync.replicas`, which eligible leader replicas need: the first leader writes it, as Kafka's does.
///
/// `configured` is the value of the configuration file. None where the feature is off, or the cluster has a value.
pub fn min_insync_replicas(image: &MetadataImage, configured: &str) -> Option<MetadataRecord> {
    let level = image.features.get(ELIGIBLE_LEADER_REPLICAS).copied();
    let cluster = ConfigResource::cluster();
    if level.unwrap_or(0) == 0 || image.config(&cluster, MIN_INSYNC_REPLICAS).is_some() {
        return None;
    }
    let record = ConfigRecord {
        resource_type: cluster.kind.code(),
        resource_name: cluster.name,
        name: MIN_INSYNC_REPLICAS.to_owned(),
        value: Some(configured.to_owned()),
        ..ConfigRecord::default()
    };
    Some(record.into())
}

/// The records that the first leader writes from those of the checkpoint.
pub fn activation(
    checkpoint: Vec<MetadataRecord>,
    version: MetadataVersion,
) -> Vec<MetadataRecord> {
    if !version.has_transactions() {
        return checkpoint;
    }
    let begin = BeginTransactionRecord {
        name: Some("Bootstrap records".to_owned()),
        ..BeginTransactionRecord::default()
    };
    let mut records = vec![MetadataRecord::from(begin)];
    records.extend(checkpoint);
    records.push(EndTransactionRecord::default().into());
    records
}
