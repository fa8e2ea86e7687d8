//! The text of `/metrics`, and the metrics that are looked up at a scrape.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::registrar::{Observable as _, Registrar, Series};
use crate::replicas::traffic::Counted;
use ottla_replica::cleaner::report::CompactionReport;
use ottla_replica::loss_ledger::LossTotals;
use ottla_replica::scrub::ScrubReport;

/// One topic's label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Topic {
    topic: String,
}

/// One partition's label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    topic: String,
    partition: i32,
}

/// One group's partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupPartition {
    group: String,
    topic: String,
    partition: i32,
}

/// A partition of a follower, and the fetcher as Kafka would name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchedPartition {
    clientid: String,
    topic: String,
    partition: i32,
}

/// The replicas of this node, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaCounts {
    /// All partitions with a replica on this node.
    pub partitions: i64,
    /// Those that it leads.
    pub led: i64,
    /// Of those, the ones with fewer in-sync replicas than replicas, than `min.insync.replicas`, and with just as many
    /// as that.
    pub under_replicated: i64,
    pub under_min_isr: i64,
    pub at_min_isr: i64,
    /// Those in a failed log directory.
    pub offline: i64,
    /// Changes of ISRs that took followers in, and that took members out.
    pub expanded: u64,
    pub shrunk: u64,
}

/// The cluster, as this node knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Whether the active controller is in this process.
    pub is_active: bool,
    pub active_brokers: i64,
    pub fenced_brokers: i64,
    pub topics: i64,
    pub partitions: i64,
    /// Partitions without a leader.
    pub offline_partitions: i64,
    /// Partitions that another replica leads than the preferred one.
    pub imbalanced: i64,
    /// Elections that lost nothing, and those that may have.
    pub elections: (u64, u64),
    /// The id of the leader of the quorum, or -1.
    pub leader: i64,
    pub epoch: i64,
    /// The end of the committed metadata, and of what is applied of it.
    pub committed: i64,
    pub applied: i64,
}

/// A log directory and a state that it may be in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectoryState {
    directory: String,
    state: &'static str,
}

/// Defines [`Observed`]: of each metric its type, its name and its help, in the order of the text.
macro_rules! observed {
    ($($metric:ident: $type:ty = $name:literal, $help:literal;)*) => {
        /// Metrics that are looked up at a scrape instead of being counted.
        #[derive(Debug, Default)]
        pub struct Observed {
            $($metric: $type,)*
        }

        impl Observed {
            fn registry(&self, series: Series) -> Registry {
                let mut registrar = Registrar::new(series);
                $(self.$metric.register(&mut registrar, $name, $help);)*
                registrar.into_registry()
            }
        }
    };
}

observed! {
    sizes: Family<Partition, Gauge> = "kafka_log_log_size", "Bytes of a log";
    start_offsets: Family<Partition, Gauge> = "kafka_log_log_logstartoffset", "First offset of a log";
    end_offsets: Family<Partition, Gauge> = "kafka_log_log_logendoffset", "Offset after the last record of a log";
    lags: Family<GroupPartition, Gauge> = "kafka_consumergroup_lag", "Records that a group has not committed yet";
    active_controllers: Gauge =
        "kafka_controller_kafkacontroller_activecontrollercount", "1 while the active controller is in this process";
    active_brokers: Gauge =
        "kafka_controller_kafkacontroller_activebrokercount", "Brokers of the cluster that are not fenced";
    fenced_brokers: Gauge =
        "kafka_controller_kafkacontroller_fencedbrokercount", "Brokers of the cluster that are fenced";
    topics: Gauge = "kafka_controller_kafkacontroller_globaltopiccount", "Topics of the cluster";
    all_partitions: Gauge =
        "kafka_controller_kafkacontroller_globalpartitioncount", "Partitions of the cluster";
    offline_partitions: Gauge =
        "kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions of the cluster without a leader";
    imbalanced: Gauge =
        "kafka_controller_kafkacontroller_preferredreplicaimbalancecount",
        "Partitions of the cluster that another replica leads than the preferred one";
    clean_elections: Counter =
        "kafka_controller_controllerstats_leaderelections",
        "Elections of partition leaders that lost nothing, while the active controller was in this process";
    unclean_elections: Counter =
        "kafka_controller_controllerstats_uncleanleaderelections",
        "Elections of partition leaders that may have lost records, while the active controller was in this process";
    quorum_leader: Gauge =
        "kafka_server_raft_metrics_current_leader", "Id of the leader of the metadata quorum; -1 if it is not known";
    quorum_epoch: Gauge = "kafka_server_raft_metrics_current_epoch", "Epoch of the metadata quorum; -1 on a broker alone";
    quorum_committed: Gauge =
        "kafka_server_raft_metrics_high_watermark", "End of the committed metadata, as this node knows it";
    metadata_applied: Gauge =
        "kafka_server_broker_metadata_metrics_last_applied_record_offset",
        "Offset of the last metadata record that this node has applied";
    metadata_lag: Gauge =
        "ottla_metadata_lag", "Committed metadata records that this node has not applied";
    partitions: Gauge = "kafka_server_replicamanager_partitioncount", "Partitions with a replica on this node";
    led: Gauge = "kafka_server_replicamanager_leadercount", "Partitions that this node leads";
    under_replicated: Gauge =
        "kafka_server_replicamanager_underreplicatedpartitions",
        "Partitions led by this node whose in-sync replicas are fewer than the replicas";
    under_min_isr: Gauge =
        "kafka_server_replicamanager_underminisrpartitioncount",
        "Partitions led by this node whose in-sync replicas are fewer than min.insync.replicas";
    at_min_isr: Gauge =
        "kafka_server_replicamanager_atminisrpartitioncount",
        "Partitions led by this node whose in-sync replicas are just min.insync.replicas";
    offline_replicas: Gauge =
        "kafka_server_replicamanager_offlinereplicacount", "Replicas of this node in failed log directories";
    isr_expands: Counter =
        "kafka_server_replicamanager_isrexpands", "Changes that took followers into in-sync replicas";
    isr_shrinks: Counter =
        "kafka_server_replicamanager_isrshrinks", "Changes that took followers out of in-sync replicas";
    follower_lags: Family<FetchedPartition, Gauge> =
        "kafka_server_fetcherlagmetrics_consumerlag",
        "Records below the leader's high watermark that this follower does not have";
    bytes_in: Family<Topic, Counter> =
        "kafka_server_brokertopicmetrics_bytesin", "Bytes of record batches appended by producers";
    records_in: Family<Topic, Counter> =
        "kafka_server_brokertopicmetrics_messagesin", "Records appended by producers";
    bytes_out: Family<Topic, Counter> =
        "kafka_server_brokertopicmetrics_bytesout", "Bytes of record batches fetched";
    refused: Family<Topic, Counter> =
        "kafka_server_brokertopicmetrics_failedproducerequests", "Record batches refused";
    clean_bytes: Family<Partition, Gauge> =
        "ottla_compaction_clean_bytes", "Bytes of segments that are compacted";
    cleanable_bytes: Family<Partition, Gauge> =
        "ottla_compaction_cleanable_bytes", "Bytes of segments that are dirty and may be compacted";
    overdue_seconds: Family<Partition, Gauge> =
        "ottla_compaction_overdue_seconds",
        "How much longer than max.compaction.lag.ms the oldest dirty record has waited";
    quarantined: Family<Partition, Gauge> =
        "ottla_compaction_quarantined_batches", "Batches that compaction cannot read";
    compaction_failures: Family<Partition, Gauge> =
        "ottla_compaction_failures", "Failed passes since the last successful one";
    compacted_at: Family<Partition, Gauge> =
        "ottla_compaction_last_timestamp_seconds",
        "When the last pass ended, since the Unix epoch; 0 if there was none since the start";
    losses: Gauge = "ottla_losses", "Losses of records that this node has seen; `ottla loss` shows them";
    lost_records: Gauge =
        "ottla_lost_records",
        "Records below the high watermark that replicas of this node have removed";
    scrub_bytes: Counter = "ottla_scrub_bytes", "Bytes read by the scrub";
    scrub_segments: Counter = "ottla_scrub_segments", "Segments read by the scrub";
    scrub_rounds: Counter = "ottla_scrub_rounds", "Rounds of the scrub over all partitions";
    scrub_failures: Counter = "ottla_scrub_failures", "Segments that the scrub could not read";
    scrub_ended_at: Gauge =
        "ottla_scrub_last_round_timestamp_seconds",
        "When the last round of the scrub ended, since the Unix epoch; 0 if there was none since the start";
    damaged: Family<Partition, Gauge> =
        "ottla_log_damaged_ranges", "Known damaged ranges of a log; a log without damage has no series";
    directories: Family<DirectoryState, Gauge> =
        "ottla_log_directory_state",
        "1 if a log directory is offline, does not answer (stalled), or is below ottla.disk.reserve (short)";
    ready: Gauge = "ottla_ready", "1 while `/ready` says so: registered, unfenced, with the committed metadata, and a quorum that is alive";
}

impl Observed {
    /// The bytes of a partition's log, and its start and end offset.
    pub fn log(&self, topic: &str, partition: i32, bytes: u64, offsets: Range<i64>) {
        let label = Partition {
            topic: topic.to_owned(),
            partition,
        };
        self.sizes
            .get_or_create(&label)
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.start_offsets.get_or_create(&label).set(offsets.start);
        self.end_offsets.get_or_create(&label).set(offsets.end);
    }

    pub fn replicas(&self, counts: ReplicaCounts) {
        self.partitions.set(counts.partitions);
        self.led.set(counts.led);
        self.under_replicated.set(counts.under_replicated);
        self.under_min_isr.set(counts.under_min_isr);
        self.at_min_isr.set(counts.at_min_isr);
        self.offline_replicas.set(counts.offline);
        self.isr_expands.inc_by(counts.expanded);
        self.isr_shrinks.inc_by(counts.shrunk);
    }

    pub fn cluster(&self, counts: ClusterCounts) {
        self.active_controllers.set(i64::from(counts.is_active));
        self.active_brokers.set(counts.active_brokers);
        self.fenced_brokers.set(counts.fenced_brokers);
        self.topics.set(counts.topics);
        self.all_partitions.set(counts.partitions);
        self.offline_partitions.set(counts.offline_partitions);
        self.imbalanced.set(counts.imbalanced);
        self.clean_elections.inc_by(counts.elections.0);
        self.unclean_elections.inc_by(counts.elections.1);
        self.quorum_leader.set(counts.leader);
        self.quorum_epoch.set(counts.epoch);
        self.quorum_committed.set(counts.committed);
        self.metadata_applied.set(counts.applied - 1);
        self.metadata_lag
            .set((counts.committed - counts.applied).max(0));
    }

    /// How far this node is behind the leader of a partition.
    pub fn follower_lag(&self, leader: i32, topic: &str, partition: i32, lag: i64) {
        let label = FetchedPartition {
            clientid: format!("ReplicaFetcherThread-0-{leader}"),
            topic: topic.to_owned(),
            partition,
        };
        self.follower_lags.get_or_create(&label).set(lag);
    }

    /// How far a group's committed offset is behind the records that it could read.
    pub fn lag(&self, group: &str, topic: &str, partition: i32, lag: i64) {
        let label = GroupPartition {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition,
        };
        self.lags.get_or_create(&label).set(lag);
    }

    /// The traffic of a topic.
    pub fn traffic(&self, topic: &str, counted: Counted) {
        let label = Topic {
            topic: topic.to_owned(),
        };
        let add = |family: &Family<Topic, Counter>, count| {
            family.get_or_create(&label).inc_by(count);
        };
        add(&self.bytes_in, counted.bytes_in);
        add(&self.records_in, counted.records_in);
        add(&self.bytes_out, counted.bytes_out);
        add(&self.refused, counted.refused);
    }

    /// The compaction of a partition.
    pub fn compaction(&self, report: &CompactionReport) {
        let label = Partition {
            topic: report.topic.clone(),
            partition: report.partition,
        };
        let set = |family: &Family<Partition, Gauge>, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&label).set(value);
        };
        let (plan, history) = (&report.plan, &report.history);
        let seconds = history.compacted_at.map_or(0, |at| at.0 / 1000);
        let failures = history.failure.as_ref().map_or(0, |failure| failure.times);
        set(&self.clean_bytes, plan.clean_bytes);
        set(&self.cleanable_bytes, plan.cleanable_bytes);
        set(&self.overdue_seconds, plan.overdue.as_secs());
        set(&self.quarantined, report.quarantine.len() as u64);
        set(&self.compaction_failures, u64::from(failures));
        set(&self.compacted_at, seconds.unsigned_abs());
    }

    /// The number of known damaged places in a partition's log.
    pub fn damage(&self, topic: &str, partition: i32, places: usize) {
        let label = Partition {
            topic: topic.to_owned(),
            partition,
        };
        let places = i64::try_from(places).unwrap_or(i64::MAX);
        self.damaged.get_or_create(&label).set(places);
    }

    /// The states of a log directory.
    pub fn directory(&self, directory: &Path, states: [(&'static str, bool); 3]) {
        for (state, is_so) in states {
            let label = DirectoryState {
                directory: directory.display().to_string(),
                state,
            };
            let gauge = self.directories.get_or_create(&label);
            gauge.set(i64::from(is_so));
        }
    }

    /// What the scrub has done.
    pub fn scrub(&self, report: &ScrubReport) {
        self.scrub_bytes.inc_by(report.bytes);
        self.scrub_segments.inc_by(report.segments);
        self.scrub_rounds.inc_by(report.rounds);
        self.scrub_failures.inc_by(report.failures);
        let ended_at = report.ended_at.map_or(0, |at| at.0 / 1000);
        self.scrub_ended_at.set(ended_at);
    }

    /// What this node has seen of lost records.
    pub fn losses(&self, losses: LossTotals) {
        self.losses.set(losses.entries);
        self.lost_records.set(losses.lost);
    }

    /// Whether `/ready` says so.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}

/// All metrics in the text format of OpenMetrics.
pub fn text(metrics: &Metrics, observed: &Observed, series: Series) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, &metrics.registry)?;
    encode_registry(&mut text, &observed.registry(series))?;
    encode_eof(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::{ApiKey, ErrorCode};

    use super::{Counted, Metrics, Observed};

    #[test]
    fn what_is_counted_and_what_is_observed_stand_in_one_text() {
        let metrics = Metrics::new(&[ApiKey::ApiVersions]);
        metrics.api(ApiKey::ApiVersions).unwrap().requests.inc();
        metrics.error(ApiKey::Produce, ErrorCode::CorruptMessage.code());
        metrics.error(ApiKey::Produce, 0);
        let observed = Observed::default();
        let counted = Counted {
            bytes_in: 7,
            ..Counted::default()
        };
        observed.traffic("a", counted);
        observed.log("a", 3, 100, 5..9);
        observed.lag("g", "a", 3, 4);
        let text = metrics.text(&observed).unwrap();
        for line in [
            "kafka_network_requestmetrics_requests_total{request=\"ApiVersions\"} 1",
            "kafka_network_requestmetrics_errors_total{request=\"Produce\",error=\"CorruptMessage\"} 1",
            "kafka_server_brokertopicmetrics_bytesin_total{topic=\"a\"} 7",
            "kafka_log_log_size{topic=\"a\",partition=\"3\"} 100",
            "kafka_consumergroup_lag{group=\"g\",topic=\"a\",partition=\"3\"} 4",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
