//! The HTTP listener, asked over a socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use ottla_broker::config::{BrokerConfig, HostPort};
use ottla_broker::process::clock::Clock;
use ottla_broker::{Running, StartError};
use ottla_log::files::{FileError, Operation};

async fn broker(port: u16) -> Result<Running, StartError> {
    // Kept until the process ends: the broker may still close files in it when its test is over.
    let directory = tempfile::tempdir().unwrap().keep();
    let mut config = BrokerConfig::embedded(directory, 0);
    config.http = Some(HostPort {
        host: "127.0.0.1".to_owned(),
        port,
    });
    let key = "ottla.http.listen".to_owned();
    config
        .statics
        .values
        .insert(key, format!("127.0.0.1:{port}"));
    ottla_broker::start(config, Clock::start()).await
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_broker_is_live_and_ready_and_shows_its_metrics() {
    let running = broker(0).await.unwrap();
    let address = running.http_address.unwrap();
    assert!(get(address, "/live").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/ready").starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("application/openmetrics-text"));
    assert!(metrics.contains("\nottla_ready 1\n"));
    assert!(
        metrics.contains("kafka_network_requestmetrics_requests_total{request=\"ApiVersions\"} 0")
    );
    assert!(get(address, "/other").starts_with("HTTP/1.1 404"));
    running.broker.set_ready(false);
    assert!(get(address, "/ready").starts_with("HTTP/1.1 503"));
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_directory_that_has_failed_is_shown() {
    let running = broker(0).await.unwrap();
    let address = running.http_address.unwrap();
    let offline = |value| format!("state=\"offline\"}} {value}\n");
    assert!(get(address, "/metrics").contains(&offline(0)));
    assert!(!get(address, "/ready").contains("degraded"));
    let directory = &running.broker.replicas.directories()[0].log;
    let cause = std::io::Error::other("no such luck");
    directory.take_offline(FileError::new(Operation::Sync, directory.path(), cause));
    assert!(get(address, "/metrics").contains(&offline(1)));
    let ready = get(address, "/ready");
    assert!(ready.starts_with("HTTP/1.1 200"));
    assert!(
        ready.contains("is offline") && ready.contains("no such luck"),
        "{ready}"
    );
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_names_its_key() {
    let first = broker(0).await.unwrap();
    let refused = broker(first.http_address.unwrap().port())
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("ottla.http.listen"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_port_that_nobody_configured_is_replaced_by_a_free_one() {
    let first = broker(0).await.unwrap();
    let busy = first.http_address.unwrap().port();
    let mut config = BrokerConfig::embedded(tempfile::tempdir().unwrap().keep(), 0);
    config.http = Some(HostPort {
        host: "127.0.0.1".to_owned(),
        port: busy,
    });
    let second = ottla_broker::start(config, Clock::start()).await.unwrap();
    let address = second.http_address.unwrap();
    assert_ne!(address.port(), busy);
    assert!(get(address, "/ready").starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_knows_why_a_topic_that_is_not_there_is_not_compacted() {
    let running = broker(0).await.unwrap();
    let address = running.http_address.unwrap();
    assert!(get(address, "/why/compaction/t").starts_with("HTTP/1.1 404"));
    running.shut_down().await;
}
