//! The scrub: its settings, and the report of what it has done. All configs may change while it runs.

use std::time::Duration;

use ottla_metadata::MetadataImage;
use ottla_metadata::effective::{self, StaticConfigs};
use ottla_protocol::time::Timestamp;

use crate::topic_settings::Configs;

/// The settings of the scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubSettings {
    /// `ottla.scrub.interval.ms`: from the start of one round to the start of the next; zero for never.
    pub interval: Duration,
    /// `ottla.scrub.max.bytes.per.second`.
    pub bytes_per_second: u64,
}

impl ScrubSettings {
    /// The settings in `image`.
    pub fn resolve(image: &MetadataImage, statics: &StaticConfigs) -> Self {
        let configs = Configs::of(effective::broker(image, statics));
        Self {
            interval: configs.duration("ottla.scrub.interval.ms", Duration::from_hours(7 * 24)),
            bytes_per_second: configs
                .number("ottla.scrub.max.bytes.per.second", 10 << 20)
                .max(1),
        }
    }

    /// Whether the scrub is disabled.
    pub fn is_off(&self) -> bool {
        self.interval.is_zero()
    }

    /// The least time that reading `bytes` may take.
    pub fn cost(&self, bytes: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let seconds = bytes as f64 / self.bytes_per_second as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// The totals of the scrub since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// The bytes read.
    pub bytes: u64,
    /// The segments read to their end.
    pub segments: u64,
    /// The rounds over all partitions.
    pub rounds: u64,
    /// The segments that could not be read.
    pub failures: u64,
    /// When the last round ended.
    pub ended_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::ScrubSettings;
    use ottla_metadata::effective::StaticConfigs;
    use ottla_metadata::{ConfigResource, MetadataImage};
    use ottla_protocol::ids::NodeId;
    use std::time::Duration;

    #[test]
    fn each_byte_is_read_once_in_seven_days_unless_it_is_turned_off() {
        let statics = StaticConfigs {
            node: NodeId(1),
            values: std::collections::BTreeMap::new().into_iter().collect(),
        };
        let mut image = MetadataImage::default();
        let settings = ScrubSettings::resolve(&image, &statics);
        assert_eq!(settings.interval, Duration::from_hours(7 * 24));
        assert_eq!(settings.cost(20 << 20), Duration::from_secs(2));
        assert!(!settings.is_off());
        let configs = image.configs.entry(ConfigResource::cluster()).or_default();
        configs.insert("ottla.scrub.interval.ms".to_owned(), "0".to_owned());
        assert!(ScrubSettings::resolve(&image, &statics).is_off());
    }
}
