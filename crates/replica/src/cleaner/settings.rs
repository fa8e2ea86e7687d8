//! The cleaner's configs, resolved. All but `log.cleaner.enable` may change while it runs.

use std::time::Duration;

use ottla_log::compaction::MapLimits;
use ottla_metadata::MetadataImage;
use ottla_metadata::effective::{self, StaticConfigs};

use crate::topic_settings::Configs;

/// Bounds for values that Apache Kafka may have accepted and stored.
const MOST_THREADS: usize = 64;
const MOST_BUFFER_BYTES: usize = 16 << 30;

/// The settings of the cleaner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanerSettings {
    /// `log.cleaner.threads`; 0 when `log.cleaner.enable` is false.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`, of all `threads` together. A worker that replaces one stuck on a disk takes
    /// another share.
    pub buffer_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`.
    pub load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`.
    pub bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`: how long a worker rests when nothing is due.
    pub backoff: Duration,
}

impl CleanerSettings {
    /// The settings in `image`.
    pub fn resolve(image: &MetadataImage, statics: &StaticConfigs) -> Self {
        let configs = Configs::of(effective::broker(image, statics));
        let is_enabled = configs.text("log.cleaner.enable") != "false";
        Self {
            threads: if is_enabled {
                configs.number("log.cleaner.threads", 1).min(MOST_THREADS)
            } else {
                0
            },
            buffer_bytes: configs
                .number("log.cleaner.dedupe.buffer.size", 128 << 20)
                .min(MOST_BUFFER_BYTES),
            load_factor: configs.number("log.cleaner.io.buffer.load.factor", 0.9),
            bytes_per_second: configs.number("log.cleaner.io.max.bytes.per.second", f64::MAX),
            backoff: configs.duration("log.cleaner.backoff.ms", Duration::from_secs(15)),
        }
    }

    /// The limits of one worker's map.
    pub fn map_limits(&self) -> MapLimits {
        MapLimits {
            bytes: self.buffer_bytes / self.threads.max(1),
            load_factor: self.load_factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CleanerSettings;
    use ottla_metadata::effective::StaticConfigs;
    use ottla_metadata::{ConfigResource, MetadataImage};
    use ottla_protocol::ids::NodeId;
    use std::time::Duration;

    fn resolve(image: &MetadataImage, file: &[(&str, &str)]) -> CleanerSettings {
        let pairs = file
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let statics = StaticConfigs {
            node: NodeId(1),
            values: pairs.collect(),
        };
        CleanerSettings::resolve(image, &statics)
    }

    #[test]
    fn no_stored_value_can_take_the_process_down() {
        let image = MetadataImage::default();
        let file = [
            ("log.cleaner.threads", "2147483647"),
            ("log.cleaner.dedupe.buffer.size", "9223372036854775807"),
        ];
        let settings = resolve(&image, &file);
        assert_eq!((settings.threads, settings.buffer_bytes), (64, 16 << 30));
    }

    #[test]
    fn kafkas_defaults_hold_and_workers_share_the_memory() {
        let mut image = MetadataImage::default();
        let settings = resolve(&image, &[]);
        assert_eq!(settings.threads, 1);
        assert_eq!(settings.backoff, Duration::from_secs(15));
        assert_eq!(settings.map_limits().bytes, 128 << 20);
        assert!(settings.bytes_per_second > 1e300);
        let threads = ("log.cleaner.threads".to_owned(), "4".to_owned());
        let configs = image.configs.entry(ConfigResource::cluster()).or_default();
        configs.insert(threads.0, threads.1);
        assert_eq!(resolve(&image, &[]).map_limits().bytes, 32 << 20);
        let off = [("log.cleaner.enable", "false")];
        assert_eq!(resolve(&image, &off).threads, 0);
    }
}
