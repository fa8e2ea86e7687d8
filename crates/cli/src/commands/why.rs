//! `ottla why`: asks a broker for its reasons, at the HTTP listener where its metrics are (Ottla only).

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use serde_json::Value;

use crate::output::{Output, print_json, print_line};

const EXAMPLES: &str = "\
Examples:
  ottla why compaction orders        one line for each partition on that broker
  ottla why compaction orders-3      for one partition
  ottla why --http 10.0.0.7:9464 compaction orders";

/// No answer is larger.
const MAX_ANSWER: u64 = 256 << 20;

/// What `ottla why` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The broker's HTTP listener (its config `ottla.http.listen`).
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
    http: String,
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

/// Carries out the subcommand.
pub fn run(args: &Args, output: Output) -> Result<()> {
    let Question::Compaction { of } = &args.question;
    let mut answer = ask(&args.http, of)?;
    if answer.is_none()
        && let Some((topic, partition)) = of.rsplit_once('-')
        && partition.parse::<i32>().is_ok()
    {
        answer = ask(&args.http, &format!("{topic}/{partition}"))?;
    }
    let Some(answer) = answer else {
        bail!(
            "the broker at {} holds no topic or partition {of}; `ottla topic describe` says where its partitions are",
            args.http
        );
    };
    match output {
        Output::Json => print_json(&answer),
        Output::Text => lines(&answer).iter().try_for_each(|line| print_line(line)),
    }
}

fn lines(answer: &Value) -> Vec<&str> {
    let partitions = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let why = |partition| Value::get(partition, "why").and_then(Value::as_str);
    partitions.iter().filter_map(why).collect()
}

/// The broker's answer; nothing when it holds no such partition.
fn ask(http: &str, of: &str) -> Result<Option<Value>> {
    let answer = get(http, &format!("/why/compaction/{of}")).with_context(|| {
        format!("no answer from {http}; --http names the broker's ottla.http.listen")
    })?;
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
