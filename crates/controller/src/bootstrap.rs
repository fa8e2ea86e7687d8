//! The first records of a new cluster.
//!
//! `kafka-storage format --standalone` puts feature levels into `bootstrap.checkpoint`. The first leader writes them to
//! the log, with the config that eligible leader replicas need, in a metadata transaction if the version has them.

use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{ConfigResource, MetadataImage, MetadataVersion, ottla_configs, versions};
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, EndTransactionRecord, FeatureLevelRecord, MetadataRecord,
};

use crate::configs::MIN_IN_SYNC;

/// The features besides `metadata.version` that a new cluster starts with, and their levels.
pub const FEATURES: &[(&str, i16)] = &[(versions::ELIGIBLE_LEADER_REPLICAS, 1)];

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
/// `None` if the feature is off, or the cluster has a value.
pub fn min_insync_replicas(
    image: &MetadataImage,
    statics: &StaticConfigs,
) -> Option<MetadataRecord> {
    let is_needed = image.has_eligible_leader_replicas();
    is_needed.then(|| in_sync_of_cluster(image, statics))?
}

/// The same without regard to the feature, for the request that switches it on. The value is that of the file.
pub(crate) fn in_sync_of_cluster(
    image: &MetadataImage,
    statics: &StaticConfigs,
) -> Option<MetadataRecord> {
    let cluster = ConfigResource::cluster();
    if image.config(&cluster, MIN_IN_SYNC).is_some() {
        return None;
    }
    let value = statics.get(MIN_IN_SYNC).unwrap_or("1").trim();
    let value = Some(value.to_owned());
    Some(ottla_configs::record(&cluster, MIN_IN_SYNC.to_owned(), value).into())
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

#[cfg(test)]
mod tests {
    use super::{activation, checkpoint, min_insync_replicas};
    use ottla_metadata::effective::StaticConfigs;
    use ottla_metadata::{ConfigResource, Loader, MetadataImage, MetadataVersion};

    #[test]
    fn a_new_cluster_has_eligible_leaders_and_one_number_of_in_sync_replicas() {
        let version = MetadataVersion::OF_NEW_CLUSTERS;
        let mut loader = Loader::new(MetadataImage::default());
        let key = "min.insync.replicas";
        let two = StaticConfigs {
            values: [(key.to_owned(), " 2 ".to_owned())].into(),
            ..StaticConfigs::default()
        };
        assert_eq!(min_insync_replicas(loader.image(), &two), None);
        loader.load(&activation(checkpoint(version), version));
        assert!(loader.image().has_eligible_leader_replicas());
        let record = min_insync_replicas(loader.image(), &two).expect("the cluster has none yet");
        loader.load(&[record]);
        let cluster = ConfigResource::cluster();
        let value = loader.image().config(&cluster, key);
        assert_eq!(value, Some("2"));
        let unset = StaticConfigs::default();
        assert_eq!(min_insync_replicas(loader.image(), &unset), None);
    }
}
