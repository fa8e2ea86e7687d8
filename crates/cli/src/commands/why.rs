//! `ottla why`: asks brokers for their reasons, at the HTTP listeners where their metrics are (Ottla only).
//!
//! Which brokers lead the partitions, and where those listen, comes from the cluster: each tells its
//! `ottla.http.listen` as a config.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{Cluster, ErrorCode, Node};
use serde_json::Value;

use crate::connect::{Connect, block_on};
use crate::output::{Output, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla why compaction orders                   one line for each partition
  ottla why compaction orders-3                 for one partition
  ottla why -b kafka:9092 compaction orders     of that cluster
  ottla why --http 10.0.0.7:9464 compaction orders
                                                of one broker, wherever it tells that it listens";

/// No answer is larger.
const MAX_ANSWER: u64 = 256 << 20;

/// What `ottla why` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// Ask the broker with this HTTP listener, instead of those that lead the partitions.
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Why a topic was or was not compacted: what is dirty, when it is due, what cannot be read.
    Compaction {
        /// The topic, or a partition of it.
        #[arg(value_name = "TOPIC[-PARTITION]")]
        of: String,
    },
}

/// The key by which a broker tells where its HTTP listener is.
const LISTEN: &str = "ottla.http.listen";

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    let Question::Compaction { of } = &args.question;
    let listeners = match &args.http {
        Some(http) => vec![http.clone()],
        None => block_on(async {
            let cluster = args.connect.cluster().await?;
            listeners(&cluster, of).await
        })?,
    };
    let mut answers = Vec::new();
    for http in &listeners {
        if let Some(Value::Array(partitions)) = ask(http, of)? {
            answers.extend(partitions);
        }
    }
    if answers.is_empty() {
        bail!(
            "the broker at {} holds no topic or partition {of}; `ottla topic describe` says where its partitions are",
            listeners.join(", ")
        );
    }
    let answer = Value::Array(answers);
    match output {
        Output::Json => print_json(&answer),
        Output::Text => lines(&answer).iter().try_for_each(|line| print_line(line)),
    }
}

/// The HTTP listeners of the brokers that lead a topic, or a partition of it.
async fn listeners(cluster: &Cluster, of: &str) -> Result<Vec<String>> {
    let (topic, partition) = match (cluster.topic(of).await, partition_of(of)) {
        (Ok(topic), _) => (topic, None),
        (Err(error), Some((name, partition)))
            if error.code() == Some(ErrorCode::UnknownTopicOrPartition) =>
        {
            (cluster.topic(name).await?, Some(partition))
        }
        (Err(error), _) => return Err(error.into()),
    };
    let partitions = topic.partitions.iter();
    let asked = partitions.filter(|(index, _)| partition.is_none_or(|one| one == **index));
    let leaders: BTreeSet<_> = asked.filter_map(|(_, of)| of.leader).collect();
    if leaders.is_empty() {
        bail!(
            "{of} has no leader; `ottla topic describe {}` shows its partitions",
            topic.name
        );
    }
    let mut listeners = Vec::new();
    for leader in leaders {
        listeners.push(listener(cluster, leader).await?);
    }
    Ok(listeners)
}

/// The topic and the index in `orders-3`.
fn partition_of(of: &str) -> Option<(&str, i32)> {
    let (name, index) = of.rsplit_once('-')?;
    Some((name, index.parse().ok()?))
}

async fn listener(cluster: &Cluster, id: i32) -> Result<String> {
    let configs = cluster
        .describe_configs(&Resource::Broker(id), Documentation::Omitted)
        .await?;
    let mut configs = configs.iter();
    let Some(found) = configs.find(|config| config.name.as_str() == LISTEN) else {
        bail!("broker {id} is not Ottla's (it has no {LISTEN}): only Ottla tells its reasons");
    };
    let listen = found.value.as_ref().map_or("", |value| value.as_str());
    let metadata = cluster.metadata();
    let node = metadata
        .nodes
        .get(&id)
        .context("a leader that is no broker")?;
    reachable(listen, node)
}

/// Where a listener can be reached from here: one on all addresses, by the name of its broker.
fn reachable(listen: &str, node: &Node) -> Result<String> {
    let id = node.id;
    let Some((host, port)) = listen.rsplit_once(':').filter(|(_, port)| *port != "0") else {
        bail!(
            "broker {id} tells no address of an HTTP listener ({LISTEN}={listen}); --http names it"
        );
    };
    let address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let own = Node {
        port: port
            .parse()
            .with_context(|| format!("{LISTEN}={listen} of broker {id}"))?,
        ..node.clone()
    };
    match address(host) {
        Some(host) if host.is_unspecified() => Ok(own.address()),
        Some(host) if host.is_loopback() && !is_here(&node.host) => bail!(
            "the HTTP listener of broker {id} takes connections from its own host only ({LISTEN}={listen}); run the \
             command there, or --http names another way to it"
        ),
        _ => Ok(listen.to_owned()),
    }
}

/// Whether a broker's name says that it runs on this host.
fn is_here(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn lines(answer: &Value) -> Vec<&str> {
    let partitions = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let why = |partition| Value::get(partition, "why").and_then(Value::as_str);
    partitions.iter().filter_map(why).collect()
}

/// The broker's answer; nothing when it holds no such topic or partition.
fn ask(http: &str, of: &str) -> Result<Option<Value>> {
    let answer = request(http, of)?;
    match partition_of(of) {
        Some((topic, partition)) if answer.is_none() => {
            request(http, &format!("{topic}/{partition}"))
        }
        _ => Ok(answer),
    }
}

fn request(http: &str, of: &str) -> Result<Option<Value>> {
    let answer = get(http, &format!("/why/compaction/{of}"))
        .with_context(|| format!("no answer from {http}; --http names the broker's {LISTEN}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{http} does not answer in HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(Some(serde_json::from_str(body)?)),
        Some("404") => Ok(None),
        _ => bail!(
            "{http} answers: {}",
            head.lines().next().unwrap_or_default()
        ),
    }
}

/// A connection to the first of the host's addresses that takes one.
fn connect(http: &str, patience: Duration) -> Result<TcpStream> {
    let mut refused = None;
    for address in http.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.context("no such host")?.into())
}

fn get(http: &str, path: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let mut stream = connect(http, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer comes in one piece and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {http}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::{partition_of, reachable};
    use ottla_client::Node;

    fn node(host: &str) -> Node {
        Node {
            id: 7,
            host: host.to_owned(),
            port: 9092,
            rack: None,
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_its_brokers_name() {
        for (listen, host, expected) in [
            ("0.0.0.0:9464", "kafka-7", "kafka-7:9464"),
            ("[::]:9464", "fd00::7", "[fd00::7]:9464"),
            ("127.0.0.1:9464", "127.0.0.1", "127.0.0.1:9464"),
            ("127.0.0.1:9464", "localhost", "127.0.0.1:9464"),
            ("10.0.0.7:9464", "kafka-7", "10.0.0.7:9464"),
        ] {
            assert_eq!(
                reachable(listen, &node(host)).unwrap(),
                expected,
                "{listen}"
            );
        }
    }

    #[test]
    fn a_listener_that_cannot_be_reached_is_told() {
        for (listen, reason) in [
            ("127.0.0.1:9464", "its own host only"),
            ("127.0.0.1:0", "--http names it"),
            ("", "--http names it"),
        ] {
            let error = reachable(listen, &node("kafka-7")).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_partition_is_the_topic_and_a_number() {
        assert_eq!(partition_of("a-b-3"), Some(("a-b", 3)));
        assert_eq!(partition_of("a-b"), None);
    }
}
