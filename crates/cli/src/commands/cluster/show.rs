//! Prints a cluster as tables or as JSON.

use std::collections::BTreeMap;

use anyhow::Result;
use ottla_client::admin::{Broker, ControllerEndpoint, Feature, LogDir, QuorumReplica};
use ottla_client::code_name;
use ottla_metadata::versions::{FEATURE, MetadataVersion};
use serde_json::{Value, json};

use super::{View, if_lost, voters};
use crate::output::{Table, print_line};
use crate::quantity::format_size;

impl View {
    /// Prints the tables.
    pub fn print(&self) -> Result<()> {
        print_line(&format!(
            "cluster {}  brokers {}  topics {}  partitions {}",
            self.metadata.cluster_id.as_deref().unwrap_or("-"),
            self.brokers.len(),
            self.metadata.topics.len(),
            self.partitions(),
        ))?;
        self.print_quorum()?;
        print_line("")?;
        self.print_brokers()?;
        print_line("")?;
        self.print_log_dirs()?;
        print_line("")?;
        self.print_features()?;
        print_line("")?;
        for lost in if_lost::all(self) {
            print_line(&lost.text())?;
        }
        for warning in voters::warnings(self) {
            print_line(&format!("warning: {warning}"))?;
        }
        if self.are_partitions_well {
            print_line("all partitions have a leader and all their replicas in sync")?;
        }
        self.problems
            .iter()
            .try_for_each(|problem| print_line(&format!("problem: {problem}")))
    }

    fn print_quorum(&self) -> Result<()> {
        let Some(quorum) = &self.quorum else {
            return Ok(());
        };
        let ids = |replicas: &[QuorumReplica]| {
            let ids = replicas
                .iter()
                .map(|replica| match self.metadata_lag(replica) {
                    Some(lag) if lag > 0 => format!("{} (lag {lag})", replica.id),
                    _ => replica.id.to_string(),
                });
            let ids: Vec<_> = ids.collect();
            if ids.is_empty() {
                "-".to_owned()
            } else {
                ids.join(", ")
            }
        };
        print_line(&format!(
            "metadata quorum: leader {}  epoch {}  high watermark {}  voters {}  observers {}",
            quorum.leader,
            quorum.leader_epoch,
            quorum.high_watermark,
            ids(&quorum.voters),
            ids(&quorum.observers),
        ))
    }

    fn print_brokers(&self) -> Result<()> {
        let titles = [
            "BROKER", "ADDRESS", "RACK", "STATE", "METADATA", "REPLICAS", "LEADS", "SIZE", "ROLES",
        ];
        let mut table = Table::new(&titles);
        for broker in &self.brokers {
            let id = broker.node.id;
            let (replicas, leads) = self.held_by(id);
            let size = self.log_dirs.get(&id).map(|dirs| total(dirs));
            table.row([
                id.to_string(),
                broker.node.address(),
                broker.node.rack.clone().unwrap_or_else(|| "-".to_owned()),
                state(broker).to_owned(),
                self.newest_version(id).map_or("-".to_owned(), |newest| {
                    format!("up to {}", level(FEATURE, newest))
                }),
                replicas.to_string(),
                leads.to_string(),
                size.map_or("-".to_owned(), format_size),
                self.roles(id),
            ]);
        }
        for (id, address) in self.controllers_alone() {
            let [rack, state, metadata, replicas, leads, size] = [(); 6].map(|()| "-".to_owned());
            let roles = self.roles(id);
            let id = id.to_string();
            table.row([
                id, address, rack, state, metadata, replicas, leads, size, roles,
            ]);
        }
        table.print()
    }

    /// What a node is in the cluster.
    fn roles(&self, id: i32) -> String {
        let quorum = self.quorum.as_ref();
        let is_broker = self.brokers.iter().any(|broker| broker.node.id == id);
        let votes = quorum.is_some_and(|quorum| quorum.voters.iter().any(|voter| voter.id == id));
        let controller = match quorum {
            Some(quorum) if quorum.leader == id => Some("active controller"),
            _ => votes.then_some("controller"),
        };
        let roles = [is_broker.then_some("broker"), controller];
        roles.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The voters that are no brokers, and where they are reached, as far as the cluster tells it.
    fn controllers_alone(&self) -> Vec<(i32, String)> {
        let Some(quorum) = &self.quorum else {
            return Vec::new();
        };
        let voters = quorum.voters.iter().map(|voter| voter.id);
        let alone = voters.filter(|id| self.brokers.iter().all(|broker| broker.node.id != *id));
        let address = |id: i32| {
            let mut endpoints = quorum.controllers.iter();
            let endpoint = endpoints.find(|endpoint| endpoint.node == id);
            endpoint.map_or_else(|| "-".to_owned(), ControllerEndpoint::address)
        };
        alone.map(|id| (id, address(id))).collect()
    }

    fn print_log_dirs(&self) -> Result<()> {
        let mut table = Table::new(&["BROKER", "LOG DIRECTORY", "REPLICAS", "SIZE", "FREE", "OF"]);
        for (node, directories) in &self.log_dirs {
            for directory in directories {
                let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), format_size);
                table.row([
                    node.to_string(),
                    directory.path.clone(),
                    directory.replicas.len().to_string(),
                    format_size(directory.size()),
                    size(directory.usable_bytes),
                    size(directory.total_bytes),
                ]);
            }
        }
        table.print()
    }

    fn print_features(&self) -> Result<()> {
        let mut table = Table::new(&["FEATURE", "LEVEL", "SUPPORTED BY ALL"]);
        for (name, feature) in self.shared_features() {
            table.row([
                name.to_owned(),
                level(name, feature.finalized),
                format!("{} to {}", feature.lowest, feature.highest),
            ]);
        }
        table.print()
    }

    /// The JSON document.
    pub fn to_json(&self) -> Value {
        let brokers = self.brokers.iter().map(|broker| {
            let id = broker.node.id;
            let (replicas, leads) = self.held_by(id);
            json!({
                "id": id,
                "host": broker.node.host,
                "port": broker.node.port,
                "rack": broker.node.rack,
                "fenced": broker.is_fenced,
                "newest_metadata_version": self.newest_version(id),
                "replicas": replicas,
                "leads": leads,
                "log_dirs": self.log_dirs.get(&id).map(|dirs| dirs.iter().map(log_dir).collect::<Value>()),
            })
        });
        let features = self.shared_features().into_iter().map(|(name, feature)| {
            let version = version_name(name, feature.finalized);
            json!({
                "name": name, "level": feature.finalized, "version": version,
                "lowest": feature.lowest, "highest": feature.highest,
            })
        });
        json!({
            "cluster_id": self.metadata.cluster_id,
            "topics": self.metadata.topics.len(),
            "partitions": self.partitions(),
            "quorum": self.quorum_to_json(),
            "brokers": brokers.collect::<Value>(),
            "features": features.collect::<Value>(),
            "if_lost": if_lost::all(self).iter().map(|lost| json!({
                "node": lost.node,
                "leaderless_partitions": lost.leaderless,
                "stops_metadata": lost.stops_metadata,
            })).collect::<Value>(),
            "warnings": voters::warnings(self),
            "problems": self.problems,
        })
    }

    fn quorum_to_json(&self) -> Option<Value> {
        let quorum = self.quorum.as_ref()?;
        let replicas = |replicas: &[QuorumReplica]| {
            let replicas = replicas.iter().map(|replica| {
                json!({
                    "id": replica.id,
                    "log_end_offset": replica.log_end_offset,
                    "lag": self.metadata_lag(replica),
                })
            });
            replicas.collect::<Value>()
        };
        Some(json!({
            "leader": quorum.leader,
            "leader_epoch": quorum.leader_epoch,
            "high_watermark": quorum.high_watermark,
            "voters": replicas(&quorum.voters),
            "observers": replicas(&quorum.observers),
        }))
    }

    /// How many committed metadata records the replica does not have yet.
    fn metadata_lag(&self, replica: &QuorumReplica) -> Option<i64> {
        let quorum = self.quorum.as_ref()?;
        Some((quorum.high_watermark - replica.log_end_offset?).max(0))
    }

    fn partitions(&self) -> usize {
        let topics = self.metadata.topics.values();
        topics.map(|topic| topic.partitions.len()).sum()
    }

    /// The number of replicas on a broker, and how many of them are leaders.
    fn held_by(&self, node: i32) -> (usize, usize) {
        let topics = self.metadata.topics.values();
        let partitions: Vec<_> = topics.flat_map(|topic| topic.partitions.values()).collect();
        let replicas = partitions.iter().filter(|of| of.replicas.contains(&node));
        let leads = partitions.iter().filter(|of| of.leader == Some(node));
        (replicas.count(), leads.count())
    }

    /// The newest `metadata.version` that a broker supports. It stands for the broker's release,
    /// because no API returns the release itself.
    fn newest_version(&self, node: i32) -> Option<i16> {
        let mut features = self.features.get(&node)?.iter();
        let feature = features.find(|feature| feature.name == FEATURE)?;
        Some(feature.highest)
    }

    /// The range of levels that all brokers support, for each feature.
    fn shared_features(&self) -> BTreeMap<&str, Feature> {
        let mut shared = BTreeMap::<&str, Feature>::new();
        for feature in self.features.values().flatten() {
            let range = shared
                .entry(&feature.name)
                .or_insert_with(|| feature.clone());
            range.lowest = range.lowest.max(feature.lowest);
            range.highest = range.highest.min(feature.highest);
        }
        shared.retain(|name, _| {
            let mut brokers = self.features.values();
            brokers.all(|of| of.iter().any(|feature| feature.name == *name))
        });
        shared
    }
}

fn state(broker: &Broker) -> &'static str {
    if broker.is_fenced { "fenced" } else { "up" }
}

fn total(directories: &[LogDir]) -> u64 {
    directories.iter().map(LogDir::size).sum()
}

fn version_name(feature: &str, level: i16) -> Option<&'static str> {
    let is_metadata = feature == FEATURE;
    is_metadata.then(|| MetadataVersion(level).name()).flatten()
}

/// `30 (4.3-IV0)`.
fn level(feature: &str, level: i16) -> String {
    match version_name(feature, level) {
        Some(name) => format!("{level} ({name})"),
        None => level.to_string(),
    }
}

fn log_dir(directory: &LogDir) -> Value {
    json!({
        "path": directory.path,
        "error": directory.error.map(code_name),
        "replicas": directory.replicas.len(),
        "size": directory.size(),
        "usable_bytes": directory.usable_bytes,
        "total_bytes": directory.total_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use ottla_client::admin::{Broker, ControllerEndpoint, Quorum, QuorumReplica};
    use ottla_client::{ClusterMetadata, Node};
    use ottla_protocol::ids::Uuid;

    use super::View;

    #[test]
    fn roles_are_told_and_a_controller_that_is_no_broker_is_shown() {
        let replica = |id| QuorumReplica {
            id,
            directory: Uuid::ZERO,
            log_end_offset: None,
        };
        let broker = |id| Broker {
            node: Node {
                id,
                host: "h".to_owned(),
                port: 9092,
                rack: None,
            },
            is_fenced: false,
        };
        let endpoint = ControllerEndpoint {
            node: 7,
            listener: "CONTROLLER".to_owned(),
            host: "c".to_owned(),
            port: 9093,
        };
        let view = View {
            metadata: Arc::new(ClusterMetadata::default()),
            brokers: vec![broker(1), broker(2), broker(3)],
            features: BTreeMap::new(),
            log_dirs: BTreeMap::new(),
            quorum: Some(Quorum {
                leader: 1,
                leader_epoch: 0,
                high_watermark: 0,
                voters: vec![replica(1), replica(2), replica(7)],
                observers: vec![replica(3)],
                controllers: vec![endpoint],
            }),
            problems: Vec::new(),
            are_partitions_well: true,
        };
        let roles = [1, 2, 3, 7].map(|id| view.roles(id));
        let told = [
            "broker, active controller",
            "broker, controller",
            "broker",
            "controller",
        ];
        assert_eq!(roles, told);
        assert_eq!(view.controllers_alone(), [(7, "c:9093".to_owned())]);
    }
}
