//! What a scrape asks the broker for: logs, traffic by topic, and how far groups are behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::ids::PartitionIndex;

use super::Observed;
use crate::broker::Broker;
use crate::disk_work::{NotLooked, look};
use crate::replicas::traffic::Counted;
use crate::replicas::{Found, Replicas};

/// One committed offset: group, topic, partition, offset.
type Committed = (String, String, i32, i64);

/// Looks everything up. A coordinator that is still loading shows no lag yet; a partition that its disk holds up is left
/// out.
pub async fn observe(broker: &Arc<Broker>) -> Result<Observed, NotLooked> {
    let committed = committed(broker).await;
    let broker = Arc::clone(broker);
    let looked = look(move || {
        let observed = Observed::default();
        observed.ready(broker.is_ready());
        let now = broker.clock.monotonic();
        for directory in broker.replicas.directories().all() {
            let states = [
                ("offline", directory.log.failure().is_some()),
                ("stalled", directory.stalls.is_stalled(now)),
                ("short", directory.reserve.is_short()),
            ];
            observed.directory(directory.log.path(), states);
        }
        observe_logs(&broker.replicas, &observed);
        observe_lags(&broker.replicas, committed, &observed);
        observed
    });
    looked.await
}

fn observe_logs(replicas: &Replicas, observed: &Observed) {
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
    for report in replicas.compaction(|partition| partition.settings().log.compact) {
        observed.compaction(&report);
    }
    observed.scrub(&replicas.scrub());
    for report in replicas.damage() {
        observed.damage(&report.topic, report.partition, report.count());
    }
}

fn observe_lags(replicas: &Replicas, committed: Vec<Committed>, observed: &Observed) {
    for (group, topic, partition, committed) in committed {
        let Found::Here(found) = replicas.by_name(&topic, PartitionIndex(partition)) else {
            continue;
        };
        if let Some((start, end)) =
            replicas.try_with_log(&found, |log| (log.log_start_offset(), log.high_watermark()))
        {
            let lag = (end.0 - committed.max(start.0)).max(0);
            observed.lag(&group, &topic, partition, lag);
        }
    }
}

async fn committed(broker: &Broker) -> Vec<Committed> {
    let asked = broker.groups.ask_all(|shard| {
        let offsets = shard.state().offsets();
        let mut committed = Vec::new();
        for (group, topics) in offsets.groups() {
            for (topic, partitions) in topics {
                for (partition, stored) in partitions {
                    let place = (group.to_owned(), topic.clone(), *partition, stored.offset);
                    committed.push(place);
                }
            }
        }
        committed
    });
    asked
        .await
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect()
}
