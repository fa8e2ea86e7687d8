//! Asks the HTTP listeners of Ottla brokers, which also serve their metrics.
//!
//! A broker's config `ottla.http.listen` has the address.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ottla_client::admin::{Documentation, Resource};
use ottla_client::{Cluster, Node};
use ottla_protocol::messages::KafkaString;

/// At most this much of an answer is read.
const MAX_ANSWER: u64 = 256 << 20;

/// The config with the address of a broker's HTTP listener.
pub const LISTEN: &str = "ottla.http.listen";

/// An answer in HTTP.
#[derive(Debug)]
pub struct Answer {
    http: String,
    first_line: String,
    /// The number in its first line.
    pub status: String,
    pub body: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.trim_end().trim_end_matches('.');
        write!(out, "{} answers {}: {body}", self.http, self.first_line)
    }
}

/// The address of a broker's HTTP listener.
pub async fn listener(cluster: &Cluster, id: i32) -> Result<String> {
    let Some(listen) = published(cluster, id).await? else {
        bail!(
            "broker {id} is not an Ottla broker (it publishes no {LISTEN}), so it cannot be asked"
        );
    };
    reachable_of(cluster, id, &listen)
}

/// What a broker publishes as the address of its HTTP listener; `None` if it is not one of Ottla's. A broker of Apache Kafka
/// that finds the config in its file has it without a value.
pub async fn published(cluster: &Cluster, id: i32) -> Result<Option<String>> {
    let configs = cluster
        .describe_configs(&Resource::Broker(id), Documentation::Omitted)
        .await?;
    let mut configs = configs.into_iter();
    let found = configs.find(|config| config.name.as_str() == LISTEN);
    let value = |value: KafkaString| value.as_str().to_owned();
    Ok(found.and_then(|found| found.value).map(value))
}

/// The address under which this host reaches the published listener of a broker.
pub fn reachable_of(cluster: &Cluster, id: i32, listen: &str) -> Result<String> {
    let metadata = cluster.metadata();
    let node = metadata
        .nodes
        .get(&id)
        .context("the leader is not among the brokers")?;
    reachable(listen, node)
}

/// The address under which this host reaches a listener. A listener on all addresses is reached by
/// its broker's host name.
fn reachable(listen: &str, node: &Node) -> Result<String> {
    let id = node.id;
    let Some((host, port)) = listen.rsplit_once(':').filter(|(_, port)| *port != "0") else {
        bail!(
            "broker {id} does not publish the address of its HTTP listener ({LISTEN}={listen}); give it with --http"
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
             command there, or give another address with --http"
        ),
        _ => Ok(listen.to_owned()),
    }
}

/// Whether a broker's host name is a loopback address.
fn is_here(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Connects to the first of the host's addresses that accepts.
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

/// Asks for a path.
pub fn get(http: &str, path: &str) -> Result<Answer> {
    let answer = read(http, path).with_context(|| format!("no answer from {http}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{http} does not answer in HTTP"))?;
    Ok(Answer {
        http: http.to_owned(),
        first_line: head.lines().next().unwrap_or_default().to_owned(),
        status: head.split(' ').nth(1).unwrap_or_default().to_owned(),
        body: body.to_owned(),
    })
}

fn read(http: &str, path: &str) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let mut stream = connect(http, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {http}\r\n\r\n");
    // In one write: a port that is not for HTTP answers the first bytes, and closes the connection.
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::reachable;
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
            ("127.0.0.1:0", "with --http"),
            ("", "with --http"),
        ] {
            let error = reachable(listen, &node("kafka-7")).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
