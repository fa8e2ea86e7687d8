//! Whether this node is ready, which `/ready` answers: it is registered, unfenced, has the committed metadata, and its
//! quorum is alive. Each condition that is not met is a sentence with the next step.
//!
//! What is wrong with a disk or a log does not belong here: such a node still serves the rest.

use std::time::Duration;

use ottla_protocol::ids::Offset;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::config::Roles;

/// How long metadata that is committed may take until it is applied. A node that takes longer is behind.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// While the metadata is not known, nothing else is.
pub const OPENING: &str = "starting: the log directories are opened, and the metadata is read; a broker waits here for its \
                           controllers (controller.quorum.bootstrap.servers); the log says what it waits for";

/// The place of this node in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the conditions that are told"
)]
pub struct Standing {
    /// Whether it is a broker, and not a controller only.
    pub is_broker: bool,
    /// Whether clients are served.
    pub is_serving: bool,
    /// Whether the controller has registered this process.
    pub is_registered: bool,
    pub is_fenced: bool,
    /// Whether there is an active controller, as far as this node can know.
    pub has_controller: bool,
    /// Metadata records that are committed and that this node has not applied in time.
    pub behind: i64,
}

impl Standing {
    /// Looks where this node stands. This waits a moment if it is behind.
    pub async fn of(broker: &Broker) -> Self {
        let is_broker = broker.config.quorum.roles != Roles::Controller;
        let quorum = broker.quorum.get();
        let has_leader = quorum.is_none_or(|quorum| quorum.borrow().leader.is_some());
        let hears = !is_broker || broker.has_controller();
        Self {
            is_broker,
            is_serving: broker.is_ready(),
            is_registered: broker.epoch() >= 0,
            is_fenced: broker.is_fenced(),
            has_controller: has_leader && hears,
            behind: behind(broker).await,
        }
    }

    /// Whether no condition is missing.
    pub fn is_ready(&self) -> bool {
        self.unmet().is_empty()
    }

    /// What is missing, and the next step.
    pub fn unmet(&self) -> Vec<String> {
        let mut unmet = Vec::new();
        if !self.has_controller {
            unmet.push(
                "no controller answers: no leader is elected and no metadata changes; start the controllers that are down, of \
                 which a majority is needed"
                    .to_owned(),
            );
        }
        if self.behind > 0 {
            unmet.push(format!(
                "behind with the metadata: {} committed records are not applied; look in the log for a disk that does not \
                 answer, and whether the controllers can be reached",
                self.behind
            ));
        }
        unmet.extend(self.of_broker().map(str::to_owned));
        unmet
    }

    /// What a broker lacks.
    fn of_broker(&self) -> Option<&'static str> {
        if !self.is_broker {
            return (!self.is_serving).then_some("starting or stopping");
        }
        if !self.is_registered {
            return Some(
                "not registered: the active controller has not taken this broker in yet; if it stays so, the log says why",
            );
        }
        if !self.is_serving {
            return Some(
                "starting or stopping: clients are not served; a start after a crash recovers the logs first, and the log says \
                 how far it is",
            );
        }
        self.is_fenced.then_some(
            "fenced: this broker leads nothing, because the controller does not hear from it or it has not caught up; check \
             the network to the controllers, and the log",
        )
    }
}

/// How many committed records are not applied in time.
async fn behind(broker: &Broker) -> i64 {
    let end = committed(broker);
    let applied = broker.controller.until_applied(end.0 - 1);
    // What is missing after the wait is counted.
    let _ = timeout(APPLIED_WITHIN, applied).await;
    (end.0 - broker.controller.applied().0).max(0)
}

/// The end of the committed metadata, as far as this node knows.
pub fn committed(broker: &Broker) -> Offset {
    match broker.quorum.get() {
        Some(status) => status.borrow().high_watermark,
        None => broker.controller.observed_end(),
    }
}

#[cfg(test)]
mod tests {
    use super::Standing;

    const READY: Standing = Standing {
        is_broker: true,
        is_serving: true,
        is_registered: true,
        is_fenced: false,
        has_controller: true,
        behind: 0,
    };

    #[test]
    fn each_condition_is_needed_and_named() {
        assert!(READY.is_ready());
        let lacking = |standing: Standing, part: &str| {
            let unmet = standing.unmet().join("\n");
            assert!(unmet.contains(part), "{unmet}");
        };
        lacking(
            Standing {
                has_controller: false,
                ..READY
            },
            "no controller answers",
        );
        lacking(Standing { behind: 7, ..READY }, "7 committed records");
        lacking(
            Standing {
                is_registered: false,
                ..READY
            },
            "not registered",
        );
        lacking(
            Standing {
                is_serving: false,
                ..READY
            },
            "clients are not served",
        );
        lacking(
            Standing {
                is_fenced: true,
                ..READY
            },
            "fenced: ",
        );
        let alone = Standing {
            is_broker: false,
            is_registered: false,
            is_fenced: true,
            ..READY
        };
        assert!(alone.is_ready(), "a controller is not registered");
    }
}
