//! Nodes with both roles in the process of the test, whose controllers form a quorum.

use std::path::Path;

use ottla_broker::config::{self, BrokerConfig, File};
use ottla_broker::process::clock::Clock;
use ottla_broker::{Running, StartError};
use tokio::task::JoinHandle;

pub const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAABg";

/// A node whose controller listens on the port of its id among `ports`. `quorum` has the lines that name the others.
pub fn config(root: &Path, node: usize, ports: &[u16], quorum: &str) -> BrokerConfig {
    let text = format!(
        "process.roles=broker,controller\nnode.id={node}\nlog.dirs={}\n\
         listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{}\n\
         controller.listener.names=CONTROLLER\n{quorum}\n\
         offsets.topic.replication.factor=1\nottla.http.listen=\n",
        root.join(node.to_string()).display(),
        ports[node - 1],
    );
    let file = File {
        name: "server.properties",
        text: &text,
    };
    config::load(Some(file), &[]).unwrap().config
}

pub fn start(config: BrokerConfig) -> JoinHandle<Result<Running, StartError>> {
    tokio::spawn(ottla_broker::start(config, Clock::start()))
}
