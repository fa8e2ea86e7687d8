//! `metadata.version`: the record versions that a cluster at that level writes.
//!
//! The levels, and what each adds, are Kafka's (`MetadataVersion`).

use ottla_protocol::messages::metadata::MetadataRecord;

/// The feature that decides the record versions.
pub const FEATURE: &str = "metadata.version";
/// The feature that decides where the voters are stored. Its level is in the quorum's own records.
pub const KRAFT: &str = "kraft.version";
/// The feature that gives partitions eligible leader replicas (KIP-966).
pub const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";

/// A level of `metadata.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(pub i16);

impl MetadataVersion {
    /// 3.3-IV3, the lowest level that Kafka 4 starts on.
    pub const MINIMUM: Self = Self(7);
    /// 4.4-IV2, the highest level that is read and served.
    pub const LATEST: Self = Self(33);
    /// 4.4-IV0, the highest level to which a cluster may be raised. The next ones promise ACLs for whole networks, and
    /// `UnregisterController`, which this release does not serve.
    pub const OFFERED: Self = Self(31);
    /// 4.3-IV0, the level of a new directory. The levels above it add nothing that a new directory uses.
    pub const OF_NEW_CLUSTERS: Self = Self(30);

    const MIGRATION: Self = Self(8);
    /// 3.6-IV0, the first level at which the leader epoch stays when the ISR shrinks.
    const EPOCH_STAYS_ON_ISR_SHRINK: Self = Self(12);
    const METADATA_TRANSACTIONS: Self = Self(13);
    const DIRECTORY_ASSIGNMENT: Self = Self(17);
    /// 4.0-IV1, the first level at which partitions may have eligible leader replicas.
    pub const ELIGIBLE_LEADER_REPLICAS: Self = Self(23);
    const CORDONED_LOG_DIRECTORIES: Self = Self(30);

    /// Kafka's name of the version: the release, and the number within it.
    pub fn name(self) -> Option<&'static str> {
        let names = [
            "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
            "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0",
            "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
            "4.4-IV0", "4.4-IV1", "4.4-IV2",
        ];
        let place = self.0.checked_sub(Self::MINIMUM.0)?;
        names.get(usize::try_from(place).ok()?).copied()
    }

    /// Whether this version adds records, or versions of records, to those of the version before it.
    pub fn changes_records(self) -> bool {
        matches!(self.0, 7 | 8 | 11 | 13 | 14 | 15 | 17 | 23 | 30 | 32 | 33)
    }

    /// Whether the log may have metadata transactions (KIP-868).
    pub fn has_transactions(self) -> bool {
        self >= Self::METADATA_TRANSACTIONS
    }

    /// Whether a smaller ISR raises the leader epoch, which old brokers need (KAFKA-15021).
    pub fn raises_epoch_on_isr_shrink(self) -> bool {
        self < Self::EPOCH_STAYS_ON_ISR_SHRINK
    }

    /// Whether partitions have the directory of each replica (KIP-858).
    pub fn has_directory_assignment(self) -> bool {
        self >= Self::DIRECTORY_ASSIGNMENT
    }

    /// Whether partitions may have eligible leader replicas (KIP-966).
    pub fn has_eligible_leader_replicas(self) -> bool {
        self >= Self::ELIGIBLE_LEADER_REPLICAS
    }

    /// Whether brokers have log directories that take no new replicas (KIP-1066).
    pub fn has_cordoned_directories(self) -> bool {
        self >= Self::CORDONED_LOG_DIRECTORIES
    }

    /// The version at which a cluster of this level writes `record`.
    pub fn record_version(self, record: &MetadataRecord) -> i16 {
        let by_directories = i16::from(self.has_directory_assignment());
        let by_partition = by_directories + i16::from(self.has_eligible_leader_replicas());
        let cordoned = i16::from(self.has_cordoned_directories());
        match record {
            MetadataRecord::RegisterBroker(_) => {
                1 + i16::from(self >= Self::MIGRATION) + by_directories + cordoned
            }
            MetadataRecord::BrokerRegistrationChange(_) => 1 + by_directories + cordoned,
            MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => by_partition,
            // Every other type has had one version so far.
            other => other.highest_version(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MetadataVersion;

    #[test]
    fn levels_have_the_names_that_kafka_gives_them() {
        assert_eq!(MetadataVersion::MINIMUM.name(), Some("3.3-IV3"));
        assert_eq!(MetadataVersion(21).name(), Some("3.9-IV0"));
        assert_eq!(MetadataVersion(30).name(), Some("4.3-IV0"));
        assert_eq!(MetadataVersion(33).name(), Some("4.4-IV2"));
        assert_eq!(MetadataVersion(6).name(), None);
        assert_eq!(MetadataVersion(34).name(), None);
    }
}
