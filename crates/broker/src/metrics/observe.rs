//! Reads the values of a scrape: sizes and offsets of logs, traffic by topic, lag of groups, compaction, scrub and damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_coordinator::group::offsets::{ListOffsetsRequest, StoredOffset};
use ottla_protocol::ids::PartitionIndex;

use super::{ClusterCounts, Observed, ReplicaCounts};
use crate::broker::Broker;
use crate::drivers::disk_work::{NotLooked, look};
use crate::readiness::{Standing, committed as committed_metadata};
use crate::replicas::traffic::Counted;
use crate::replicas::{Found, Replicas};

/// Reads all values. Groups whose coordinator is still loading, and partitions whose disk does not answer, are left out.
pub async fn observe(broker: &Arc<Broker>) -> Result<Observed, NotLooked> {
    let committed = committed(broker).await;
    let is_ready = Standing::of(broker).await.is_ready();
    let broker = Arc::clone(broker);
    let looked = look(move || {
        let observed = Observed::default();
        observed.ready(is_ready);
        // A ledger that cannot be read is told by `/loss`.
        observed.losses(broker.replicas.losses().totals().unwrap_or_default());
        let now = broker.clock.monotonic();
        for directory in broker.replicas.directories() {
            let states = [
                ("offline", directory.log.failure().is_some()),
                ("stalled", directory.stalls.is_stalled(now)),
                ("short", directory.reserve.is_short()),
            ];
            observed.directory(directory.log.path(), states);
        }
        observe_logs(&broker, &observed);
        observe_replicas(&broker, &observed);
        observed.cluster(cluster(&broker));
        observe_lags(&broker.replicas, committed, &observed);
        observed
    });
    looked.await
}

fn observe_logs(broker: &Broker, observed: &Observed) {
    let (replicas, drivers) = (&broker.replicas, &broker.drivers);
    let mut topics: BTreeMap<_, Counted> = BTreeMap::new();
    for partition in replicas.all() {
        let looked = replicas.try_with_log(&partition, |log| {
            (log.size(), log.log_start_offset(), log.log_end_offset())
        });
        if let Some((size, start, end)) = looked {
            observed.log(&partition.topic, partition.index.0, size, start.0..end.0);
        }
        let sum = topics.entry(partition.topic.clone()).or_default();
        let counted = partition.traffic.counted();
        sum.bytes_in += counted.bytes_in;
        sum.records_in += counted.records_in;
        sum.bytes_out += counted.bytes_out;
        sum.refused += counted.refused;
    }
    for (topic, counted) in topics {
        observed.traffic(&topic, counted);
    }
    for report in drivers.compaction(|partition| partition.settings().log.compact) {
        observed.compaction(&report);
    }
    observed.scrub(&drivers.scrub());
    for report in replicas.damage() {
        observed.damage(&report.topic, report.partition, report.count());
    }
}

/// The roles of replicas come from the metadata, so that no disk delays them.
fn observe_replicas(broker: &Broker, observed: &Observed) {
    let image = broker.controller.image();
    let node = broker.config.node_id;
    let mut counts = ReplicaCounts::default();
    (counts.expanded, counts.shrunk) = broker.isr_changes.counted();
    for partition in broker.replicas.all() {
        counts.partitions += 1;
        counts.offline += i64::from(partition.directory().log.failure().is_some());
        let Some(state) = image.partition(partition.topic_id, partition.index) else {
            continue;
        };
        match state.leader {
            Some(leader) if leader == node => {
                let settings = partition.settings();
                let needed = settings.min_insync_replicas.min(state.replicas.len());
                let in_sync = state.isr.len();
                counts.led += 1;
                counts.under_replicated += i64::from(in_sync < state.replicas.len());
                counts.under_min_isr += i64::from(in_sync < needed);
                counts.at_min_isr += i64::from(in_sync == needed);
            }
            Some(leader) => {
                let lag = partition.traffic.follower_lag();
                observed.follower_lag(leader.0, &partition.topic, partition.index.0, lag);
            }
            None => {}
        }
    }
    observed.replicas(counts);
}

/// The cluster, as the metadata and the quorum of this node have it.
fn cluster(broker: &Broker) -> ClusterCounts {
    let image = broker.controller.image();
    let status = broker.quorum.get().map(|quorum| quorum.borrow().clone());
    let mut counts = ClusterCounts {
        is_active: status.as_ref().is_some_and(|status| status.is_active),
        topics: i64::try_from(image.topics.len()).unwrap_or(i64::MAX),
        elections: broker.elections.counted(),
        leader: -1,
        epoch: status.as_ref().map_or(-1, |status| status.epoch.0.into()),
        committed: committed_metadata(broker).0,
        applied: broker.controller.applied().0,
        ..ClusterCounts::default()
    };
    if let Some(leader) = status.and_then(|status| status.leader) {
        counts.leader = leader.0.into();
    }
    for known in image.brokers.values() {
        counts.fenced_brokers += i64::from(known.fenced);
        counts.active_brokers += i64::from(!known.fenced);
    }
    for topic in image.topics.values() {
        for partition in topic.partitions.values() {
            counts.partitions += 1;
            counts.offline_partitions += i64::from(partition.leader.is_none());
            let preferred = partition.replicas.first();
            let is_led = partition.leader.is_some();
            counts.imbalanced += i64::from(is_led && partition.leader.as_ref() != preferred);
        }
    }
    counts
}

fn observe_lags(replicas: &Replicas, committed: Vec<StoredOffset>, observed: &Observed) {
    for stored in committed {
        let partition = PartitionIndex(stored.partition);
        let Found::Here(found) = replicas.by_name(&stored.topic, partition) else {
            continue;
        };
        if let Some((start, end)) =
            replicas.try_with_log(&found, |log| (log.log_start_offset(), log.high_watermark()))
        {
            let lag = (end.0 - stored.offset.max(start.0)).max(0);
            observed.lag(&stored.group_id, &stored.topic, stored.partition, lag);
        }
    }
}

async fn committed(broker: &Broker) -> Vec<StoredOffset> {
    let listed = broker.groups.ask_active(ListOffsetsRequest).await;
    listed.into_iter().flatten().collect()
}
