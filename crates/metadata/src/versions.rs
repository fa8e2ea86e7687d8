//! `metadata.version`: which record versions a cluster at that level writes.
//!
//! The levels and what each brought are Kafka's (`MetadataVersion`, `kraft.md` section 2.5).

use ottla_protocol::messages::metadata::MetadataRecord;

/// The name of the feature that fixes the record versions.
pub const FEATURE: &str = "metadata.version";

/// A level of `metadata.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion(pub i16);

impl MetadataVersion {
    /// 3.3-IV3, the lowest level that Kafka 4 starts on.
    pub const MINIMUM: Self = Self(7);
    /// 4.4-IV2, the highest level that is read and served.
    pub const LATEST: Self = Self(33);
    /// 4.4-IV0, the highest level that a cluster may be raised to: the next ones promise hosts of ACLs that are networks,
    /// and `UnregisterController`, which are not served.
    pub const OFFERED: Self = Self(31);
    /// 4.3-IV0, what a new directory is formatted with: no level above it brings a new directory anything.
    pub const OF_NEW_CLUSTERS: Self = Self(30);

    const MIGRATION: Self = Self(8);
    const METADATA_TRANSACTIONS: Self = Self(13);
    const DIRECTORY_ASSIGNMENT: Self = Self(17);
    const ELIGIBLE_LEADER_REPLICAS: Self = Self(23);
    const CORDONED_LOG_DIRECTORIES: Self = Self(30);

    /// Whether this version brought records, or versions of records, that the one before it does not know.
    pub fn changes_records(self) -> bool {
        matches!(self.0, 7 | 8 | 11 | 13 | 14 | 15 | 17 | 23 | 30 | 32 | 33)
    }

    /// Whether the bootstrap records stand in a metadata transaction (KIP-868).
    pub fn has_transactions(self) -> bool {
        self >= Self::METADATA_TRANSACTIONS
    }

    /// Whether partitions carry the directory of each replica (KIP-858).
    pub fn has_directory_assignment(self) -> bool {
        self >= Self::DIRECTORY_ASSIGNMENT
    }

    /// Whether partitions may carry eligible leader replicas (KIP-966).
    pub fn has_eligible_leader_replicas(self) -> bool {
        self >= Self::ELIGIBLE_LEADER_REPLICAS
    }

    /// The version at which a cluster of this level writes `record`.
    pub fn record_version(self, record: &MetadataRecord) -> i16 {
        let by_directories = i16::from(self.has_directory_assignment());
        let by_partition = by_directories + i16::from(self.has_eligible_leader_replicas());
        let cordoned = i16::from(self >= Self::CORDONED_LOG_DIRECTORIES);
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
