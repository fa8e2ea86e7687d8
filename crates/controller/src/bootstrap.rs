//! The first records of a new cluster.
//!
//! What `kafka-storage format --standalone` puts into `bootstrap.checkpoint`, and what the first leader writes
//! from it: the feature levels, inside a metadata transaction where the version allows one.

use ottla_metadata::{MetadataVersion, versions};
use ottla_protocol::messages::metadata::{
    BeginTransactionRecord, EndTransactionRecord, FeatureLevelRecord, MetadataRecord,
};

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
