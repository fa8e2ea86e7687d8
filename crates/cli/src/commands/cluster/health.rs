//! Finds what is wrong with a cluster, and describes it in sentences.

use std::collections::BTreeMap;

use anyhow::Result;
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{Cluster, PartitionMetadata, TopicPartition, code_name};

use super::View;

/// A sentence names at most this many partitions.
const NAMED: usize = 5;
/// A disk counts as nearly full when less than this percentage of it is free.
const NEARLY_FULL: u64 = 20;

/// Problems of partitions, the worst first.
pub async fn of_partitions(view: &View, cluster: &Cluster) -> Result<Vec<String>> {
    let below_minimum = below_minimum(view, cluster).await?;
    let problems = [leaderless(view), below_minimum, out_of_sync(view)];
    Ok(problems.into_iter().flatten().collect())
}

/// Problems of brokers and their disks.
pub fn of_brokers(view: &View) -> Vec<String> {
    let fenced = view.brokers.iter().filter(|broker| broker.is_fenced);
    let fenced = fenced.map(|broker| {
        let id = broker.node.id;
        format!(
            "broker {id} is fenced: the controller does not hear from it, or it has not caught up yet"
        )
    });
    fenced.chain(directories(view)).collect()
}

fn partitions(view: &View) -> impl Iterator<Item = (TopicPartition, &PartitionMetadata)> {
    view.metadata.topics.values().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|(index, partition)| (TopicPartition::new(&topic.name, *index), partition))
    })
}

fn leaderless(view: &View) -> Option<String> {
    let without = partitions(view).filter(|(_, partition)| partition.leader.is_none());
    let names: Vec<_> = without.map(|(of, _)| of).collect();
    sentence(&names, "no leader: nobody can read or write there")
}

fn out_of_sync(view: &View) -> Option<String> {
    let behind = partitions(view).filter(|(_, partition)| lacks_replicas(partition));
    let names: Vec<_> = behind.map(|(of, _)| of).collect();
    sentence(&names, "replicas that are not in sync")
}

fn lacks_replicas(partition: &PartitionMetadata) -> bool {
    partition.isr.len() < partition.replicas.len()
}

/// Partitions that refuse `acks=all`, because fewer replicas than `min.insync.replicas` are in
/// sync. The config is requested only for topics that lack in-sync replicas.
async fn below_minimum(view: &View, cluster: &Cluster) -> Result<Option<String>> {
    let mut minimums = BTreeMap::<String, usize>::new();
    let mut below = Vec::new();
    for (of, partition) in partitions(view) {
        if !lacks_replicas(partition) || partition.leader.is_none() {
            continue;
        }
        let minimum = if let Some(minimum) = minimums.get(&of.topic) {
            *minimum
        } else {
            let minimum = minimum_in_sync(cluster, &of.topic).await?;
            minimums.insert(of.topic.clone(), minimum);
            minimum
        };
        if partition.isr.len() < minimum {
            below.push(of);
        }
    }
    Ok(sentence(
        &below,
        "fewer replicas in sync than min.insync.replicas: acks=all is refused there",
    ))
}

async fn minimum_in_sync(cluster: &Cluster, topic: &str) -> Result<usize> {
    let resource = Resource::Topic(topic.to_owned());
    let configs = cluster
        .describe_configs(&resource, Documentation::Omitted)
        .await?;
    let mut configs = configs.iter();
    let found = configs.find(|config| config.name.as_str() == "min.insync.replicas");
    let value = found.and_then(|config| config.value.as_ref());
    Ok(value
        .and_then(|value| value.as_str().parse().ok())
        .unwrap_or(1))
}

fn sentence(partitions: &[TopicPartition], have: &str) -> Option<String> {
    let (verb, s) = match partitions.len() {
        0 => return None,
        1 => ("has", ""),
        _ => ("have", "s"),
    };
    let count = partitions.len();
    let mut names: Vec<_> = partitions
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    if count > NAMED {
        names.push(format!("and {} more", count - NAMED));
    }
    Some(format!(
        "{count} partition{s} {verb} {have}: {}",
        names.join(", ")
    ))
}

fn directories(view: &View) -> Vec<String> {
    let mut problems = Vec::new();
    for (node, directories) in &view.log_dirs {
        for directory in directories {
            let path = &directory.path;
            if let Some(code) = directory.error {
                let code = code_name(code);
                problems.push(format!(
                    "log directory {path} of broker {node} cannot be used: {code}"
                ));
            }
            let (usable, total) = (directory.usable_bytes, directory.total_bytes);
            if let (Some(usable), Some(total)) = (usable, total)
                && usable < total / NEARLY_FULL
            {
                let share = 100 / NEARLY_FULL;
                problems.push(format!(
                    "log directory {path} of broker {node} has less than {share} % of its disk free"
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::sentence;
    use ottla_client::TopicPartition;

    #[test]
    fn a_problem_counts_partitions_and_names_some() {
        let partitions: Vec<_> = (0..7)
            .map(|index| TopicPartition::new("a", index))
            .collect();
        assert_eq!(sentence(&[], "no leader"), None);
        let one = sentence(&partitions[..1], "no leader");
        assert_eq!(one.unwrap(), "1 partition has no leader: a-0");
        let many = sentence(&partitions, "no leader");
        assert_eq!(
            many.unwrap(),
            "7 partitions have no leader: a-0, a-1, a-2, a-3, a-4, and 2 more"
        );
    }
}
