//! `ottla topic list`.

use anyhow::Result;
use ottla_client::TopicMetadata;
use serde_json::json;

use super::sizes::Sizes;
use crate::connect::Connect;
use crate::output::{Output, Table, print_json};
use crate::quantity::format_size;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// Show Kafka's own topics too.
    #[arg(long)]
    internal: bool,
}

/// Lists the topics. The size is the sum over all replicas.
pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let metadata = cluster.refresh_all().await?;
    let sizes = Sizes::of_all(&cluster).await;
    let sizes = sizes.by_topic();
    let topics = metadata.topics.values();
    let shown: Vec<_> = topics
        .filter(|topic| args.internal || !topic.is_internal)
        .collect();
    let size = |topic: &TopicMetadata| sizes.get(topic.name.as_str()).copied();
    if output == Output::Json {
        let topics = shown.iter().map(|topic| {
            json!({
                "name": topic.name,
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "replication_factor": replication_factor(topic),
                "size": size(topic),
                "internal": topic.is_internal,
            })
        });
        return print_json(&topics.collect());
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS", "SIZE", "ID"]);
    for topic in shown {
        table.row([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            replication_factor(topic).to_string(),
            size(topic).map_or("-".to_owned(), format_size),
            topic.id.to_string(),
        ]);
    }
    table.print()
}

fn replication_factor(topic: &TopicMetadata) -> usize {
    let first = topic.partitions.values().next();
    first.map_or(0, |partition| partition.replicas.len())
}
