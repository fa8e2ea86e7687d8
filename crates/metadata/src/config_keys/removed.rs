//! Keys that Kafka had before 4.0, and what to do instead of setting them.

/// A key that no longer exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    pub name: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

const ZOOKEEPER: &str =
    "there is no ZooKeeper: remove it and set process.roles, node.id and controller.quorum.voters";
const FORMAT: &str = "records are always in message format 2: remove it";

const REMOVED: &[Removed] = &[
    Removed {
        name: "broker.id.generation.enable",
        instead: "set node.id",
    },
    Removed {
        name: "reserved.broker.max.id",
        instead: "set node.id",
    },
    Removed {
        name: "control.plane.listener.name",
        instead: "remove it; controllers have listeners of their own (controller.listener.names)",
    },
    Removed {
        name: "controlled.shutdown.max.retries",
        instead: "remove it",
    },
    Removed {
        name: "controlled.shutdown.retry.backoff.ms",
        instead: "remove it",
    },
    Removed {
        name: "delegation.token.master.key",
        instead: "use delegation.token.secret.key",
    },
    Removed {
        name: "inter.broker.protocol.version",
        instead: "remove it; metadata.version is raised by kafka-features",
    },
    Removed {
        name: "leader.imbalance.per.broker.percentage",
        instead: "remove it; leadership is balanced without a threshold",
    },
    Removed {
        name: "log.message.format.version",
        instead: FORMAT,
    },
    Removed {
        name: "log.message.downconversion.enable",
        instead: FORMAT,
    },
    Removed {
        name: "message.downconversion.enable",
        instead: FORMAT,
    },
    Removed {
        name: "message.format.version",
        instead: FORMAT,
    },
    Removed {
        name: "log.message.timestamp.difference.max.ms",
        instead: "use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
    },
    Removed {
        name: "message.timestamp.difference.max.ms",
        instead: "use message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    },
    Removed {
        name: "offsets.commit.required.acks",
        instead: "remove it; commits always wait for all in-sync replicas",
    },
    Removed {
        name: "password.encoder.secret",
        instead: ZOOKEEPER,
    },
    Removed {
        name: "metadata.log.zk.migration",
        instead: ZOOKEEPER,
    },
    Removed {
        name: "advertised.host.name",
        instead: "use advertised.listeners",
    },
    Removed {
        name: "advertised.port",
        instead: "use advertised.listeners",
    },
    Removed {
        name: "host.name",
        instead: "use listeners",
    },
    Removed {
        name: "port",
        instead: "use listeners",
    },
];

/// What to do instead of setting `name`, if it is a removed key.
pub fn removed(name: &str) -> Option<Removed> {
    if name.starts_with("zookeeper.") || name.starts_with("password.encoder.") {
        return Some(Removed {
            name: "zookeeper.*",
            instead: ZOOKEEPER,
        });
    }
    REMOVED.iter().copied().find(|key| key.name == name)
}
