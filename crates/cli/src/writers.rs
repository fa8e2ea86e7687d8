//! Which clients write without waiting for the replicas (acks=0 and acks=1), as all Ottla brokers of a cluster remember.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use ottla_client::Cluster;
use serde_json::{Value, json};

use crate::http::{get, published, reachable_of};
use crate::output::message;

/// A client of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub client_id: String,
    /// 0 or 1.
    pub acks: i64,
    /// When a broker saw it last, in milliseconds since the Unix epoch.
    pub last_ms: i64,
}

/// The clients by topic.
#[derive(Debug, Default)]
pub struct Writers {
    by_topic: BTreeMap<String, Vec<Writer>>,
}

impl Writers {
    /// Asks all brokers. Those that do not answer are named in a message; those of Apache Kafka do not know.
    pub async fn of_all(cluster: &Cluster) -> Self {
        let mut writers = Self::default();
        let metadata = cluster.metadata();
        let mut silent = Vec::new();
        for node in metadata.nodes.keys() {
            match ask(cluster, *node).await {
                Ok(told) => told
                    .into_iter()
                    .for_each(|(topic, writer)| writers.add(topic, writer)),
                Err(error) => silent.push(format!("broker {node}: {error:#}")),
            }
        }
        if !silent.is_empty() {
            message(&format!(
                "which clients write with acks=0 or acks=1 is not known of all brokers: {}",
                silent.join("; ")
            ));
        }
        writers
    }

    fn add(&mut self, topic: String, writer: Writer) {
        let known = self.by_topic.entry(topic).or_default();
        let same =
            |one: &&mut Writer| (&one.client_id, one.acks) == (&writer.client_id, writer.acks);
        match known.iter_mut().find(same) {
            Some(one) => one.last_ms = one.last_ms.max(writer.last_ms),
            None => known.push(writer),
        }
    }

    /// The clients of a topic.
    pub fn of_topic(&self, topic: &str) -> &[Writer] {
        self.by_topic.get(topic).map_or(&[], Vec::as_slice)
    }
}

async fn ask(cluster: &Cluster, node: i32) -> Result<Vec<(String, Writer)>> {
    let Some(listen) = published(cluster, node).await? else {
        return Ok(Vec::new());
    };
    let http = reachable_of(cluster, node, &listen)?;
    let answer = get(&http, "/acks")?;
    if answer.status != "200" {
        bail!("{answer}");
    }
    let told: Vec<Value> = serde_json::from_str(&answer.body)?;
    let told: Option<_> = told.iter().map(parse).collect();
    told.with_context(|| format!("{http} answers another version of this command"))
}

fn parse(value: &Value) -> Option<(String, Writer)> {
    let writer = Writer {
        client_id: value.get("client_id")?.as_str()?.to_owned(),
        acks: value.get("acks")?.as_i64()?,
        last_ms: value.get("last_ms")?.as_i64()?,
    };
    Some((value.get("topic")?.as_str()?.to_owned(), writer))
}

impl Writer {
    pub fn to_json(&self) -> Value {
        json!({ "client_id": self.client_id, "acks": self.acks, "last_ms": self.last_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::{Writer, Writers};

    #[test]
    fn what_several_brokers_saw_of_a_client_is_one() {
        let mut writers = Writers::default();
        for (client, acks, last_ms) in [("a", 1, 5), ("a", 1, 9), ("a", 0, 3), ("a", 1, 7)] {
            let writer = Writer {
                client_id: client.to_owned(),
                acks,
                last_ms,
            };
            writers.add("orders".to_owned(), writer);
        }
        let seen = |writer: &Writer| (writer.acks, writer.last_ms);
        let all: Vec<_> = writers.of_topic("orders").iter().map(seen).collect();
        assert_eq!(all, [(1, 9), (0, 3)]);
        assert!(writers.of_topic("other").is_empty());
    }
}
