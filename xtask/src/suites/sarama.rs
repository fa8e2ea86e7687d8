//! Sarama's functional tests.
//!
//! They expect five brokers behind toxiproxy, which cuts connections. Here all five proxies lead to
//! one broker, which advertises the first proxy (`sarama.properties`). They run in a copy with the
//! ports of these proxies and with one replica instead of three.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Outcomes, go_tests};
use crate::port;
use crate::time::pause;
use crate::toolbox::go;
use crate::toolbox::maven::KAFKA_VERSION;

/// How the tests compute the port of each proxy.
const PORTS: &str = "29090+i";
/// The line of the properties file with the advertised port.
const ADVERTISED: &str = "advertised.listeners=PLAINTEXT://127.0.0.1:";
/// The number of checks of a starting proxy, and the time between two.
const LOOKS: usize = 600;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(50);

/// Runs the suite.
pub fn run(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let mut ports = vec![advertised(log)?];
    while ports.len() < 5 {
        ports.push(port::free()?);
    }
    let proxy = Toxiproxy::start(bootstrap, &ports, log)?;
    let source = log.join("sarama");
    go_tests::copy(&go::sarama()?, &source)?;
    let listed: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let chosen = format!("[]int{{0, {}}}[i]", listed.join(", "));
    go_tests::alter(&source, |text| {
        // The spaces are those of gofmt.
        let text = text.replace("ReplicationFactor: 3,", "ReplicationFactor: 1,");
        text.replace(PORTS, &chosen)
    })?;
    let mut go_test = Command::new("go");
    go_test
        .args([
            "test",
            "-json",
            "-count=1",
            "-mod=mod",
            "-tags=functional",
            &format!("-run=^({})$", functional(&source)?.join("|")),
            "-timeout=1500s",
            ".",
        ])
        .env("TOXIPROXY_ADDR", format!("http://127.0.0.1:{}", proxy.port))
        .env("KAFKA_VERSION", KAFKA_VERSION)
        .current_dir(&source);
    let outcomes = go_tests::run(&mut go_test, log, "sarama.log");
    fs::remove_dir_all(source)?;
    outcomes
}

/// The names of the tests that need a broker: those in files `functional_*`.
fn functional(source: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("functional_")
        {
            let text = fs::read_to_string(entry.path())?;
            let declared = text.lines().filter_map(|line| {
                let rest = line.strip_prefix("func Test")?;
                Some(format!("Test{}", rest.split_once("(t *testing.T)")?.0))
            });
            names.extend(declared);
        }
    }
    ensure!(!names.is_empty(), "Sarama has no functional tests");
    Ok(names)
}

/// The port that the broker names to its clients.
fn advertised(log: &Path) -> Result<u16> {
    let properties = fs::read_to_string(log.join("server.properties"))?;
    let line = properties
        .lines()
        .find_map(|line| line.strip_prefix(ADVERTISED));
    Ok(line.context("the broker advertises no proxy")?.parse()?)
}

/// A running proxy, killed when dropped.
struct Toxiproxy {
    child: Child,
    port: u16,
}

impl Toxiproxy {
    /// Starts it with a proxy to the broker on each of these ports.
    fn start(broker: &str, ports: &[u16], log: &Path) -> Result<Self> {
        let proxies = (1..).zip(ports).map(|(number, port)| {
            serde_json::json!({
                "name": format!("kafka{number}"),
                "listen": format!("127.0.0.1:{port}"),
                "upstream": broker,
                "enabled": true,
            })
        });
        let config = log.join("toxiproxy.json");
        fs::write(&config, proxies.collect::<serde_json::Value>().to_string())?;
        let output = File::create(log.join("toxiproxy.log"))?;
        let port = port::free()?;
        let child = Command::new(go::toxiproxy()?)
            .args(["-host", "127.0.0.1", "-port", &port.to_string(), "-config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let proxy = Self { child, port };
        // The tests control the proxies over the extra port.
        let is_up = || {
            let commanded = TcpStream::connect(("127.0.0.1", port)).is_ok();
            commanded && ports.iter().all(|port| port::serves(*port))
        };
        for _ in 0..LOOKS {
            if is_up() {
                return Ok(proxy);
            }
            pause(BETWEEN_LOOKS);
        }
        ensure!(is_up(), "toxiproxy does not serve; see toxiproxy.log");
        Ok(proxy)
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        // The kill fails when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
