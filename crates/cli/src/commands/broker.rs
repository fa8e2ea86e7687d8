//! `ottla broker`: drains a broker, and removes it from the cluster.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use ottla_client::Cluster;
use ottla_client::admin::Reassignment;
use ottla_protocol::ids::Uuid;
use serde_json::json;

use crate::connect::{Connect, block_on};
use crate::moving::{self, How, Moves};
use crate::output::{Output, print_json, print_line};
use crate::throttle;

const EXAMPLES: &str = "\
Examples:
  ottla broker drain 3 --dry-run     shows where its replicas would go
  ottla broker drain 3               moves all its replicas to other brokers
  ottla broker remove 3              after it was stopped: the cluster forgets it";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Move all replicas of a broker to other brokers, so that it can be stopped for good.
    ///
    /// The broker goes on serving until its replicas are in sync elsewhere. When the command is
    /// interrupted, the same command continues.
    Drain(Drain),
    /// Make the cluster forget a broker that is stopped and has no replicas. If it was a controller
    /// too, it does not vote any more.
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
struct Drain {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    how: How,
    /// The broker.
    #[arg(value_name = "ID")]
    id: i32,
}

#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    connect: Connect,
    /// The broker.
    #[arg(value_name = "ID")]
    id: i32,
    /// Remove it although it has replicas: their partitions then have fewer replicas in sync than
    /// they should, until they are moved.
    #[arg(long)]
    with_replicas: bool,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::Drain(args) => drain(args, output).await,
            Action::Remove(args) => remove(args, output).await,
        }
    })
}

async fn drain(args: &Drain, output: Output) -> Result<()> {
    let (id, cluster) = (args.id, args.connect.cluster().await?);
    ensure_known(&cluster, id).await?;
    let metadata = cluster.refresh_all().await?;
    let ongoing = cluster.reassignments().await?;
    let targets = moving::targets(&metadata, &ongoing);
    let mut placing = moving::placing(&cluster, &targets, Some(id)).await?;
    let mut moves = Moves::new();
    for (partition, replicas) in targets
        .iter()
        .filter(|(_, replicas)| replicas.contains(&id))
    {
        let without = placing.without(replicas, id);
        moves.insert(
            partition.clone(),
            without.with_context(|| partition.to_string())?,
        );
    }
    if output == Output::Text {
        for line in moving::lines(&moves, &targets) {
            print_line(&line)?;
        }
    }
    if !args.how.dry_run {
        let leaves = |moved: &Reassignment| moved.removing.contains(&id);
        let moving = async {
            moving::carry_out(&cluster, &moves, &args.how).await?;
            moving::wait_for(&cluster, leaves).await
        };
        let begun = ongoing.iter().filter(|moved| leaves(moved));
        let begun = begun.map(|moved| &moved.partition);
        let mut topics = throttle::topics(moves.keys().chain(begun));
        topics.extend(throttle::left(&cluster, &args.how).await?);
        throttle::during(&cluster, topics, &args.how, moving).await?;
    }
    match output {
        Output::Json => print_json(&json!({
            "broker": id,
            "dry_run": args.how.dry_run,
            "moves": moving::to_json(&moves, &targets),
        })),
        Output::Text if args.how.dry_run => print_line(&format!(
            "would move {} replicas from broker {id}",
            moves.len()
        )),
        Output::Text => print_line(&format!(
            "broker {id} has no replicas: stop it, then `ottla broker remove {id}`"
        )),
    }
}

async fn ensure_known(cluster: &Cluster, id: i32) -> Result<()> {
    let brokers = cluster.describe_cluster().await?;
    if brokers.iter().any(|broker| broker.node.id == id) {
        return Ok(());
    }
    let known: Vec<String> = brokers
        .iter()
        .map(|broker| broker.node.id.to_string())
        .collect();
    bail!(
        "there is no broker {id}; the brokers are {}",
        known.join(", ")
    )
}

async fn remove(args: &Remove, output: Output) -> Result<()> {
    let (id, cluster) = (args.id, args.connect.cluster().await?);
    let metadata = cluster.refresh_all().await?;
    let targets = moving::targets(&metadata, &[]);
    let held = targets
        .values()
        .filter(|replicas| replicas.contains(&id))
        .count();
    if held > 0 && !args.with_replicas {
        bail!(
            "broker {id} has {held} replicas; `ottla broker drain {id}` moves them, --with-replicas removes the broker \
             anyway"
        );
    }
    let brokers = cluster.describe_cluster().await?;
    if brokers
        .iter()
        .any(|broker| broker.node.id == id && !broker.is_fenced)
    {
        bail!("broker {id} is running; stop it first, it would register again");
    }
    let quorum = cluster.quorum().await?;
    let mut voters = quorum.voters.iter();
    let voter = voters.find(|voter| voter.id == id && voter.directory != Uuid::ZERO);
    if let Some(voter) = voter {
        cluster.remove_voter(id, voter.directory).await?;
    }
    cluster.unregister_broker(id).await?;
    match output {
        Output::Json => print_json(&json!({ "removed": id, "voted": voter.is_some() })),
        Output::Text if voter.is_some() => print_line(&format!(
            "removed broker {id}, which does not vote any more"
        )),
        Output::Text => print_line(&format!("removed broker {id}")),
    }
}
