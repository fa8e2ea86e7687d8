//! `ottla why`: asks Ottla brokers why they did something, over the HTTP listener that also serves
//! their metrics.
//!
//! The cluster's metadata names the leaders of the partitions. Each leader's config
//! `ottla.http.listen` has the address.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use ottla_client::{Cluster, ErrorCode};
use serde_json::{Value, json};

use crate::connect::{Connect, block_on};
use crate::http::{LISTEN, get, listener};
use crate::output::{Output, print_json, print_line};
use crate::partitions;

const EXAMPLES: &str = "\
Examples:
  ottla why compaction orders                   one line for each partition
  ottla why compaction orders:3                 for one partition
  ottla why compaction orders -b kafka:9092     of that cluster
  ottla why compaction orders --http 10.0.0.7:9464
                                                of one broker, at this address";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Why a topic was or was not compacted: how much is dirty, when it is due, which batches
    /// cannot be read.
    Compaction(Compaction),
}

#[derive(Debug, clap::Args)]
struct Compaction {
    #[command(flatten)]
    connect: Connect,
    /// Ask the broker at this HTTP listener, instead of the leaders of the partitions.
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The topic, or some of its partitions. TOPIC-PARTITION, the form of the answers, works too.
    #[arg(value_name = "TOPIC[:PARTITION,…]")]
    of: String,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let Question::Compaction(args) = &args.question;
    let mut answers = if let Some(http) = &args.http {
        of_broker(http, &args.of)?
    } else {
        let asked = block_on(async {
            let cluster = args.connect.cluster().await?;
            Asked::find(&cluster, &args.of).await
        })?;
        asked.answers()?
    };
    answers.sort_by_key(partition_in);
    let answer = Value::Array(answers);
    match output {
        Output::Json => print_json(&answer),
        Output::Text => lines(&answer).iter().try_for_each(|line| print_line(line)),
    }
}

/// A topic's partitions, grouped by the HTTP listener of their leader.
struct Asked {
    topic: String,
    listeners: BTreeMap<String, BTreeSet<i32>>,
    /// Partitions without a leader, which no broker can answer for.
    leaderless: Vec<i32>,
}

impl Asked {
    async fn find(cluster: &Cluster, of: &str) -> Result<Self> {
        let (name, indexes) = partitions::split(of);
        let (topic, indexes) = match (cluster.topic(name).await, partition_of(name)) {
            (Ok(topic), _) => (topic, indexes.map(str::to_owned)),
            (Err(error), Some((name, index)))
                if indexes.is_none()
                    && error.code() == Some(ErrorCode::UnknownTopicOrPartition) =>
            {
                (cluster.topic(name).await?, Some(index.to_string()))
            }
            (Err(error), _) => return Err(error.into()),
        };
        let chosen = partitions::of_topic(cluster, &topic.name, indexes.as_deref()).await?;
        let mut led: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
        let mut leaderless = Vec::new();
        for index in chosen.iter().map(|partition| partition.partition) {
            if let Some(leader) = topic.partitions.get(&index).and_then(|of| of.leader) {
                led.entry(leader).or_default().insert(index);
            } else {
                leaderless.push(index);
            }
        }
        let mut listeners = BTreeMap::new();
        for (leader, indexes) in led {
            listeners.insert(listener(cluster, leader).await?, indexes);
        }
        Ok(Self {
            topic: topic.name,
            listeners,
            leaderless,
        })
    }

    fn answers(&self) -> Result<Vec<Value>> {
        let topic = &self.topic;
        let mut answers = Vec::new();
        for (http, indexes) in &self.listeners {
            let answer = request(http, topic)?.unwrap_or_default();
            let is_led = |answer: &Value| {
                let index = partition_in(answer).and_then(|index| i32::try_from(index).ok());
                index.is_some_and(|index| indexes.contains(&index))
            };
            answers.extend(answer.into_iter().filter(is_led));
        }
        answers.extend(self.leaderless.iter().map(|index| {
            let why =
                format!("{topic}-{index}: has no leader; `ottla cluster` shows what is wrong");
            json!({ "topic": topic, "partition": index, "why": why })
        }));
        if answers.is_empty() {
            bail!(
                "the brokers that lead topic {topic} do not know it: it has just moved or was deleted; \
                 `ottla topic describe {topic}` shows where its partitions are"
            );
        }
        Ok(answers)
    }
}

/// The answers of one broker.
fn of_broker(http: &str, of: &str) -> Result<Vec<Value>> {
    let mut answers = Vec::new();
    match partitions::split(of) {
        (topic, Some(indexes)) => {
            for index in indexes.split(',') {
                answers.extend(request(http, &format!("{topic}/{index}"))?.unwrap_or_default());
            }
        }
        (of, None) => answers.extend(ask(http, of)?.unwrap_or_default()),
    }
    if answers.is_empty() {
        bail!(
            "the broker at {http} holds no topic or partition {of}; `ottla topic describe` shows where its partitions \
             are"
        );
    }
    Ok(answers)
}

/// The topic and the index in `orders-3`.
fn partition_of(of: &str) -> Option<(&str, i32)> {
    let (name, index) = of.rsplit_once('-')?;
    Some((name, index.parse().ok()?))
}

/// The partition that an answer is about.
fn partition_in(answer: &Value) -> Option<i64> {
    answer.get("partition").and_then(Value::as_i64)
}

fn lines(answer: &Value) -> Vec<&str> {
    let partitions = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let why = |partition| Value::get(partition, "why").and_then(Value::as_str);
    partitions.iter().filter_map(why).collect()
}

/// Asks a broker about `orders` or `orders-3`; `None` when it has no such topic or partition.
fn ask(http: &str, of: &str) -> Result<Option<Vec<Value>>> {
    let answer = request(http, of)?;
    match partition_of(of) {
        Some((topic, partition)) if answer.is_none() => {
            request(http, &format!("{topic}/{partition}"))
        }
        _ => Ok(answer),
    }
}

fn request(http: &str, of: &str) -> Result<Option<Vec<Value>>> {
    let answer = get(http, &format!("/why/compaction/{of}"))
        .with_context(|| format!("give the broker's {LISTEN} with --http"))?;
    match answer.status.as_str() {
        "200" => Ok(Some(serde_json::from_str(&answer.body)?)),
        "404" => Ok(None),
        _ => bail!("{answer}; give the broker's {LISTEN} with --http"),
    }
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn a_partition_is_the_topic_and_a_number() {
        assert_eq!(partition_of("a-b-3"), Some(("a-b", 3)));
        assert_eq!(partition_of("a-b"), None);
    }
}
