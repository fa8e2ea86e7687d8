//! Opens a node whose controllers are other nodes: its directories are locked, its cluster is found, and the metadata is
//! followed up to its end.
//!
//! Nothing is formatted before the controllers have answered: a directory of another cluster, and a cluster that cannot be
//! followed, are refused first. A new directory joins the cluster of the controllers. A metadata log that an earlier
//! process kept here, as a controller or as Apache Kafka, stays as it is.

use std::path::PathBuf;

use ottla_client::Options;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::ErrorCode;
use tokio::time::timeout;

use super::directories::{
    Identified, New, Taken, Usable, check_complete, cluster, identified, prepare, usable,
};
use super::in_turn::{ANSWERED_WITHIN, InTurn, describe};
use super::lock::DirectoryLock;
use super::refusals::{DirectoryError, StartError};
use crate::cluster::observe::{Identity, MetadataObserver};
use crate::config::{BrokerConfig, HostPort};
use crate::drivers::disk_work::blocking;
use crate::process::clock::Clock;

/// A node that follows the metadata of other nodes.
pub(super) struct Observed {
    /// `cluster.id`.
    pub(super) cluster_id: String,
    /// The ids of those of `log.dirs` that can be used, in their order.
    pub(super) directories: Vec<Uuid>,
    /// Those of `log.dirs` that cannot be used.
    pub(super) offline: Vec<PathBuf>,
    /// Whether the directories were new.
    pub(super) is_new: bool,
    /// Has applied all that was committed when it asked.
    pub(super) observer: MetadataObserver,
    /// Held as long as the directories are used.
    pub(super) locks: Vec<DirectoryLock>,
}

/// Locked directories, and what they say.
struct Accepted {
    taken: Taken,
    usable: Usable,
    cluster_id: Option<String>,
    directories: Vec<Identified>,
}

/// Opens the directories of this node, and follows the metadata of its cluster up to the end.
pub(super) async fn open(config: &BrokerConfig, clock: Clock) -> Result<Observed, StartError> {
    let of_disk = config.clone();
    let accepted = blocking(move || accept(&of_disk)).await?;
    let opened = follow(config, &accepted).await;
    let (is_new, cluster_id, observer) = match opened {
        Ok(opened) => opened,
        Err(refused) => {
            accepted.taken.undo();
            return Err(refused);
        }
    };
    let of_disk = config.clone();
    let (image, id) = (observer.image().0.clone(), cluster_id.clone());
    let accepted = blocking(move || {
        let states = (&accepted.usable.states[..], &accepted.directories[..]);
        let found = (&accepted.usable, &accepted.directories[..]);
        let checked = check_complete(&of_disk, &image, found).and_then(|()| {
            prepare(
                &of_disk,
                New {
                    cluster_id: &id,
                    joins: true,
                },
                states,
                clock.now().wall,
            )
        });
        match checked {
            Ok(()) => Ok(accepted),
            Err(refused) => {
                accepted.taken.undo();
                Err(refused)
            }
        }
    });
    let accepted = accepted.await?;
    let known = accepted.directories.iter();
    let of_logs = known.filter(|(path, _)| config.storage.log_dirs.contains(path));
    Ok(Observed {
        cluster_id,
        directories: of_logs.map(|(_, id)| *id).collect(),
        offline: accepted.usable.offline,
        is_new,
        observer,
        locks: accepted.taken.keep(),
    })
}

fn accept(config: &BrokerConfig) -> Result<Accepted, DirectoryError> {
    let mut taken = Taken::default();
    let found = usable(&config.storage, &mut taken)
        .and_then(|usable| Ok((cluster(config, &usable.states)?, usable)));
    match found {
        Ok((cluster_id, usable)) => Ok(Accepted {
            directories: identified(&usable.states),
            taken,
            usable,
            cluster_id,
        }),
        Err(refused) => {
            taken.undo();
            Err(refused)
        }
    }
}

/// Whether the directories are new, the id of the cluster, and a follower of its metadata that has caught up.
async fn follow(
    config: &BrokerConfig,
    accepted: &Accepted,
) -> Result<(bool, String, MetadataObserver), StartError> {
    let limit = config.quorum.registration_timeout;
    let servers: Vec<String> = config
        .quorum
        .controllers
        .iter()
        .map(HostPort::to_string)
        .collect();
    let cluster_id = match &accepted.cluster_id {
        Some(known) => known.clone(),
        None => timeout(limit, cluster_of(config, &servers))
            .await
            .map_err(|_| StartError::NoController(servers.join(",")))?,
    };
    let metadata = &config.storage.metadata_log_dir;
    let mut directories = accepted.directories.iter();
    let own = directories.find(|(path, _)| path == metadata);
    let identity = Identity {
        node: config.node_id,
        directory: own.map_or(Uuid::ZERO, |(_, id)| *id),
        cluster_id: cluster_id.clone(),
    };
    let mut observer = MetadataObserver::new(identity, servers.clone());
    let caught_up = async {
        while !observer.is_caught_up() {
            observer.next().await?;
        }
        Ok::<(), StartError>(())
    };
    timeout(limit, caught_up)
        .await
        .map_err(|_| StartError::NoController(servers.join(",")))??;
    Ok((accepted.cluster_id.is_none(), cluster_id, observer))
}

/// The id of the cluster of the first controller that answers.
async fn cluster_of(config: &BrokerConfig, servers: &[String]) -> String {
    let options = Options {
        client_id: format!("ottla-broker-{}", config.node_id),
        connect_timeout: ANSWERED_WITHIN,
        request_timeout: ANSWERED_WITHIN,
        ..Options::default()
    };
    let mut controllers = InTurn::new(servers.to_vec());
    loop {
        let server = controllers.next().await;
        match describe(&server, &options).await {
            Ok((_, answer)) if ErrorCode::from(answer.error_code) == ErrorCode::None => {
                return answer.cluster_id.as_str().to_owned();
            }
            Ok(_) => {}
            Err(error) => controllers.on_failure(&server, &error),
        }
    }
}
