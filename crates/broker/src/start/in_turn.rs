//! Asks the controllers that the configuration names, one after the other and again, until one answers.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_protocol::messages::{DescribeClusterRequestData, DescribeClusterResponseData};
use tokio::time::sleep;

/// How long one controller may take to answer.
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// The time between two rounds over the controllers.
const PAUSE: Duration = Duration::from_millis(200);
/// The number of an endpoint type in DescribeCluster: controllers (KIP-919).
const CONTROLLERS: i8 = 2;

/// Which controller is asked next.
pub(super) struct InTurn {
    /// All that are known. What is added is asked from the next round on.
    pub(super) known: Vec<String>,
    /// Those that are left of this round.
    round: VecDeque<String>,
    is_logged: bool,
}

impl InTurn {
    pub(super) fn new(known: Vec<String>) -> Self {
        Self {
            round: known.iter().cloned().collect(),
            known,
            is_logged: false,
        }
    }

    /// The next controller, after a pause if all have been asked.
    pub(super) async fn next(&mut self) -> String {
        loop {
            if let Some(next) = self.round.pop_front() {
                return next;
            }
            sleep(PAUSE).await;
            self.round = self.known.iter().cloned().collect();
        }
    }

    /// A controller does not answer. The first failure is logged.
    pub(super) fn on_failure(&mut self, server: &str, error: &ClientError) {
        if !std::mem::replace(&mut self.is_logged, true) {
            tracing::warn!(
                controller = server,
                %error,
                "a controller does not answer; trying it and the others again (key controller.quorum.bootstrap.servers)"
            );
        }
    }
}

/// A connection to a controller, and what it says of its cluster.
pub(super) async fn describe(
    server: &str,
    options: &Options,
) -> Result<(Connection, DescribeClusterResponseData), ClientError> {
    let connection = Connection::open(server, options).await?;
    let request = DescribeClusterRequestData::default().with_endpoint_type(CONTROLLERS);
    let cluster = connection.call(&request).await?;
    Ok((connection, cluster))
}
