//! `ottla topic delete`.
//!
//! Internal topics, and topics that live members of groups read, are deleted only with a flag.
//! Deleting the former loses all committed offsets; deleting the latter breaks running consumers.

use anyhow::{Result, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{Cluster, ErrorCode, TopicMetadata};
use serde_json::json;

use super::readers::Readers;
use super::sizes::Sizes;
use crate::connect::Connect;
use crate::outcomes::Outcomes;
use crate::output::{Output, message};
use crate::patterns;
use crate::quantity::format_size;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// The topics, or patterns of them ('test-*').
    #[arg(required = true, value_name = "TOPIC")]
    names: Vec<String>,
    /// Do not fail when a topic does not exist.
    #[arg(long)]
    if_exists: bool,
    /// Delete Kafka's own topics too (`__consumer_offsets` holds the offsets of all groups).
    #[arg(long)]
    internal: bool,
    /// Delete also topics that live members of groups read.
    #[arg(long)]
    in_use: bool,
    /// Only show what would be deleted, or why it would be refused.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: &Args, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let mut chosen = patterns::topics(&cluster, &args.names).await?;
    if args.if_exists {
        for pattern in chosen.unmatched.drain(..) {
            message(&format!("no topic matches {pattern:?}"));
        }
    }
    let readers = if args.in_use {
        Readers::default()
    } else {
        Readers::of_all(&cluster).await?
    };
    let preview = if args.dry_run {
        refuse_if_switched_off(&cluster).await?;
        Some(Sizes::of_all(&cluster).await)
    } else {
        None
    };
    let mut outcomes = Outcomes::of(output, &chosen, "topic");
    for name in &chosen.names {
        let done = match allowed(args, &cluster, name, &readers).await {
            Ok(topic) => match &preview {
                Some(sizes) => Ok(format!("would delete {}", summary(&topic, sizes))),
                None => cluster
                    .delete_topic(name)
                    .await
                    .map(|()| format!("deleted topic {name}"))
                    .map_err(anyhow::Error::from),
            },
            Err(error) => Err(error),
        };
        match done {
            Ok(line) => outcomes.done(&line, json!(name))?,
            Err(error) if args.if_exists && is_missing(&error) => {
                message(&format!("topic {name} does not exist"));
            }
            Err(error) => outcomes.failed(name, error),
        }
    }
    let (done, what) = if args.dry_run {
        ("would_delete", "topics would be refused")
    } else {
        ("deleted", "topics were not deleted")
    };
    outcomes.finish(done, what)
}

fn summary(topic: &TopicMetadata, sizes: &Sizes) -> String {
    let size = sizes.of_topic(&topic.name);
    format!(
        "topic {}: partitions {}, size {}",
        topic.name,
        topic.partitions.len(),
        size.map_or("-".to_owned(), format_size)
    )
}

fn is_missing(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<ottla_client::ClientError>();
    let code = refused.and_then(ottla_client::ClientError::code);
    code == Some(ErrorCode::UnknownTopicOrPartition)
}

/// Returns the topic if it may be deleted.
async fn allowed(
    args: &Args,
    cluster: &Cluster,
    name: &str,
    readers: &Readers,
) -> Result<TopicMetadata> {
    let topic = cluster.topic(name).await?;
    if topic.is_internal && !args.internal {
        bail!("topic {name} is one of Kafka's own; --internal deletes it anyway");
    }
    let reading = readers.of(name);
    if !reading.is_empty() {
        bail!(
            "topic {name} is read by live members of {}; stop them first, or delete it anyway with --in-use",
            reading.join(", ")
        );
    }
    Ok(topic)
}

/// DeleteTopics has no dry run. `delete.topic.enable=false` is the one refusal that is not about a
/// single topic.
async fn refuse_if_switched_off(cluster: &Cluster) -> Result<()> {
    const KEY: &str = "delete.topic.enable";
    let metadata = cluster.metadata();
    let Some(node) = metadata.nodes.keys().next() else {
        return Ok(());
    };
    let configs = cluster
        .describe_configs(&Resource::Broker(*node), Documentation::Omitted)
        .await?;
    let mut configs = configs.iter();
    let found = configs.find(|config| config.name.as_str() == KEY);
    let value = found.and_then(|config| config.value.as_ref());
    if value.is_some_and(|value| value.as_str() == "false") {
        bail!("no topic can be deleted: {KEY} is false on broker {node}");
    }
    Ok(())
}
