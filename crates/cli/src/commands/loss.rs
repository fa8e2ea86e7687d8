//! `ottla loss`: what all nodes of a cluster have seen of lost records, from their loss ledgers.
//!
//! Each node has its own ledger, and is asked over its HTTP listener. Entries about one loss of a partition are shown as
//! one: they have the same new leader epoch. A node that does not answer is named, and the command fails after it has
//! shown the rest: that node may have seen more.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use ottla_client::Cluster;
use serde_json::{Value, json};

use crate::connect::{Connect, block_on};
use crate::http::{get, listener};
use crate::instant;
use crate::output::{Output, message, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla loss                                  every loss that a node of the cluster has seen
  ottla loss -b kafka:9092 --topic orders
  ottla loss --output json | jq .losses       for a check: empty when nothing is lost";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// Only the losses of this topic.
    #[arg(short, long, value_name = "TOPIC")]
    topic: Option<String>,
}

/// An entry of a node's ledger.
#[derive(Debug, Clone)]
struct Entry {
    time_ms: i64,
    node: i32,
    topic: String,
    topic_id: String,
    partition: i32,
    from: Option<i64>,
    to: Option<i64>,
    end: Option<i64>,
    old_leader: Option<i32>,
    new_leader: i32,
    old_epoch: Option<i32>,
    new_epoch: i32,
    what: String,
}

/// What the nodes say of one loss of a partition.
#[derive(Debug)]
struct Loss {
    entries: Vec<Entry>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let (entries, silent) = block_on(async {
        let cluster = args.connect.cluster().await?;
        ask_all(&cluster).await
    })?;
    let asked = |entry: &Entry| {
        args.topic
            .as_ref()
            .is_none_or(|topic| *topic == entry.topic)
    };
    let losses = merged(entries.into_iter().filter(asked));
    match output {
        Output::Json => print_json(&json!({
            "losses": losses.iter().map(Loss::to_json).collect::<Vec<_>>(),
            "silent": silent.iter().map(|(node, why)| json!({ "node": node, "why": why })).collect::<Vec<_>>(),
        }))?,
        Output::Text => {
            for loss in &losses {
                print_line(&loss.to_string())?;
            }
            if losses.is_empty() && silent.is_empty() {
                message("no node has seen a loss");
            }
        }
    }
    if silent.is_empty() {
        return Ok(());
    }
    let whys = silent
        .iter()
        .map(|(node, why)| format!("broker {node}: {why}"));
    bail!(
        "not all nodes answered, they may have seen more losses: {}",
        whys.collect::<Vec<_>>().join("; ")
    )
}

/// The entries of all brokers, and those that do not answer.
async fn ask_all(cluster: &Cluster) -> Result<(Vec<Entry>, Vec<(i32, String)>)> {
    let metadata = cluster.refresh_all().await?;
    let (mut entries, mut silent) = (Vec::new(), Vec::new());
    for node in metadata.nodes.keys() {
        let asked = match listener(cluster, *node).await {
            Ok(http) => ask(&http),
            Err(error) => Err(error),
        };
        match asked {
            Ok(of_node) => entries.extend(of_node),
            Err(error) => silent.push((*node, format!("{error:#}"))),
        }
    }
    Ok((entries, silent))
}

fn ask(http: &str) -> Result<Vec<Entry>> {
    let answer = get(http, "/loss")?;
    if answer.status != "200" {
        bail!("{answer}");
    }
    let entries: Vec<Value> = serde_json::from_str(&answer.body)?;
    let entries = entries.iter().map(Entry::parse);
    let entries: Option<Vec<Entry>> = entries.collect();
    entries.with_context(|| format!("{http} answers another version of this command"))
}

impl Entry {
    fn parse(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_i64();
        let small = |name: &str| i32::try_from(number(name)?).ok();
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        Some(Self {
            time_ms: number("time_ms")?,
            node: small("node")?,
            topic: text("topic")?,
            topic_id: text("topic_id")?,
            partition: small("partition")?,
            from: number("from"),
            to: number("to"),
            end: number("end"),
            old_leader: small("old_leader"),
            new_leader: small("new_leader")?,
            old_epoch: small("old_epoch"),
            new_epoch: small("new_epoch")?,
            what: text("what")?,
        })
    }
}

/// The losses, the oldest first.
fn merged(entries: impl Iterator<Item = Entry>) -> Vec<Loss> {
    let mut losses: BTreeMap<(String, i32, i32), Loss> = BTreeMap::new();
    for entry in entries {
        let key = (entry.topic_id.clone(), entry.partition, entry.new_epoch);
        let loss = losses.entry(key).or_insert(Loss {
            entries: Vec::new(),
        });
        loss.entries.push(entry);
    }
    let mut losses: Vec<Loss> = losses.into_values().collect();
    for loss in &mut losses {
        loss.entries.sort_by_key(|entry| entry.time_ms);
    }
    losses.sort_by_key(|loss| loss.first().time_ms);
    losses
}

impl Loss {
    fn first(&self) -> &Entry {
        self.entries.first().expect("a loss has an entry")
    }

    /// The smallest of a value that some nodes know.
    fn smallest<T: Ord>(&self, value: impl Fn(&Entry) -> Option<T>) -> Option<T> {
        self.entries.iter().filter_map(value).min()
    }

    fn largest<T: Ord>(&self, value: impl Fn(&Entry) -> Option<T>) -> Option<T> {
        self.entries.iter().filter_map(value).max()
    }

    fn from(&self) -> Option<i64> {
        self.smallest(|entry| entry.from)
    }

    fn to(&self) -> Option<i64> {
        self.largest(|entry| entry.to)
    }

    fn end(&self) -> Option<i64> {
        self.largest(|entry| entry.end)
    }

    /// What is known of the lost offsets.
    fn offsets(&self) -> String {
        match (self.from(), self.to(), self.end()) {
            (Some(from), Some(to), Some(end)) if to > from => {
                let more = if end > to {
                    format!(", perhaps up to {}", end - 1)
                } else {
                    String::new()
                };
                format!("offsets {from} to {} are lost{more}", to - 1)
            }
            (Some(from), _, Some(end)) if end > from => {
                format!(
                    "offsets {from} to {} were removed; whether they were acknowledged is not known",
                    end - 1
                )
            }
            (Some(from), _, _) if self.is_last_leader() => format!(
                "the broker that led last leads again from offset {from}: only what had not reached its disk is missing"
            ),
            (Some(from), _, _) => format!(
                "records from offset {from} on are lost if there were any; no node that had them has come back"
            ),
            (None, _, _) => "the new leader has not told yet which offsets it lacks".to_owned(),
        }
    }

    /// Whether the broker that led last was elected: no other one had more records.
    fn is_last_leader(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.what == "elected-last-leader")
    }

    fn cause(&self) -> &'static str {
        let has = |what: &str| self.entries.iter().any(|entry| entry.what == what);
        if has("elected-by-config") {
            "elected uncleanly, as unclean.leader.election.enable allows"
        } else if has("elected-by-request") {
            "elected uncleanly, as an ElectLeaders request asked"
        } else if has("elected-by-cancellation") {
            "elected uncleanly, because a reassignment was cancelled"
        } else if has("elected-last-leader") {
            "elected uncleanly: no replica was in sync, and it led last"
        } else if has("led") {
            "elected uncleanly"
        } else {
            "leader without the records"
        }
    }

    fn to_json(&self) -> Value {
        let first = self.first();
        json!({
            "topic": first.topic,
            "topic_id": first.topic_id,
            "partition": first.partition,
            "from": self.from(),
            "to": self.to(),
            "end": self.end(),
            "old_leader": self.smallest(|entry| entry.old_leader),
            "new_leader": first.new_leader,
            "old_epoch": self.largest(|entry| entry.old_epoch),
            "new_epoch": first.new_epoch,
            "time_ms": first.time_ms,
            "why": self.cause(),
            "seen_by": self.entries.iter().map(|entry| json!({
                "node": entry.node,
                "time_ms": entry.time_ms,
                "what": entry.what,
            })).collect::<Vec<_>>(),
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.first();
        write!(
            out,
            "{} {}-{}: {}; broker {} became leader in epoch {}, {}",
            instant::format(first.time_ms),
            first.topic,
            first.partition,
            self.offsets(),
            first.new_leader,
            first.new_epoch,
            self.cause(),
        )?;
        if let Some(old) = self.smallest(|entry| entry.old_leader) {
            write!(out, "; broker {old} led before")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, merged};

    fn entry(what: &str, node: i32, offsets: [Option<i64>; 3]) -> Entry {
        Entry {
            time_ms: i64::from(node),
            node,
            topic: "orders".to_owned(),
            topic_id: "id".to_owned(),
            partition: 3,
            from: offsets[0],
            to: offsets[1],
            end: offsets[2],
            old_leader: (node == 9).then_some(1),
            new_leader: 2,
            old_epoch: Some(4),
            new_epoch: 5,
            what: what.to_owned(),
        }
    }

    #[test]
    fn what_nodes_know_of_one_loss_is_one_line() {
        let elected = entry("elected-by-config", 9, [None; 3]);
        let led = entry("led", 2, [Some(10), None, None]);
        let removed = entry("removed-diverged", 1, [Some(10), Some(15), Some(17)]);
        let behind = entry("removed-diverged", 3, [Some(10), Some(12), Some(12)]);
        let line = |entries: &[&Entry]| {
            let losses = merged(entries.iter().copied().cloned());
            assert_eq!(losses.len(), 1);
            losses[0].to_string()
        };
        assert!(line(&[&elected]).contains("has not told yet"));
        assert!(line(&[&elected, &led]).contains("from offset 10 on"));
        let all = line(&[&elected, &led, &removed, &behind]);
        assert!(
            all.contains("orders-3: offsets 10 to 14 are lost, perhaps up to 16; broker 2"),
            "{all}"
        );
        assert!(all.ends_with("enable allows; broker 1 led before"), "{all}");
        let unsure = entry("removed-diverged", 1, [Some(10), Some(10), Some(12)]);
        assert!(line(&[&led, &unsure]).contains("10 to 11 were removed; whether"));
        let last = entry("elected-last-leader", 9, [None; 3]);
        assert!(line(&[&last, &led]).contains("led last leads again from offset 10"));
        let mut later = removed.clone();
        later.new_epoch = 6;
        assert_eq!(merged([removed, later].into_iter()).len(), 2);
    }
}
