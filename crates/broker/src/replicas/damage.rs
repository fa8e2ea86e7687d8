//! Lists the partitions of this node with known damage, for `/ready` and the metrics.

pub use ottla_replica::damage::{DamageReport, repair};

use super::Replicas;

impl Replicas {
    /// The damaged partitions. One whose lock cannot be had, because its disk does not answer, is left out.
    pub fn damage(&self) -> Vec<DamageReport> {
        let mut partitions = self.all();
        partitions.retain(|partition| partition.is_damaged());
        let reports = partitions.iter().filter_map(|partition| {
            self.try_with_log(partition, |log| partition.damage_report(log))?
        });
        let mut reports: Vec<_> = reports.collect();
        reports.sort_by(|one, other| {
            (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
        });
        reports
    }
}
