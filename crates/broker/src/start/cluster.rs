//! How a start reaches the metadata of its cluster: from the controller in this process, or from controllers elsewhere.

use std::sync::{Arc, mpsc};

use ottla_controller::Settings;
use ottla_controller::active::Published;
use ottla_metadata::Changes;
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::KafkaString;
use tokio::sync::watch;

use super::lock::DirectoryLock;
use super::quorum::{MemberStart, OpenedMember};
use super::refusals::{DirectoryError, StartError};
use super::threads::{ControllerThread, follow_controller, run_controller};
use super::{joining, metadata_log, observed};
use crate::broker::Broker;
use crate::cluster::channel::{Caller, Controller};
use crate::cluster::observe::MetadataObserver;
use crate::cluster::quorum_inbox::QuorumInbox;
use crate::cluster::remote_controller::{Knowledge, RemoteController};
use crate::cluster::sessions::{self, Sessions};
use crate::config::{BrokerConfig, Roles};
use crate::drivers::controller::{self, ControllerLoop, Follower};
use crate::drivers::disk_work::blocking;
use crate::drivers::raft_quorum::RaftQuorum;
use crate::drivers::stopping::stopped;
use crate::process::clock::Clock;
use ottla_log::files::disk::Disk;
use ottla_quorum::{ControllerLogError, LogView, QuorumStatus, Replicas};

/// A node that has its metadata, and has written nothing else.
pub(super) struct Opened {
    pub(super) config: BrokerConfig,
    /// `cluster.id`.
    pub(super) cluster_id: KafkaString,
    /// The ids of `log.dirs`.
    pub(super) directories: Vec<Uuid>,
    /// Whether the directories were new, and have been formatted.
    pub(super) is_new: bool,
    pub(super) controller: Controller,
    pub(super) metadata: Metadata,
    pub(super) locks: Vec<DirectoryLock>,
}

/// Where the metadata comes from, and the threads and tasks to be.
pub(super) enum Metadata {
    /// The controller of this process is the only one, and leads.
    Own(MemberStart),
    /// The controller of this process is one of several.
    Shared(MemberStart),
    Elsewhere(Observation),
}

/// The controller of this process.
pub(super) struct OwnController {
    owner: Box<ControllerLoop<RaftQuorum>>,
    follower: Follower,
    status: watch::Receiver<QuorumStatus>,
    view: watch::Receiver<LogView<Disk>>,
    following: watch::Receiver<Replicas>,
}

/// The metadata log of other nodes.
pub(super) struct Observation {
    observer: Box<MetadataObserver>,
    committed: mpsc::Sender<Published<Caller>>,
    follower: Follower,
}

/// Opens this node by its role.
pub(super) async fn open(config: BrokerConfig, clock: Clock) -> Result<Opened, StartError> {
    match config.quorum.roles {
        Roles::BrokerAndController | Roles::Controller => own(config, clock).await,
        Roles::Broker => elsewhere(config, clock).await,
    }
}

async fn own(config: BrokerConfig, clock: Clock) -> Result<Opened, StartError> {
    let joined = joining::quorum(&config).await?;
    let (config, opened) = blocking(move || {
        let opened = metadata_log::open(&config, joined.as_ref(), clock);
        (config, opened)
    })
    .await;
    let opened = opened?;
    let config = config.without_directories(opened.offline);
    let mut is_alone = opened.member.quorum.is_alone();
    let (controller, mut own, inbox) = new_controller(opened.member, &config, clock);
    if is_alone {
        own = blocking(move || own.begin_alone().map(|()| own))
            .await
            .map_err(DirectoryError::Begin)?;
        // The end of the log may have added another voter.
        is_alone = own.status.borrow().voters.len() == 1;
    }
    let elsewhere = RemoteController::new(
        Knowledge::Member(own.status.clone()),
        config.node_id,
        &opened.cluster_id,
    );
    let controller = controller.or_elsewhere(elsewhere);
    let member = MemberStart { own, inbox };
    let metadata = if is_alone {
        Metadata::Own(member)
    } else {
        Metadata::Shared(member)
    };
    Ok(Opened {
        config,
        cluster_id: KafkaString::from(opened.cluster_id),
        directories: opened.directories,
        is_new: opened.is_new,
        controller,
        metadata,
        locks: opened.locks,
    })
}

/// The controller of this process, which does not run yet, and where the messages of others arrive.
fn new_controller(
    member: OpenedMember,
    config: &BrokerConfig,
    clock: Clock,
) -> (Controller, OwnController, Arc<QuorumInbox>) {
    let OpenedMember {
        metadata,
        quorum,
        inbox,
    } = member;
    let (status, view) = (quorum.follow_status(), quorum.follow_view());
    let following = quorum.follow_replicas();
    let (settings, sessions) = (settings(config), new_sessions(config, clock));
    let (controller, owner, follower) =
        controller::controller(metadata, settings, *quorum, sessions);
    let own = OwnController {
        owner: Box::new(owner),
        follower,
        status,
        view,
        following,
    };
    (controller, own, inbox)
}

async fn elsewhere(config: BrokerConfig, clock: Clock) -> Result<Opened, StartError> {
    let opened = observed::open(&config, clock).await?;
    let config = config.without_directories(opened.offline);
    let (image, end) = opened.observer.image();
    let (applied, committed, follower) = controller::follower(image.clone(), end);
    let active = opened.observer.follow_active();
    let sessions = new_sessions(&config, clock);
    let remote = RemoteController::new(
        Knowledge::Observed(active),
        config.node_id,
        &opened.cluster_id,
    );
    Ok(Opened {
        config,
        cluster_id: KafkaString::from(opened.cluster_id),
        directories: opened.directories,
        is_new: opened.is_new,
        controller: Controller::elsewhere(remote, applied, sessions),
        metadata: Metadata::Elsewhere(Observation {
            observer: Box::new(opened.observer),
            committed,
            follower,
        }),
        locks: opened.locks,
    })
}

fn new_sessions(config: &BrokerConfig, clock: Clock) -> Arc<Sessions> {
    let settings = sessions::Settings {
        own: config.node_id,
        timeout: config.metadata.broker_session,
        fences_unreachable: config.metadata.fences_unreachable,
    };
    Arc::new(Sessions::new(settings, clock))
}

fn settings(config: &BrokerConfig) -> Settings {
    Settings {
        default_partitions: config.topics.partitions,
        default_replication_factor: config.topics.replication_factor,
        delete_topics: config.topics.delete,
        statics: config.statics.clone(),
    }
}

impl OwnController {
    /// The first turn of the only controller. What it commits is published.
    fn begin_alone(&mut self) -> Result<(), ControllerLogError> {
        self.owner.begin_alone()?;
        self.follower.catch_up();
        Ok(())
    }

    /// Lets handlers see the metadata log.
    pub(super) fn show(&self, broker: &Broker) {
        let (status, view) = (self.status.clone(), self.view.clone());
        let is_first = broker.quorum.set(status).is_ok() && broker.metadata_log.set(view).is_ok();
        assert!(is_first, "a broker has one metadata log");
        broker.following.get_or_init(|| self.following.clone());
    }

    /// Starts the controller's threads. The partitions are open.
    pub(super) fn run(self, broker: &Arc<Broker>) -> Result<ControllerThread, StartError> {
        let (follower, thread) = self.run_controller(broker)?;
        follow_controller(broker, follower).map_err(StartError::Thread)?;
        Ok(thread)
    }

    /// Starts the thread of the controller. Nothing is applied before the follower runs.
    pub(super) fn run_controller(
        self,
        broker: &Arc<Broker>,
    ) -> Result<(Follower, ControllerThread), StartError> {
        let thread = run_controller(broker, *self.owner).map_err(StartError::Thread)?;
        Ok((self.follower, thread))
    }
}

impl Observation {
    /// Follows the metadata until it has the registration of this broker. No partition is open yet.
    pub(super) async fn until_registered(&mut self, broker: &Broker) -> Result<(), StartError> {
        while self.observer.image().1.0 <= broker.epoch() {
            self.observer.next().await?;
        }
        let (image, end) = self.observer.image();
        self.follower.begin_at(image.clone(), end);
        Ok(())
    }

    /// Starts the thread that applies the metadata, and returns the task that follows it. The partitions are open.
    pub(super) fn run(
        self,
        broker: &Arc<Broker>,
        stopping: watch::Receiver<bool>,
    ) -> Result<impl Future<Output = ()> + use<>, StartError> {
        follow_controller(broker, self.follower).map_err(StartError::Thread)?;
        let of_broker = Arc::clone(broker);
        Ok(observe(of_broker, self.observer, self.committed, stopping))
    }
}

/// Passes on what the controllers commit, until the broker stops.
async fn observe(
    broker: Arc<Broker>,
    mut observer: Box<MetadataObserver>,
    committed: mpsc::Sender<Published<Caller>>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let changes = tokio::select! {
            changes = observer.next() => changes,
            () = stopped(&mut stopping) => return,
        };
        match changes {
            Ok(changes) => {
                let (image, end) = observer.image();
                let is_changed = changes != Changes::default();
                let published = Published {
                    end,
                    metadata: is_changed.then(|| (image.clone(), changes)),
                    replies: Vec::new(),
                    unclean_elections: Vec::new(),
                };
                // A follower that has ended has published its last image.
                let _ = committed.send(published);
            }
            Err(error) => {
                tracing::error!(%error, "the metadata of the cluster cannot be followed any more: this broker must be started again");
                broker.set_ready(false);
                return;
            }
        }
    }
}
