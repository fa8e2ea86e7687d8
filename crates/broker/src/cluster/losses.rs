//! What this node sees of lost records goes into its loss ledger and into the log: the unclean elections of its controller,
//! its leaderships that begin without records, and the records that its replicas remove.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_controller::UncleanElection;
use ottla_controller::unclean_election::Cause;
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::NodeId;
use ottla_replica::Loss;
use ottla_replica::loss_ledger::{LossEntry, LossKind, LossLedger, LossTotals};

use crate::config::BrokerConfig;
use crate::process::clock::Clock;
use crate::replicas::{Found, Replicas};

/// The losses that this node sees.
#[derive(Debug)]
pub struct Losses {
    node: NodeId,
    directory: PathBuf,
    clock: Clock,
    /// Opened when it is first used: then the directory is locked.
    ledger: Mutex<Option<LossLedger<Disk>>>,
}

/// An open ledger behind its lock.
struct Opened<'a>(MutexGuard<'a, Option<LossLedger<Disk>>>);

impl Opened<'_> {
    fn ledger(&mut self) -> &mut LossLedger<Disk> {
        self.0.as_mut().expect("it was opened")
    }
}

impl Losses {
    pub fn new(config: &BrokerConfig, clock: Clock) -> Self {
        Self {
            node: config.node_id,
            directory: config.storage.metadata_log_dir.clone(),
            clock,
            ledger: Mutex::default(),
        }
    }

    fn open(&self) -> Result<Opened<'_>, FileError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.is_none() {
            *ledger = Some(LossLedger::open(Disk, &self.directory)?);
        }
        Ok(Opened(ledger))
    }

    /// What this node has seen, the oldest first. Blocks on the disk.
    pub fn entries(&self) -> Result<Vec<LossEntry>, FileError> {
        self.open()?.ledger().entries()
    }

    /// The sums over what this node has seen. Blocks on the disk the first time.
    pub fn totals(&self) -> Result<LossTotals, FileError> {
        Ok(self.open()?.ledger().totals())
    }

    /// A replica of this node has removed records.
    pub fn removed(&self, loss: &Loss) {
        self.record(LossEntry::removed(loss, self.node, self.clock.now().wall));
    }

    /// The controller of this node has elected a leader that may lack records. The only replica of a partition lacks none
    /// that another one has: what its disk has lost, recovery finds.
    pub fn elected(&self, election: &UncleanElection) {
        if election.replicas == 1 {
            return;
        }
        self.record(LossEntry {
            at: self.clock.now().wall,
            node: self.node,
            topic: election.topic.clone(),
            topic_id: election.topic_id,
            partition: election.partition,
            from: None,
            to: None,
            end: None,
            old_leader: election.old_leader,
            new_leader: election.new_leader,
            old_epoch: Some(election.old_epoch),
            new_epoch: election.new_epoch,
            what: match election.cause {
                Cause::LastKnownLeader => LossKind::ElectedLastLeader,
                Cause::Config => LossKind::ElectedByConfig,
                Cause::Request => LossKind::ElectedByRequest,
                Cause::CancelledReassignment => LossKind::ElectedByCancellation,
            },
        });
    }

    /// This node has applied `changes` of the metadata: leaderships that began after an unclean election are recorded, with
    /// the offset from which records may be lost.
    pub fn led(
        &self,
        replicas: &Replicas,
        (last, image): (&MetadataImage, &MetadataImage),
        changes: &Changes,
    ) {
        for (topic_id, index) in &changes.partitions {
            let Some(partition) = image.partition(*topic_id, *index) else {
                continue;
            };
            let before = last.partition(*topic_id, *index);
            let is_new = before.is_some_and(|before| before.leader_epoch < partition.leader_epoch);
            // The only replica of a partition loses nothing by an election.
            let may_lose = partition.recovering && partition.replicas.len() > 1;
            if !may_lose || partition.leader != Some(self.node) || !is_new {
                continue;
            }
            let Found::Here(here) = replicas.by_id(*topic_id, *index) else {
                continue;
            };
            let old_leader = before.and_then(|before| {
                let known = before.last_known_eligible_leaders.first().copied();
                before.leader.or(known)
            });
            self.record(LossEntry {
                at: self.clock.now().wall,
                node: self.node,
                topic: here.topic.to_string(),
                topic_id: *topic_id,
                partition: *index,
                from: here.epoch_start(),
                to: None,
                end: None,
                old_leader,
                new_leader: self.node,
                old_epoch: before.map(|before| before.leader_epoch),
                new_epoch: partition.leader_epoch,
                what: LossKind::Led,
            });
        }
    }

    /// In the log first: the ledger's disk may be the one that fails.
    fn record(&self, entry: LossEntry) {
        tracing::error!("records may be lost, `ottla loss` shows what is known: {entry}");
        let added = match self.open() {
            Ok(mut opened) => opened.ledger().append(entry),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = added {
            tracing::error!(%error, "the loss ledger lacks the loss that was logged last");
        }
    }
}
