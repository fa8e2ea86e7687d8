//! Why a feature cannot have the level that a request asks for, with Kafka's texts: tools show them.

use ottla_metadata::{FeatureRange, MetadataVersion};
use ottla_protocol::ids::NodeId;

/// A feature that cannot have the level asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", self.prefix())]
pub struct InvalidUpdate {
    pub feature: String,
    pub level: i16,
    pub reason: Reason,
}

/// What is wrong with a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("The controller does not support the given upgrade type.")]
    UnknownUpgradeType,
    #[error("A feature version cannot be less than 0.")]
    Negative,
    #[error("Local controller {0} {1}")]
    UnsupportedByController(NodeId, Supports),
    #[error("Broker {0} {1}")]
    UnsupportedByBroker(NodeId, Supports),
    #[error(
        "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
         downgrade."
    )]
    LowerByUpgrade,
    #[error("Can't downgrade to a newer version.")]
    HigherByDowngrade,
    /// `kraft.version` never goes down.
    #[error("Can't downgrade the version of this feature.")]
    Lower,
    /// `kraft.version` cannot be raised.
    #[error("Moving the voters into the metadata log is not served in this release.")]
    VotersNotMoved,
    /// No release knows the feature.
    #[error("Feature {0} not found.")]
    UnknownFeature(String),
    #[error(
        "{feature} could not be set to {level} because it depends on metadata.version level {}",
        MetadataVersion::ELIGIBLE_LEADER_REPLICAS.0
    )]
    NeedsMetadataVersion { feature: String, level: i16 },
    #[error(
        "Unsupported metadata.version downgrade from {from} to {to}. Unsafe metadata downgrade is not supported in \
         this version."
    )]
    UnsafeMetadataDowngrade { from: i16, to: i16 },
    #[error(
        "Unsupported metadata.version downgrade from {from} to {to}. Refusing to perform the requested downgrade \
         because it might delete metadata information."
    )]
    MetadataDowngrade { from: i16, to: i16 },
}

impl InvalidUpdate {
    /// Kafka names feature and level before every reason but those of `metadata.version`, which do so themselves.
    fn prefix(&self) -> String {
        match self.reason {
            Reason::UnsafeMetadataDowngrade { .. } | Reason::MetadataDowngrade { .. } => {
                String::new()
            }
            _ => format!(
                "Invalid update version {} for feature {}. ",
                self.level, self.feature
            ),
        }
    }
}

/// The levels of a feature that a node supports, where the one asked for is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Supports {
    #[error("does not support this feature.")]
    None,
    #[error("only supports versions {0}")]
    One(i16),
    #[error("only supports versions {0}-{1}")]
    Range(i16, i16),
}

impl Supports {
    /// The levels of `feature` in `ranges`; `None` if `level` is one of them.
    pub(super) fn other_than(ranges: &[FeatureRange], feature: &str, level: i16) -> Option<Self> {
        let range = ranges.iter().find(|range| range.name == feature);
        let (minimum, maximum) = range.map_or((0, 0), |range| (range.minimum, range.maximum));
        if (minimum..=maximum).contains(&level) {
            None
        } else if maximum == 0 {
            Some(Self::None)
        } else if minimum == maximum {
            Some(Self::One(minimum))
        } else {
            Some(Self::Range(minimum, maximum))
        }
    }
}
