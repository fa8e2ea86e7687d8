//! The loads of the throughput tables: which sizes and settings are compared.

use anyhow::Result;

use super::{java, librdkafka};

/// The program that makes a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// `rdkafka_performance`: cheap enough to leave two cores to the broker.
    Librdkafka,
    /// `kafka-producer-perf-test` and `kafka-consumer-perf-test`.
    Java,
}

/// What is written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub generator: Generator,
    pub record_bytes: u32,
    pub batch_bytes: u32,
    pub acks: &'static str,
    pub compression: &'static str,
    pub partitions: u32,
}

/// The base load. Most other loads differ from it in one setting.
const BASE: Load = Load {
    generator: Generator::Librdkafka,
    record_bytes: 1024,
    batch_bytes: 64 * 1024,
    acks: "1",
    compression: "none",
    partitions: 1,
};
const SMALL_BATCHES: u32 = 16 * 1024;
const LARGE_BATCHES: u32 = 1_000_000;

/// The base, loads that differ from it in one setting, and mixtures, in which each value of each
/// setting appears with several others.
pub fn chosen() -> Vec<Load> {
    let base = BASE;
    let small = Load {
        batch_bytes: SMALL_BATCHES,
        ..base
    };
    let large = Load {
        batch_bytes: LARGE_BATCHES,
        ..base
    };
    let spread = Load {
        partitions: 16,
        ..base
    };
    let mut loads = vec![base, small, large];
    loads.push(Load {
        acks: "all",
        ..base
    });
    loads.push(Load {
        compression: "lz4",
        ..base
    });
    loads.push(spread);
    loads.push(Load {
        record_bytes: 100,
        ..base
    });
    loads.push(Load {
        compression: "lz4",
        ..large
    });
    loads.push(Load {
        record_bytes: 100,
        ..large
    });
    loads.push(Load {
        batch_bytes: SMALL_BATCHES,
        acks: "all",
        ..spread
    });
    loads.push(Load {
        batch_bytes: SMALL_BATCHES,
        acks: "all",
        record_bytes: 100,
        ..spread
    });
    loads.push(Load {
        compression: "lz4",
        acks: "all",
        record_bytes: 100,
        ..spread
    });
    loads.push(Load {
        batch_bytes: LARGE_BATCHES,
        acks: "all",
        ..spread
    });
    loads.extend(by_java());
    loads
}

/// All combinations.
pub fn all() -> Vec<Load> {
    let mut loads = Vec::new();
    for record_bytes in [1024, 100] {
        for batch_bytes in [SMALL_BATCHES, BASE.batch_bytes, LARGE_BATCHES] {
            for (acks, compression) in
                [("1", "none"), ("1", "lz4"), ("all", "none"), ("all", "lz4")]
            {
                loads.extend([1, 16].map(|partitions| Load {
                    generator: Generator::Librdkafka,
                    record_bytes,
                    batch_bytes,
                    acks,
                    compression,
                    partitions,
                }));
            }
        }
    }
    loads.extend(by_java());
    loads
}

/// The loads that wait for stable storage: with `acks=1` no producer does.
pub fn durable(loads: &[Load]) -> Vec<Load> {
    let waits = |load: &&Load| load.acks == "all" && load.generator == Generator::Librdkafka;
    loads.iter().filter(waits).copied().collect()
}

fn by_java() -> [Load; 2] {
    let base = Load {
        generator: Generator::Java,
        ..BASE
    };
    let spread = Load {
        batch_bytes: SMALL_BATCHES,
        acks: "all",
        partitions: 16,
        ..base
    };
    [base, spread]
}

impl Load {
    /// `1 KiB, 64 KiB batches, acks 1, 16 partitions, lz4`.
    pub fn name(&self) -> String {
        let plural = if self.partitions == 1 { "" } else { "s" };
        let mut name = format!(
            "{}, {} batches, acks {}, {} partition{plural}",
            size(self.record_bytes),
            size(self.batch_bytes),
            self.acks,
            self.partitions
        );
        if self.compression != "none" {
            name.push_str(", ");
            name.push_str(self.compression);
        }
        if self.generator == Generator::Java {
            name.push_str(" (by Java)");
        }
        name
    }

    /// The number of records in this many MB.
    pub fn records(&self, megabytes: u32) -> u64 {
        (u64::from(megabytes) * 1_000_000).div_ceil(u64::from(self.record_bytes))
    }

    /// Writes it; returns records per second.
    pub fn produce(&self, bootstrap: &str, topic: &str, records: u64) -> Result<f64> {
        match self.generator {
            Generator::Librdkafka => librdkafka::produce(self, bootstrap, topic, records),
            Generator::Java => java::produce(self, bootstrap, topic, records),
        }
    }

    /// Reads it from the beginning; returns records per second.
    pub fn consume(&self, bootstrap: &str, topic: &str, records: u64) -> Result<f64> {
        match self.generator {
            Generator::Librdkafka => librdkafka::consume(self, bootstrap, topic, records),
            Generator::Java => java::consume(bootstrap, topic, records),
        }
    }
}

fn size(bytes: u32) -> String {
    match bytes {
        LARGE_BATCHES => "1 MB".to_owned(),
        bytes if bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Load, all, chosen, durable};

    #[test]
    fn every_load_has_a_name_of_its_own() {
        for loads in [chosen(), all()] {
            let names: BTreeSet<_> = loads.iter().map(Load::name).collect();
            assert_eq!(names.len(), loads.len());
        }
    }

    #[test]
    fn the_chosen_loads_have_every_value_of_every_setting() {
        let values = |loads: &[Load]| -> BTreeSet<String> {
            let of = |load: &Load| {
                [
                    format!("{} B", load.record_bytes),
                    format!("{} B batches", load.batch_bytes),
                    format!("acks {}", load.acks),
                    load.compression.to_owned(),
                    format!("{} partitions", load.partitions),
                ]
            };
            loads.iter().flat_map(of).collect()
        };
        assert_eq!(values(&chosen()), values(&all()));
        assert_eq!(all().len(), 48 + 2);
        assert!(chosen().iter().all(|load| all().contains(load)));
        assert!(durable(&chosen()).len() >= 3);
    }
}
