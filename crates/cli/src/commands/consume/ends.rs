//! Where `--exit` stops: the end that each partition had at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use ottla_client::{Cluster, Isolation, OffsetSpec, TopicPartition};

use super::reader::Reader;

/// The end of each partition.
pub struct Ends {
    cluster: Arc<Cluster>,
    isolation: Isolation,
    open: BTreeMap<TopicPartition, i64>,
    /// Partitions without a leader, whose end is not known yet.
    leaderless: BTreeSet<TopicPartition>,
}

impl Ends {
    /// Asks for the ends of these partitions now. Those in `leaderless` are asked once they have a
    /// leader.
    pub async fn new(
        cluster: &Arc<Cluster>,
        partitions: &BTreeSet<TopicPartition>,
        leaderless: &BTreeSet<TopicPartition>,
        isolation: Isolation,
    ) -> Result<Self> {
        let mut ends = Self {
            cluster: Arc::clone(cluster),
            isolation,
            open: BTreeMap::new(),
            leaderless: leaderless.clone(),
        };
        ends.add(partitions - leaderless).await?;
        Ok(ends)
    }

    async fn add(&mut self, partitions: BTreeSet<TopicPartition>) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        let latest = OffsetSpec::Latest;
        let found = self
            .cluster
            .list_offsets(&partitions, latest, self.isolation);
        let found = found.await?.into_iter();
        self.open.extend(found.map(|(of, at)| (of, at.offset)));
        self.leaderless.retain(|of| !partitions.contains(of));
        Ok(())
    }

    /// Asks for the ends of partitions that have a leader by now.
    pub async fn look_up(&mut self) -> Result<()> {
        let metadata = self.cluster.metadata();
        let is_led = |of: &&TopicPartition| metadata.leader(of).is_some();
        let led = self.leaderless.iter().filter(is_led).cloned().collect();
        self.add(led).await
    }

    /// Whether all partitions have been read up to their ends.
    pub fn are_reached(&self, reader: &Reader) -> bool {
        let Some(positions) = reader.positions() else {
            return false;
        };
        if self.leaderless.iter().any(|of| reader.reads(of)) {
            return false;
        }
        let mut positions = positions.iter();
        positions.all(|(partition, at)| {
            let end = self.open.get(partition);
            end.is_none_or(|end| at.offset >= *end)
        })
    }
}
