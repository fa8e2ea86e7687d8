//! The lag of groups, and the partitions that it leaves out because they have no leader.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ottla_client::{Cluster, Isolation, OffsetSpec, PartitionOffset, TopicPartition};

use crate::output::message;

/// Partitions with and without a leader. Deleted partitions are in neither set.
pub(super) struct Standing {
    pub(super) led: BTreeSet<TopicPartition>,
    pub(super) leaderless: BTreeSet<TopicPartition>,
}

/// Looks up which of these partitions have a leader now.
pub(super) async fn standing(
    cluster: &Cluster,
    partitions: &BTreeSet<TopicPartition>,
) -> Result<Standing> {
    let topics: BTreeSet<_> = partitions.iter().map(|of| of.topic.clone()).collect();
    cluster
        .refresh(&topics.into_iter().collect::<Vec<_>>())
        .await?;
    let metadata = cluster.metadata();
    let exists = |of: &&TopicPartition| metadata.partition(of).is_some();
    let existing = partitions.iter().filter(exists).cloned();
    let (led, leaderless) = existing.partition(|of| metadata.leader(of).is_some());
    Ok(Standing { led, leaderless })
}

/// The ends of partitions.
pub(super) struct Ends {
    pub(super) of: BTreeMap<TopicPartition, PartitionOffset>,
    /// Partitions whose end is not known, because they have no leader.
    pub(super) leaderless: BTreeSet<TopicPartition>,
}

/// Looks up where these partitions end now.
pub(super) async fn ends(cluster: &Cluster, partitions: &BTreeSet<TopicPartition>) -> Result<Ends> {
    let Standing { led, leaderless } = standing(cluster, partitions).await?;
    let isolation = Isolation::ReadUncommitted;
    let of = cluster.list_offsets(&led, OffsetSpec::Latest, isolation);
    let of = of.await?;
    Ok(Ends { of, leaderless })
}

/// The lag of a group, summed over all partitions with a committed offset.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct TotalLag {
    /// The sum over partitions whose end is known; `None` when there are none.
    pub(super) known: Option<i64>,
    /// The number of partitions left out because they have no leader.
    pub(super) leaderless: usize,
}

impl TotalLag {
    pub(super) fn add(&mut self, lag: Option<i64>, is_leaderless: bool) {
        if let Some(lag) = lag {
            self.known = Some(self.known.unwrap_or(0) + lag);
        }
        self.leaderless += usize::from(is_leaderless);
    }

    /// As text. When partitions are left out, the lag is shown as a lower bound.
    pub(super) fn shown(self) -> String {
        match self.known {
            None => "-".to_owned(),
            Some(lag) if self.leaderless > 0 => format!(">={lag}"),
            Some(lag) => lag.to_string(),
        }
    }

    /// Prints a message when the lag leaves partitions out.
    pub(super) fn explain(self, group: &str) {
        if self.leaderless > 0 {
            let s = if self.leaderless == 1 { "" } else { "s" };
            message(&format!(
                "the lag of group {group} leaves out {} partition{s} without a leader; `ottla cluster` shows what is wrong",
                self.leaderless
            ));
        }
    }
}

/// The lag of one partition: the offsets between the committed one and the end.
pub(super) fn lag(committed: i64, end: i64) -> i64 {
    (end - committed).max(0)
}
