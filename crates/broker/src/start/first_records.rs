//! The first records of a new cluster.

use ottla_controller::bootstrap;
use ottla_log::files::disk::Disk;
use ottla_metadata::{
    ConfigResource, Loader, MetadataImage, MetadataVersion, ResourceKind, versions,
};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_quorum::{InspectedNode, check_version, read_bootstrap};

use super::refusals::DirectoryError;
use crate::config::BrokerConfig;

/// The first records of a cluster, which its log does not hold yet.
#[derive(Debug)]
pub(super) struct FirstRecords {
    records: Vec<MetadataRecord>,
    /// The `metadata.version` among them.
    version: MetadataVersion,
}

impl FirstRecords {
    /// As in Kafka, they come from the checkpoint that formatting wrote, else from `bootstrap.checkpoint`, else they
    /// are the default. `None` if the log holds them already. An unknown `metadata.version` is refused.
    pub(super) fn of(
        config: &BrokerConfig,
        inspected: &InspectedNode<Disk>,
    ) -> Result<Option<Self>, DirectoryError> {
        let image = inspected.image();
        if image.features.contains_key(versions::FEATURE) {
            return Ok(None);
        }
        let mut records = match inspected.first_records() {
            Some(records) => records.to_vec(),
            None => read_bootstrap(&Disk, &config.storage.metadata_log_dir)?
                .unwrap_or_else(|| bootstrap::checkpoint(MetadataVersion::OF_NEW_CLUSTERS)),
        };
        if inspected.begins_without_version()
            && let Some(served) = inspected.image_over_first_records()
        {
            records.retain(|record| holds(served, record));
        }
        let mut first = Loader::new(image.clone());
        first.load(&records);
        check_version(first.image())?;
        records.extend(bootstrap::min_insync_replicas(
            first.image(),
            &config.statics,
        ));
        Ok(Some(Self {
            records,
            version: first.image().metadata_version(),
        }))
    }

    /// What the first leader writes.
    pub(super) fn into_records(self) -> Vec<MetadataRecord> {
        bootstrap::activation(self.records, self.version)
    }
}

/// Whether `image` still has the value that one of the first records sets.
fn holds(image: &MetadataImage, record: &MetadataRecord) -> bool {
    match record {
        MetadataRecord::FeatureLevel(level) => {
            image.features.get(&level.name) == Some(&level.feature_level)
        }
        MetadataRecord::UserScramCredential(credential) => {
            let key = (credential.name.clone(), credential.mechanism);
            image.scram.get(&key) == Some(credential)
        }
        MetadataRecord::Config(config) => {
            let kind = ResourceKind::from_code(config.resource_type);
            let name = config.resource_name.clone();
            let resource = kind.map(|kind| ConfigResource { kind, name });
            let value = resource
                .as_ref()
                .map(|resource| image.config(resource, &config.name));
            value == Some(config.value.as_deref())
        }
        _ => true,
    }
}
