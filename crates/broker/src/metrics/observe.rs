//! What a scrape asks the broker for: logs, traffic by topic, and how far groups are behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::ids::PartitionIndex;

use super::Observed;
use crate::broker::Broker;
use crate::http;
use crate::replicas::traffic::Counted;
use crate::replicas::{Found, Partition};

/// One committed offset: group, topic, partition, offset.
type Committed = (String, String, i32, i64);

/// Looks everything up. A coordinator that is still loading shows no lag yet.
pub async fn observe(broker: &Arc<Broker>) -> Observed {
    let observed = Observed::default();
    observed.ready(broker.is_ready());
    observe_logs(broker, &observed);
    let is_compacted = |partition: &Partition| partition.settings().log.compact;
    for report in http::compaction(broker, is_compacted).await {
        observed.compaction(&report);
    }
    observed.scrub(&broker.replicas.scrub());
    for report in broker.replicas.damage() {
        observed.damage(&report.topic, report.partition, report.places.len());
    }
    for (group, topic, partition, committed) in committed(broker).await {
        let Found::Here(found) = broker.replicas.by_name(&topic, PartitionIndex(partition)) else {
            continue;
        };
        if let Ok(offsets) = found.offsets() {
            let from = committed.max(offsets.log_start.0);
            let lag = (offsets.high_watermark.0 - from).max(0);
            observed.lag(&group, &topic, partition, lag);
        }
    }
    observed
}

fn observe_logs(broker: &Broker, observed: &Observed) {
    let mut topics: BTreeMap<_, Counted> = BTreeMap::new();
    for partition in broker.replicas.all() {
        let size = partition.with_log(|log| log.size());
        if let (Some(size), Ok(offsets)) = (size, partition.offsets()) {
            let range = offsets.log_start.0..offsets.log_end.0;
            observed.log(&partition.topic, partition.index.0, size, range);
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
