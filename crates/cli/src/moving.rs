//! Carries out moves of partitions: a bounded number at a time, with progress and an estimate, until they are done.
//!
//! The cluster copies the records. When the command ends early, it goes on with what has begun; a command that plans from
//! the state of the cluster continues where the last one ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::{Result, bail};
use ottla_client::admin::{Move, Reassignment};
use ottla_client::{Cluster, ClusterMetadata, TopicPartition};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::output::message;
use crate::placing::Placing;
use crate::quantity::{format_size, parse_size};

/// The time between two looks at the moves.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The time between two messages about them.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How moves are carried out.
#[derive(Debug, Clone, clap::Args)]
pub struct How {
    /// The number of partitions that are moved at a time: fewer leave more of the disks and the
    /// network to clients.
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub at_once: u16,
    /// The bytes a second that each broker sends, and fetches, for replicas that are not in sync yet
    /// (20MB). The throttle is taken back at the end; a command that is interrupted leaves it until
    /// the same command ends. `broker drain` takes it back from every topic that has `*` for both
    /// `leader.` and `follower.replication.throttled.replicas`.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub throttle: Option<u64>,
    /// Only show what would be done, and check what the cluster can check.
    #[arg(long)]
    pub dry_run: bool,
}

/// Changes of replicas, by partition.
pub type Moves = BTreeMap<TopicPartition, Vec<i32>>;

/// The replicas that a partition will have when its move is done.
pub fn target(of: &TopicPartition, replicas: &[i32], ongoing: &[Reassignment]) -> Vec<i32> {
    let moved = ongoing.iter().find(|moved| moved.partition == *of);
    let removing = moved.map_or(&[][..], |moved| &moved.removing);
    let staying = replicas.iter().filter(|id| !removing.contains(id));
    staying.copied().collect()
}

/// The replicas of all partitions when all moves are done.
pub fn targets(metadata: &ClusterMetadata, ongoing: &[Reassignment]) -> Moves {
    let mut targets = Moves::new();
    for topic in metadata.topics.values() {
        for (index, partition) in &topic.partitions {
            let of = TopicPartition::new(topic.name.as_str(), *index);
            let target = target(&of, &partition.replicas, ongoing);
            targets.insert(of, target);
        }
    }
    targets
}

/// The brokers that may get replicas: all that are not fenced, and not `except`.
pub async fn placing(cluster: &Cluster, targets: &Moves, except: Option<i32>) -> Result<Placing> {
    let brokers = cluster.describe_cluster().await?;
    let usable = brokers
        .into_iter()
        .filter(|broker| !broker.is_fenced && Some(broker.node.id) != except)
        .map(|broker| (broker.node.id, broker.node.rack));
    Ok(Placing::new(usable, targets.values().map(Vec::as_slice)))
}

/// What is moved, and how far it has come.
struct Moving<'a> {
    cluster: &'a Cluster,
    waiting: VecDeque<Move>,
    running: BTreeSet<TopicPartition>,
    refused: Vec<String>,
    total: usize,
    started: Instant,
    told: Instant,
    /// The bytes to be copied that were left at the first look.
    first_left: Option<u64>,
}

/// Carries out the moves. An error names those that the cluster refused.
pub async fn carry_out(cluster: &Cluster, moves: &Moves, how: &How) -> Result<()> {
    let mut moving = Moving {
        cluster,
        waiting: moves
            .iter()
            .map(|(partition, replicas)| (partition.clone(), Some(replicas.clone())))
            .collect(),
        running: BTreeSet::new(),
        refused: Vec::new(),
        total: moves.len(),
        started: Instant::now(),
        told: Instant::now(),
        first_left: None,
    };
    while moving.step(usize::from(how.at_once)).await? {
        sleep(LOOK_EVERY).await;
    }
    if !moving.refused.is_empty() {
        bail!("{}", moving.refused.join("; "));
    }
    let metadata = cluster.refresh_all().await?;
    let is_there = |(of, replicas): &(&TopicPartition, &Vec<i32>)| {
        let known = metadata.partition(of);
        // A topic that was deleted meanwhile needs no move.
        known.is_none_or(|known| {
            let (mut known, mut wanted) = (known.replicas.clone(), (*replicas).clone());
            known.sort_unstable();
            wanted.sort_unstable();
            known == wanted
        })
    };
    if let Some((other, _)) = moves.iter().find(|moved| !is_there(moved)) {
        bail!(
            "{other} has other replicas than those it was moved to: somebody else has changed or cancelled its move"
        );
    }
    Ok(())
}

impl Moving<'_> {
    /// Begins moves while there is room. Returns whether any are left.
    async fn step(&mut self, at_once: usize) -> Result<bool> {
        let ongoing = self.cluster.reassignments().await?;
        self.running
            .retain(|partition| ongoing.iter().any(|moved| moved.partition == *partition));
        let room = at_once.saturating_sub(self.running.len());
        let begun: Vec<Move> = self.waiting.drain(..room.min(self.waiting.len())).collect();
        if !begun.is_empty() {
            let refused = self.cluster.reassign(&begun).await?;
            self.running
                .extend(begun.into_iter().map(|(partition, _)| partition));
            for (partition, error) in refused {
                self.running.remove(&partition);
                self.refused.push(error.to_string());
            }
            return Ok(true);
        }
        if self.running.is_empty() {
            return Ok(false);
        }
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            self.tell(&ongoing).await;
        }
        Ok(true)
    }

    async fn tell(&mut self, ongoing: &[Reassignment]) {
        let done = self.total - self.running.len() - self.waiting.len();
        let left = self.left(ongoing).await;
        let first = *self.first_left.get_or_insert(left);
        let copied = first.saturating_sub(left);
        let estimate = estimate(copied, left, self.started.elapsed());
        message(&format!(
            "moved {done} of {} partitions; {} of those under way left to copy{}",
            self.total,
            format_size(left),
            if self.waiting.is_empty() {
                estimate
            } else {
                String::new()
            },
        ));
    }

    /// The bytes that the moves under way have still to copy.
    async fn left(&self, ongoing: &[Reassignment]) -> u64 {
        let mut sizes: BTreeMap<(TopicPartition, i32), u64> = BTreeMap::new();
        for node in self.cluster.metadata().nodes.keys() {
            for directory in self.cluster.log_dirs(*node).await.unwrap_or_default() {
                for (partition, size) in directory.replicas {
                    *sizes.entry((partition, *node)).or_default() += size;
                }
            }
        }
        let of = |moved: &Reassignment, id: &i32| {
            let size = sizes.get(&(moved.partition.clone(), *id));
            size.copied().unwrap_or(0)
        };
        let ours = ongoing
            .iter()
            .filter(|moved| self.running.contains(&moved.partition));
        ours.map(|moved| {
            let whole = moved
                .replicas
                .iter()
                .map(|id| of(moved, id))
                .max()
                .unwrap_or(0);
            let adding = moved.adding.iter();
            adding
                .map(|id| whole.saturating_sub(of(moved, id)))
                .sum::<u64>()
        })
        .sum()
    }
}

/// The time that the rest takes at the speed so far.
fn estimate(copied: u64, left: u64, elapsed: Duration) -> String {
    if copied == 0 {
        return String::new();
    }
    let seconds = u128::from(elapsed.as_secs().max(1)) * u128::from(left) / u128::from(copied);
    match seconds {
        0..120 => format!(", about {seconds} s"),
        _ => format!(", about {} min", seconds / 60),
    }
}

/// Waits until no move that `is_waited_for` accepts is under way, whoever began it.
pub async fn wait_for(
    cluster: &Cluster,
    is_waited_for: impl Fn(&Reassignment) -> bool,
) -> Result<()> {
    while cluster.reassignments().await?.iter().any(&is_waited_for) {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The moves for programs.
pub fn to_json(moves: &Moves, before: &Moves) -> Value {
    let one = |(partition, after): (&TopicPartition, &Vec<i32>)| {
        json!({
            "topic": partition.topic,
            "partition": partition.partition,
            "from": before.get(partition),
            "to": after,
        })
    };
    moves.iter().map(one).collect()
}

/// A line for each move.
pub fn lines(moves: &Moves, before: &Moves) -> Vec<String> {
    let text = |replicas: &[i32]| {
        let ids: Vec<String> = replicas.iter().map(ToString::to_string).collect();
        ids.join(",")
    };
    let line = |(partition, after): (&TopicPartition, &Vec<i32>)| {
        let before = before.get(partition).map_or(&[][..], Vec::as_slice);
        format!("{partition}: replicas {} to {}", text(before), text(after))
    };
    moves.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{estimate, target};
    use ottla_client::TopicPartition;
    use ottla_client::admin::Reassignment;
    use std::time::Duration;

    #[test]
    fn a_move_that_is_under_way_counts_as_done() {
        let of = TopicPartition::new("t", 0);
        let moved = Reassignment {
            partition: of.clone(),
            replicas: vec![2, 3, 1],
            adding: vec![2, 3],
            removing: vec![1],
        };
        assert_eq!(
            target(&of, &[2, 3, 1], std::slice::from_ref(&moved)),
            [2, 3]
        );
        assert_eq!(target(&TopicPartition::new("t", 1), &[1], &[moved]), [1]);
    }

    #[test]
    fn the_estimate_is_the_rest_at_the_speed_so_far() {
        let ten = Duration::from_secs(10);
        assert_eq!(estimate(0, 5, ten), "");
        assert_eq!(estimate(100, 300, ten), ", about 30 s");
        assert_eq!(estimate(100, 3_000, ten), ", about 5 min");
    }
}
