//! Connects commands to a cluster, and knows the next step for the client's errors.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use ottla_client::{ClientError, Cluster, ErrorCode, Options};

const DEFAULT_PORT: u16 = 9092;
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
const VARIABLE: &str = "OTTLA_BOOTSTRAP_SERVERS";
/// Java's `socket.connection.setup.timeout.ms`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A long-running command sees new partitions at the latest after this time.
const METADATA_MAX_AGE: Duration = Duration::from_secs(5);

/// The options for the connection.
#[derive(Debug, clap::Args)]
pub struct Connect {
    /// One or several brokers of the cluster, separated by commas.
    #[arg(
        short = 'b',
        long = "bootstrap-server",
        value_name = "HOST:PORT",
        env = VARIABLE,
        default_value = DEFAULT_BOOTSTRAP,
        value_delimiter = ',',
        help_heading = "Connection"
    )]
    bootstrap: Vec<String>,

    /// How long to wait for an answer, and how long to retry after errors that may pass.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600),
        help_heading = "Connection"
    )]
    timeout: u64,
}

impl Connect {
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Connects to the cluster.
    pub async fn cluster(&self) -> Result<Arc<Cluster>> {
        let addresses = addresses(&self.bootstrap, std::env::var(VARIABLE).ok().as_deref())?;
        let patience = self.patience();
        let options = Options {
            request_timeout: patience,
            retry_for: patience,
            connect_timeout: patience.min(CONNECT_TIMEOUT),
            metadata_max_age: METADATA_MAX_AGE,
            ..Options::default()
        };
        Ok(Arc::new(Cluster::connect(&addresses, options).await?))
    }
}

/// Runs a future on a runtime of one thread.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// Parses the addresses of the option or the variable: trims them and drops empty ones.
fn addresses(given: &[String], variable: Option<&str>) -> Result<Vec<String>> {
    let named = given.iter().map(|address| address.trim());
    let named: Vec<_> = named
        .filter(|address| !address.is_empty())
        .map(with_port)
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    // An empty variable counts as not set.
    if variable == Some(&given.join(",")) {
        return Ok(vec![DEFAULT_BOOTSTRAP.to_owned()]);
    }
    bail!("--bootstrap-server names no broker; give it as HOST:PORT")
}

fn with_port(address: &str) -> String {
    let host_ends = address.rfind(']').unwrap_or(0);
    if address[host_ends..].contains(':') {
        address.to_owned()
    } else {
        format!("{address}:{DEFAULT_PORT}")
    }
}

/// A request larger than this may exceed the broker's `socket.request.max.bytes`.
const LARGE_REQUEST: usize = 512 * 1024;

/// An error whose next step only the command knows.
#[derive(Debug)]
struct Advised {
    error: String,
    step: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

/// The error with this next step, instead of the usual one for its code.
pub fn advised(error: Error, step: String) -> Error {
    let text = error.to_string();
    error.context(Advised { error: text, step })
}

/// The next step for an error, where one is known.
pub fn next_step(error: &Error) -> Option<String> {
    if let Some(advised) = error.downcast_ref::<Advised>() {
        return Some(advised.step.clone());
    }
    let error = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>())?;
    let step = match error {
        ClientError::Connect { address, .. } => format!(
            "start a broker there (`ottla serve` starts one on 127.0.0.1:9092), or name another one \
             instead of {address}: --bootstrap-server HOST:PORT"
        ),
        ClientError::Resolve { .. } => {
            "check the spelling of --bootstrap-server; the brokers' own names come from their \
             `advertised.listeners`"
                .to_owned()
        }
        ClientError::TimedOut { .. } => {
            "look in the broker's log whether it is overloaded or still starting; --timeout SECONDS waits longer".to_owned()
        }
        ClientError::Disconnected { bytes, .. } if *bytes > LARGE_REQUEST => format!(
            "the request had {bytes} bytes: compare it with the broker's `socket.request.max.bytes`, and look in its \
             log why it closed the connection; a smaller --batch-size makes smaller requests"
        ),
        ClientError::Disconnected { .. } | ClientError::FrameTooLarge { .. } => {
            "check that the port is a PLAINTEXT listener of a Kafka broker; the broker's log names \
             the reason if it closed the connection"
                .to_owned()
        }
        ClientError::Unsupported { .. } => {
            "the broker is too old or does not serve this; Kafka 3.0 or later is needed".to_owned()
        }
        ClientError::Refused { code, .. } => step_for(*code)?.to_owned(),
        ClientError::Encode { .. }
        | ClientError::NotSent
        | ClientError::Malformed { .. }
        | ClientError::CorruptRecords { .. }
        | ClientError::UnknownNode(_) => return None,
    };
    Some(step)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "advice exists for some of Kafka's hundred codes only"
)]
fn step_for(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopicOrPartition => {
            "`ottla topic list` shows the existing topics, `ottla topic create NAME` creates one"
        }
        ErrorCode::TopicAlreadyExists => {
            "`ottla topic describe NAME` shows it; with --if-not-exists this is not an error"
        }
        ErrorCode::GroupIdNotFound => "`ottla group list` shows the existing groups",
        ErrorCode::NonEmptyGroup => {
            "stop its members first; `ottla group describe GROUP` shows who they are"
        }
        ErrorCode::UnknownMemberId => {
            "the group has members, which commit offsets themselves: stop them first; \
             `ottla group describe GROUP` shows who they are"
        }
        ErrorCode::GroupSubscribedToTopic => "stop the members that read the topic first",
        ErrorCode::InvalidReplicationFactor => {
            "the cluster has fewer brokers than that; give a smaller --replication-factor"
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "raise the topic's `max.message.bytes` (`ottla config set --topic NAME max.message.bytes=BYTES`), or leave \
             out the record"
        }
        ErrorCode::InvalidConfig => {
            "`ottla config describe --topic NAME --all --docs` shows the names, values and meanings"
        }
        ErrorCode::InvalidPartitions => {
            "partitions can be added but not removed; `ottla topic describe NAME` shows the existing ones"
        }
        ErrorCode::InvalidRecord => {
            "a compacted topic takes only records with a key: --key or --key-separator"
        }
        ErrorCode::InvalidTopicException => {
            "a topic's name has at most 249 letters, digits, `.`, `_` and `-`"
        }
        ErrorCode::LeaderNotAvailable => {
            "`ottla cluster` shows what is wrong; the partition gets a leader when a broker with a replica \
             runs and the replica's log directory is online"
        }
        ErrorCode::OffsetOutOfRange => "`ottla topic describe NAME` shows the existing offsets",
        ErrorCode::CoordinatorNotAvailable => {
            "the cluster cannot create or load __consumer_offsets; on a single broker \
             `offsets.topic.replication.factor` must be 1"
        }
        ErrorCode::NotEnoughReplicas => {
            "`ottla topic describe NAME` shows which replicas are in sync; \
             `min.insync.replicas` says how many must be"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{addresses, advised, next_step, with_port};
    use crate::failure::to_json;
    use anyhow::Error;
    use ottla_client::{ClientError, ErrorCode};

    #[test]
    fn a_commands_own_next_step_takes_the_place_of_the_codes() {
        let refused = || {
            Error::from(ClientError::Refused {
                what: "configs of group g".to_owned(),
                code: ErrorCode::InvalidConfig,
                message: Some("too small".to_owned()),
            })
        };
        let plain = to_json(&refused());
        let advised = advised(refused(), "look at the group".to_owned());
        assert_eq!(next_step(&advised).unwrap(), "look at the group");
        let shown = to_json(&advised);
        for field in ["error", "cause", "code"] {
            assert_eq!(shown[field], plain[field], "{field}");
        }
    }

    #[test]
    fn a_host_alone_gets_kafkas_port() {
        for (given, dialled) in [
            ("kafka", "kafka:9092"),
            ("kafka:19092", "kafka:19092"),
            ("[::1]", "[::1]:9092"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(with_port(given), dialled);
        }
    }

    #[test]
    fn spaces_and_empty_parts_of_a_list_are_no_addresses() {
        let given = ["one:1", " two", "", " "].map(str::to_owned);
        assert_eq!(addresses(&given, None).unwrap(), ["one:1", "two:9092"]);
        assert!(addresses(&[" ".to_owned()], None).is_err());
    }

    #[test]
    fn an_empty_variable_means_the_default() {
        let given = [String::new()];
        assert_eq!(addresses(&given, Some("")).unwrap(), ["127.0.0.1:9092"]);
        // An empty option is an error, whatever the variable says.
        assert!(addresses(&given, Some("kafka:1")).is_err());
    }
}
