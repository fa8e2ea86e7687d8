//! `ottla topic alter --replication-factor`: gives topics more or fewer replicas.
//!
//! It plans from the state of the cluster: partitions that have the replicas, or are getting them, stay as they are. So the
//! same command continues one that was interrupted. `min.insync.replicas` is raised last, when all replicas are in sync:
//! earlier it would refuse acks=all.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use ottla_client::admin::{ConfigChange, Documentation, Resource};
use ottla_client::{Cluster, TopicPartition};
use serde_json::json;

use crate::moving::{self, How, Moves};
use crate::output::{Output, message, print_json, print_line};
use crate::settings::validation;
use crate::throttle;

const MIN_IN_SYNC: &str = "min.insync.replicas";
/// `config_source` of a config that was set for the topic itself.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
/// The number of replicas from which two have to be in sync, as for new topics.
const REPLICATED: usize = 3;

/// Gives each partition of `topics` this many replicas.
pub async fn alter(
    cluster: &Cluster,
    topics: &[String],
    (factor, how): (usize, &How),
    output: Output,
) -> Result<()> {
    let metadata = cluster.refresh_all().await?;
    let ongoing = cluster.reassignments().await?;
    let targets = moving::targets(&metadata, &ongoing);
    let mut placing = moving::placing(cluster, &targets, None).await?;
    let is_named = |of: &TopicPartition| topics.contains(&of.topic);
    let mut moves = Moves::new();
    for (of, replicas) in targets.iter().filter(|(of, _)| is_named(of)) {
        if replicas.len() != factor {
            let resized = placing.resized(replicas, factor);
            moves.insert(
                of.clone(),
                resized.with_context(|| format!("topic {}", of.topic))?,
            );
        }
    }
    if output == Output::Text {
        for line in moving::lines(&moves, &targets) {
            print_line(&line)?;
        }
    }
    if !how.dry_run {
        let moving = async {
            moving::carry_out(cluster, &moves, how).await?;
            moving::wait_for(cluster, |moved| is_named(&moved.partition)).await
        };
        let all = topics.iter().cloned().collect();
        throttle::during(cluster, all, how, moving).await?;
    }
    let raised = raise_min_in_sync(cluster, topics, (factor, how)).await?;
    let changed: BTreeSet<&str> = moves.keys().map(|of| of.topic.as_str()).collect();
    if output == Output::Json {
        return print_json(&json!({
            "replication_factor": factor,
            "dry_run": how.dry_run,
            "moves": moving::to_json(&moves, &targets),
            "min_insync_replicas_raised": raised,
        }));
    }
    let verb = if how.dry_run { "would give" } else { "gave" };
    print_line(&format!(
        "{verb} {} partitions of {} topics {factor} replicas; {} partitions have them already",
        moves.len(),
        changed.len(),
        targets.keys().filter(|of| is_named(of)).count() - moves.len(),
    ))?;
    for topic in raised {
        let verb = if how.dry_run { "would set" } else { "set" };
        print_line(&format!("{verb} {MIN_IN_SYNC}=2 of topic {topic}"))?;
    }
    Ok(())
}

/// Raises `min.insync.replicas` to 2 where three or more replicas have 1 by default. Returns these topics.
async fn raise_min_in_sync(
    cluster: &Cluster,
    topics: &[String],
    (factor, how): (usize, &How),
) -> Result<Vec<String>> {
    let mut raised = Vec::new();
    if factor < REPLICATED {
        return Ok(raised);
    }
    for topic in topics {
        let resource = Resource::Topic(topic.clone());
        let configs = cluster
            .describe_configs(&resource, Documentation::Omitted)
            .await?;
        let mut configs = configs.iter();
        let Some(found) = configs.find(|config| config.name.as_str() == MIN_IN_SYNC) else {
            continue;
        };
        let is_one = found
            .value
            .as_ref()
            .is_some_and(|value| value.as_str() == "1");
        if !is_one {
            continue;
        }
        if found.config_source == DYNAMIC_TOPIC_CONFIG {
            message(&format!(
                "topic {topic} has {MIN_IN_SYNC}=1 of its own: the last replica in sync acknowledges alone"
            ));
            continue;
        }
        let two = BTreeMap::from([(MIN_IN_SYNC.to_owned(), ConfigChange::Set("2".to_owned()))]);
        cluster
            .alter_configs(&resource, &two, validation(how.dry_run))
            .await?;
        raised.push(topic.clone());
    }
    Ok(raised)
}
