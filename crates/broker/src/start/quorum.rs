//! Opens the metadata log of a controller: the only one, or one of several.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_controller::brokers::Registration;
use ottla_log::files::disk::Disk;
use ottla_metadata::{Loader, versions};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_quorum::{
    Arrived, InspectedNode, Location, Member, RaftNode, Settings, Voter, VoterEndpoint,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::cluster::OwnController;
use super::first_records::FirstRecords;
use super::joining::is_own;
use super::metadata_log::FoundLog;
use super::refusals::{DirectoryError, StartError};
use super::threads::ControllerThread;
use super::voter::voter;
use crate::broker::Broker;
use crate::cluster::lifecycle::Lifecycle;
use crate::cluster::observe::Identity;
use crate::cluster::quorum_frames::Hello;
use crate::cluster::quorum_inbox::{MAX_WAITING, QuorumInbox};
use crate::cluster::registration::claimed_features;
use crate::cluster::voter_changes::{self, VoterChanges};
use crate::config::BrokerConfig;
use crate::drivers::controller::Follower;
use crate::drivers::raft_quorum::{Pace, RaftQuorum, Surroundings};
use crate::drivers::snapshot_fetch::SnapshotFetch;
use crate::drivers::threads::Thread;
use crate::process::clock::Clock;

/// Ticks in an election timeout, as the quorum counts them.
const ELECTION_TICKS: u32 = 10;
/// How long a controller that stops waits until another one leads.
const HAND_OVER: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the controllers that belong together have to elect one. After that, one that does not belong ends the start.
const GRACE: Duration = Duration::from_secs(3);

/// A controller that goes on from here.
#[derive(Debug)]
pub(super) struct OpenedMember {
    /// What is applied.
    pub(super) metadata: Loader,
    pub(super) quorum: Box<RaftQuorum>,
    pub(super) inbox: Arc<QuorumInbox>,
}

/// The id of the cluster for which a new node is formatted.
pub(super) fn new_cluster_id(
    config: &BrokerConfig,
    random: Uuid,
) -> Result<String, DirectoryError> {
    let quorum = &config.quorum;
    let mut bootstrap = quorum.bootstrap.iter();
    if quorum.voters.is_empty() && !bootstrap.all(|address| is_own(config, address)) {
        return Err(DirectoryError::NotFormatted);
    }
    match &quorum.cluster_id {
        Some(id) => Ok(id.clone()),
        None if quorum.voters.len() > 1 => Err(DirectoryError::NoClusterId(random)),
        None => Ok(random.to_string()),
    }
}

/// Reads the metadata log of this controller, and refuses what it cannot go on with. Writes nothing.
pub(super) fn inspect(
    config: &BrokerConfig,
    location: Location<'_>,
    directory_id: Uuid,
    others: &[Voter],
) -> Result<InspectedNode<Disk>, DirectoryError> {
    let inspected = RaftNode::inspect(Disk, location, voter(config, directory_id))?;
    let (voter, voters) = membership(config, directory_id, inspected.voters(), others);
    inspected.check(&Member {
        voter,
        voters: &voters,
    })?;
    Ok(inspected)
}

/// This controller, and all voters: those in the log, or else those of the quorum that it joins (`others`), those that the
/// configuration names, or this one alone. The last two have no directory ids.
fn membership(
    config: &BrokerConfig,
    directory_id: Uuid,
    in_log: Option<&[Voter]>,
    others: &[Voter],
) -> (Voter, Vec<Voter>) {
    let own = voter(config, directory_id);
    if let Some(voters) = in_log.filter(|voters| !voters.is_empty() || others.is_empty()) {
        return (own, voters.to_vec());
    }
    if !others.is_empty() {
        return (own, others.to_vec());
    }
    let own = Voter {
        directory_id: Uuid::ZERO,
        ..own
    };
    let mut voters = static_voters(config);
    if voters.is_empty() {
        voters.push(own.clone());
    }
    (own, voters)
}

/// The voters that the configuration names.
fn static_voters(config: &BrokerConfig) -> Vec<Voter> {
    let mut listeners = config.network.controller_listeners.iter();
    let listener = listeners.next().map(|listener| listener.name.clone());
    let named = config.quorum.voters.iter().map(|(node_id, address)| Voter {
        node_id: *node_id,
        directory_id: Uuid::ZERO,
        endpoints: vec![VoterEndpoint {
            listener: listener.clone().unwrap_or_default(),
            host: address.host.clone(),
            port: address.port,
        }],
    });
    named.collect()
}

/// Opens this controller. `directory_id` is that of the directory that has its metadata log.
pub(super) fn open(
    config: &BrokerConfig,
    location: Location<'_>,
    directory_id: Uuid,
    found: FoundLog,
    clock: Clock,
) -> Result<OpenedMember, DirectoryError> {
    let in_log = found.inspected.voters();
    let (own, voters) = membership(config, directory_id, in_log, &found.others);
    let mut static_ids: Vec<NodeId> = voters
        .iter()
        .filter(|voter| voter.directory_id == Uuid::ZERO)
        .map(|voter| voter.node_id)
        .collect();
    static_ids.sort_unstable();
    let is_mending = found.inspected.begins_without_version();
    let settings = Settings {
        snapshot_bytes: config.metadata.snapshot_bytes,
        ..Settings::default()
    };
    let member = Member {
        voter: own.clone(),
        voters: &voters,
    };
    let (node, metadata) = found.inspected.open(member, settings)?;
    let hello = Hello {
        cluster_id: location.cluster_id.to_owned(),
        controller: own.clone(),
        static_voters: static_ids,
    };
    let (arrived, received) = mpsc::channel(MAX_WAITING);
    let (voters, asked) = mpsc::channel(voter_changes::MAX_WAITING);
    let inbox = Arc::new(QuorumInbox {
        own: hello,
        arrived,
        silent_leader: watch::Sender::default(),
        voters,
        mismatches: watch::Sender::default(),
    });
    let pace = Pace {
        clock,
        tick: config.quorum.election_timeout / ELECTION_TICKS,
        snapshot_interval: config.metadata.snapshot_interval,
    };
    let listener = own.endpoints.first().map(|one| one.listener.clone());
    let first = found.first.map(FirstRecords::into_records);
    let around = Surroundings {
        pace,
        first: first.unwrap_or_default(),
        is_mending,
        inbox: Arc::clone(&inbox),
        received,
        changes: VoterChanges::new(asked),
        fetch: fetch(config, location, directory_id),
        listener: listener.unwrap_or_default(),
    };
    let quorum = Box::new(RaftQuorum::new(node, around));
    Ok(OpenedMember {
        metadata,
        quorum,
        inbox,
    })
}

fn fetch(config: &BrokerConfig, location: Location<'_>, directory: Uuid) -> SnapshotFetch {
    let identity = Identity {
        node: config.node_id,
        directory,
        cluster_id: location.cluster_id.to_owned(),
    };
    let directory: &Path = location.directory;
    SnapshotFetch::new(identity, directory.to_path_buf())
}

/// Hands the leadership of the metadata quorum to another controller before a stop, if this one leads and has others.
pub(super) async fn resign(broker: &Broker) {
    let (Some(inbox), Some(quorum)) = (broker.quorum_inbox.get(), broker.quorum.get()) else {
        return;
    };
    let own = broker.config.node_id;
    let mut status = quorum.clone();
    let known = status.borrow().clone();
    let has_others = known.leader == Some(own) && known.voters.len() > 1;
    if has_others && inbox.arrived.send(Arrived::Stopping).await.is_ok() {
        let handed_over =
            status.wait_for(|status| status.leader.is_some_and(|leader| leader != own));
        // Otherwise the others elect a leader when they miss this one.
        let _ = timeout(HAND_OVER, handed_over).await;
    }
}

/// A controller that is about to start.
pub(super) struct MemberStart {
    pub(super) own: OwnController,
    pub(super) inbox: Arc<QuorumInbox>,
}

/// A controller of several whose broker is not registered yet: its metadata is published, and applied nowhere.
pub(super) struct StartedMember {
    inbox: Arc<QuorumInbox>,
    is_opening: Arc<AtomicBool>,
    follows: oneshot::Receiver<Follower>,
}

impl MemberStart {
    /// Lets handlers see the metadata log, and other controllers reach this one.
    pub(super) fn show(&self, broker: &Broker) {
        self.own.show(broker);
        broker.quorum_inbox.get_or_init(|| Arc::clone(&self.inbox));
    }

    /// Starts the controller, which has others.
    pub(super) fn run(
        self,
        broker: &Arc<Broker>,
    ) -> Result<(StartedMember, ControllerThread), StartError> {
        let (follower, thread) = self.own.run_controller(broker)?;
        let is_opening = Arc::new(AtomicBool::new(false));
        let (done, follows) = oneshot::channel();
        let until = Arc::clone(&is_opening);
        let replicas = Arc::clone(&broker.replicas);
        let run = move || {
            let elected = |election: &_| replicas.losses().elected(election);
            // Without a receiver the start was refused.
            let _ = done.send(follower.run_until(&until, elected));
        };
        Thread::start("metadata", run).map_err(StartError::Thread)?;
        let started = StartedMember {
            inbox: self.inbox,
            is_opening,
            follows,
        };
        Ok((started, thread))
    }
}

impl StartedMember {
    /// Registers the broker with the active controller. If there is none, and another controller does not belong to this
    /// one, the start ends.
    pub(super) async fn register(
        &self,
        broker: &Arc<Broker>,
        registration: Registration,
    ) -> Result<Lifecycle, StartError> {
        let registered = async {
            let mut registration = registration;
            self.until_founded(broker).await;
            registration.broker.features = claimed_features(&broker.controller.image());
            Lifecycle::register(Arc::clone(broker), registration).await
        };
        tokio::select! {
            registered = registered => Ok(registered?),
            reason = self.mismatch(broker) => Err(StartError::Controllers(reason)),
        }
    }

    /// Waits until the cluster has its first records: they say which features its brokers must have.
    async fn until_founded(&self, broker: &Broker) {
        let mut images = broker.controller.follow();
        let founded = images.wait_for(|image| image.features.contains_key(versions::FEATURE));
        let limit = broker.config.quorum.registration_timeout;
        // Without them the registration fails, and says why.
        let _ = timeout(limit, founded).await;
    }

    async fn mismatch(&self, broker: &Broker) -> String {
        sleep(GRACE).await;
        loop {
            let reasons = self.inbox.mismatches.borrow().join("; ");
            let quorum = broker.quorum.get();
            let has_leader = quorum.is_some_and(|quorum| quorum.borrow().leader.is_some());
            if !reasons.is_empty() && !has_leader {
                return reasons;
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until the metadata has the registration of this broker. What follows is for the returned follower.
    pub(super) async fn until_registered(self, broker: &Broker) -> Result<Follower, StartError> {
        broker.controller.until_applied(broker.epoch()).await;
        self.is_opening.store(true, Ordering::Release);
        let ended = |_| {
            StartError::Thread(std::io::Error::other(
                "the thread of the metadata has ended",
            ))
        };
        self.follows.await.map_err(ended)
    }
}
