//! `ottla partition`: moves partitions to named brokers, shows moves, and cancels them.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use clap::Subcommand;
use ottla_client::TopicPartition;
use ottla_client::admin::Move;
use serde_json::{Value, json};

use crate::connect::{Connect, block_on};
use crate::moving::{self, How, Moves};
use crate::output::{Output, Table, join, message, print_json, print_line};
use crate::partitions;
use crate::throttle;

const EXAMPLES: &str = "\
Examples:
  ottla partition move orders:3 --to 2,3,1     the first broker is the preferred leader
  ottla partition moves                        what is being moved
  ottla partition cancel orders:3              back to the replicas from before the move";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Move partitions to the named brokers, and wait until their replicas are in sync there.
    Move(MoveArgs),
    /// Show the partitions that are being moved.
    Moves(MovesArgs),
    /// Cancel moves of partitions.
    Cancel(CancelArgs),
}

#[derive(Debug, clap::Args)]
struct MoveArgs {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    how: How,
    /// The partitions; a topic without numbers means all of its partitions.
    #[arg(required = true, value_name = "TOPIC[:PARTITION,…]")]
    names: Vec<String>,
    /// The brokers that each of them will be on, the preferred leader first.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', required = true)]
    to: Vec<i32>,
}

#[derive(Debug, clap::Args)]
struct MovesArgs {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct CancelArgs {
    #[command(flatten)]
    connect: Connect,
    /// The partitions; a topic without numbers means all of its partitions.
    #[arg(required = true, value_name = "TOPIC[:PARTITION,…]")]
    names: Vec<String>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    block_on(async {
        match &args.action {
            Action::Move(args) => move_to(args, output).await,
            Action::Moves(args) => show(args, output).await,
            Action::Cancel(args) => cancel(args, output).await,
        }
    })
}

async fn move_to(args: &MoveArgs, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let named = partitions::named(&cluster, &args.names).await?;
    let metadata = cluster.refresh_all().await?;
    for id in &args.to {
        if !metadata.nodes.contains_key(id) {
            bail!("broker {id} is not running; `ottla cluster` shows the brokers");
        }
    }
    let targets = moving::targets(&metadata, &cluster.reassignments().await?);
    let is_there = |partition: &TopicPartition| targets.get(partition) == Some(&args.to);
    let moves: Moves = named
        .iter()
        .filter(|partition| !is_there(partition))
        .map(|partition| (partition.clone(), args.to.clone()))
        .collect();
    if output == Output::Text {
        for line in moving::lines(&moves, &targets) {
            print_line(&line)?;
        }
    }
    if !args.how.dry_run {
        let moving = async {
            moving::carry_out(&cluster, &moves, &args.how).await?;
            moving::wait_for(&cluster, |moved| named.contains(&moved.partition)).await
        };
        throttle::during(&cluster, throttle::topics(&named), &args.how, moving).await?;
    }
    match output {
        Output::Json => print_json(&json!({
            "dry_run": args.how.dry_run,
            "moves": moving::to_json(&moves, &targets),
        })),
        Output::Text if args.how.dry_run => {
            print_line(&format!("would move {} partitions", moves.len()))
        }
        Output::Text => print_line(&format!("moved {} partitions", moves.len())),
    }
}

async fn show(args: &MovesArgs, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let moves = cluster.reassignments().await?;
    if output == Output::Json {
        let moves = moves.iter().map(|moved| {
            json!({
                "topic": moved.partition.topic,
                "partition": moved.partition.partition,
                "replicas": moved.replicas,
                "adding": moved.adding,
                "removing": moved.removing,
            })
        });
        return print_json(&moves.collect::<Value>());
    }
    if moves.is_empty() {
        message("no partition is being moved");
        return Ok(());
    }
    let mut table = Table::new(&["PARTITION", "REPLICAS", "ADDING", "REMOVING"]);
    for moved in &moves {
        table.row([
            moved.partition.to_string(),
            join(&moved.replicas),
            join(&moved.adding),
            join(&moved.removing),
        ]);
    }
    table.print()
}

async fn cancel(args: &CancelArgs, output: Output) -> Result<()> {
    let cluster = args.connect.cluster().await?;
    let named = partitions::named(&cluster, &args.names).await?;
    let ongoing = cluster.reassignments().await?;
    let moved: BTreeSet<TopicPartition> = ongoing.into_iter().map(|it| it.partition).collect();
    let cancelled: Vec<Move> = named
        .intersection(&moved)
        .map(|partition| (partition.clone(), None))
        .collect();
    if cancelled.is_empty() {
        bail!(
            "none of these partitions is being moved; `ottla partition moves` shows those that are"
        );
    }
    let refused = cluster.reassign(&cancelled).await?;
    if !refused.is_empty() {
        let refused: Vec<String> = refused.iter().map(|(_, error)| error.to_string()).collect();
        bail!("{}", refused.join("; "));
    }
    match output {
        Output::Json => print_json(&json!({ "cancelled": cancelled.len() })),
        Output::Text => print_line(&format!("cancelled {} moves", cancelled.len())),
    }
}
