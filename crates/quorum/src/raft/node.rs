//! One controller of the quorum: the Raft library over its own log, and the Kafka log that is derived from it.
//!
//! Synchronous and without a clock or chance of its own. The driver calls [`RaftNode::on_tick`], [`RaftNode::on_message`]
//! and [`RaftNode::propose`], and then [`RaftNode::ready`], whose effects it performs. After an error the node is not used
//! any more: the next start finds out what is on the disk.

mod ahead;
mod apply;
mod elections;
mod epochs;
mod full;
#[cfg(test)]
mod hostile;
mod inspect;
mod lost_log;
mod membership;
mod open;
mod origin;
mod peers;
mod progress;
mod recover;
mod snapshots;
mod status;
mod take_over;
#[cfg(test)]
mod tests;
mod written;

pub use inspect::InspectedNode;
pub use membership::{VoterChange, VotersRefused};
pub use open::{Member, has_raft_log};
pub use peers::is_sent_by;
pub use progress::{Replica, Replicas};
pub use recover::Survivor;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use bytes::Bytes;
use ottla_log::files::{FileError, Files};
use ottla_metadata::{MetadataImage, MetadataVersion};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::Timestamp;
use raft::eraftpb::{ConfState, Entry, HardState, Message, MessageType};
use raft::{RawNode, Ready, StateRole};

use self::lost_log::Debt;
use self::peers::{Peers, raft_id};
use self::progress::Answers;
use super::format::Malformed;
use super::log::{Applied, Position, RaftLog, RaftLogError};
use super::message;
use super::payload;
use crate::batches::Place;
use crate::checkpoint::{CheckpointError, SnapshotId};
use crate::metadata_log::proposal;
use crate::metadata_log::{ApplyError, MetadataLog, OpenError, ProposeError};
use crate::voter::{QuorumControl, Voter};

/// Ticks between two heartbeats of a leader.
const HEARTBEAT_TICKS: usize = 2;
/// The fewest ticks without a leader before an election; the most are twice as many.
const ELECTION_TICKS: usize = 10;

/// A controller of the quorum. Invariants:
///
/// - A message leaves only after the term, the vote and the entries that it speaks of are synced.
/// - A committed entry is applied once, in order. Its batches get the offsets after the log's end and the entry's term as
///   leader epoch, so the Kafka logs of all controllers are the same, byte for byte.
/// - An entry counts only if it was decided in the term in which it was proposed.
/// - This node leads an epoch from the moment at which its own first entry is applied. Nothing is proposed before.
/// - The Kafka log is synced before Raft's log notes how far it is applied.
/// - `quorum-state` has an epoch before Raft's log has it, and no batch or snapshot of a higher one is written.
/// - The voters that Raft counts are those of the last `VotersRecord` that is applied: one entry changes both.
pub struct RaftNode<F: Files> {
    raw: RawNode<RaftLog<F>>,
    log: MetadataLog<F>,
    cluster_id: String,
    voter: Voter,
    peers: Peers,
    /// How far entries are applied; the checkpoint on the disk may be behind.
    applied: Applied,
    /// The epoch in `quorum-state`.
    noted_epoch: LeaderEpoch,
    /// The Raft id of the leader or the vote in that epoch, in `quorum-state`; 0 for none.
    noted_vote: u64,
    /// Whether `quorum-state` has the leader of that epoch.
    noted_leader: bool,
    bytes_since_checkpoint: usize,
    /// What a full disk has not taken.
    held: Option<Ready>,
    /// Committed entries that are not applied yet.
    waiting: VecDeque<Entry>,
    /// Bytes that were proposed since everything was applied.
    proposed_bytes: usize,
    /// Whether the disk is known to be full.
    is_full: bool,
    leadership: Option<Leadership>,
    /// The leader that was reported last.
    leader: (Option<NodeId>, LeaderEpoch),
    /// Who voted for this node in the current term.
    granted: BTreeSet<u64>,
    /// The election timeout in ticks, and the term and role for which it was chosen.
    timeout: (usize, Option<(u64, StateRole)>),
    /// The ticks until this node asks for votes, if the leader is known to be gone.
    until_candidacy: Option<usize>,
    /// A snapshot that a leader has announced, and whose bytes are not here yet.
    announced: Option<Message>,
    /// For each peer to which a snapshot was announced, the ticks since then.
    announced_to: BTreeMap<u64, usize>,
    /// The snapshots that were begun, and their places in Raft's log.
    begun: BTreeMap<SnapshotId, (Position, ConfState)>,
    /// What this node has heard of the others while it leads.
    answers: BTreeMap<u64, Answers>,
    /// The end of the log after the last change of voters that this leader has proposed.
    pending_voters: Option<Offset>,
    /// Since when this leader is no voter any more, in ticks.
    leaving_ticks: usize,
    /// What it must have before it votes, if its disk was replaced.
    debt: Debt,
    /// The ends of the log after the last entries, by their indexes.
    ends: VecDeque<(u64, Offset)>,
    /// The voters that the log had when it was taken over from Apache Kafka.
    taken_control: Option<QuorumControl>,
    /// The origin of other controllers, which Raft's log must take.
    new_origin: Option<u64>,
    /// How many messages have come from controllers whose logs have another origin.
    other_origins: BTreeMap<u64, u32>,
    events: Vec<QuorumNews>,
}

/// This node leads, or will once its first entry is applied.
#[derive(Debug, Clone, Copy)]
struct Leadership {
    epoch: LeaderEpoch,
    /// Where the log will end after all that is proposed; `None` until the first entry is applied.
    proposed_end: Option<Offset>,
}

/// What the driver must do, in this order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to other controllers. They may be lost, delayed and doubled.
    pub messages: Vec<Envelope>,
    /// What has happened.
    pub news: Vec<QuorumNews>,
}

/// A message to another controller.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub to: Voter,
    pub bytes: Bytes,
}

/// Something that has happened in the quorum.
#[derive(Debug, Clone, PartialEq)]
pub enum QuorumNews {
    /// Records are committed. All controllers get the same records, in the same order.
    Committed {
        epoch: LeaderEpoch,
        /// The offset of the first.
        base: Offset,
        /// The end of the log after them; control records are counted, and not among `records`.
        end: Offset,
        records: Vec<MetadataRecord>,
    },
    /// The known leader has changed.
    Leader {
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
    },
    /// This node leads. Everything before `start` is applied; it may propose now.
    LeadershipGained { epoch: LeaderEpoch, start: Offset },
    /// This node does not lead any more. What it has proposed, and is not committed, may be committed later or never.
    LeadershipLost { epoch: LeaderEpoch },
    /// The leader has a snapshot from which this node must go on. The driver fetches its bytes, gives the file its name,
    /// and calls [`RaftNode::on_snapshot_fetched`].
    SnapshotNeeded {
        from: NodeId,
        id: SnapshotId,
        /// In bytes.
        size: u64,
    },
    /// The log goes on after a snapshot, whose metadata replaces what the driver has.
    Restored {
        id: SnapshotId,
        image: Box<MetadataImage>,
    },
}

/// Why a controller cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk failed, or is full.
    #[error(transparent)]
    File(#[from] FileError),
    /// Raft's own log cannot be used.
    #[error(transparent)]
    RaftLog(#[from] RaftLogError),
    /// The metadata log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Committed batches cannot be added.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] CheckpointError),
    /// A committed entry is no payload.
    #[error("a committed entry is not understood: {0}")]
    Entry(#[from] Malformed),
    /// The library refuses.
    #[error("the Raft library refuses: {0}")]
    Library(#[from] raft::Error),
    /// The node is not among the voters.
    #[error(
        "node {node_id} with directory.id {directory_id} is not among the voters of the metadata quorum: {voters}; check node.id and \
         metadata.log.dir, or add it with kafka-metadata-quorum add-controller"
    )]
    NoVoter {
        node_id: NodeId,
        directory_id: Uuid,
        voters: String,
    },
    /// It is no controller, or has never run.
    #[error("{0} is missing: the node is no controller, or was never started as one")]
    NoRaftLog(PathBuf),
    /// It cannot become the only voter.
    #[error("this controller does not come to lead the metadata log alone")]
    NotAlone,
    /// The others count on what this node has promised, and its log is gone.
    #[error(
        "node {node_id} with directory.id {directory_id} is a voter of the metadata quorum, and {directory} is empty: its log is gone, \
         and with it what it has promised. Remove the voter (kafka-metadata-quorum remove-controller), delete meta.properties \
         in metadata.log.dir so that it gets a new directory.id, start it, and add it again"
    )]
    Wiped {
        node_id: NodeId,
        directory_id: Uuid,
        directory: PathBuf,
    },
    /// The configuration names other voters than before.
    #[error(
        "controller.quorum.voters names other node ids than when the metadata log began: {voters}; set it as it was"
    )]
    OtherVoters {
        /// The configured ones.
        voters: String,
    },
    /// `kraft.version` says that the voters are in the log, and they are not.
    #[error("kraft.version is {0}, but no voters stand in the log or a snapshot")]
    NoVoters(i16),
    /// Raft's log is out of date.
    #[error("Apache Kafka has gone on with {0}: start it with `ottla serve`, which takes it over")]
    NotOfRaft(PathBuf),
}

/// Why a proposal was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotProposed {
    /// This node does not lead the epoch in which the records were decided, or has not applied its first entry.
    #[error("this controller does not lead the epoch")]
    NotLeader,
    /// The disk of this node is full. A later proposal may be taken.
    #[error("the disk of the metadata log is full{0}")]
    Full(String),
    /// Too much is proposed and not committed yet.
    #[error("too many proposals wait to be committed")]
    Busy,
    /// The records cannot be written.
    #[error(transparent)]
    Records(#[from] ProposeError),
}

impl<F: Files> RaftNode<F> {
    /// Time goes on by one tick. `random` chooses the election timeout when a new one is due.
    pub fn on_tick(&mut self, random: u64) {
        if self.held.is_some() {
            return;
        }
        let raft = &self.raw.raft;
        let place = Some((raft.term, raft.state));
        if self.timeout.1 != place {
            let more = usize::try_from(random % ELECTION_TICKS as u64).unwrap_or(0);
            self.timeout = (ELECTION_TICKS + more, place);
        }
        // The library draws a timeout of its own at each change of role. It must not count.
        self.raw
            .raft
            .set_randomized_election_timeout(self.timeout.0);
        self.tick_candidacy(random);
        self.raw.tick();
        self.retry_snapshots();
        self.leave_if_removed();
        self.note_role();
    }

    /// A message of another controller. One that this node must not believe is dropped, with the reason.
    pub fn on_message(&mut self, bytes: Bytes) -> Result<(), Malformed> {
        if self.held.is_some() {
            return Ok(());
        }
        let (mut message, origin) = message::decode(bytes)?;
        if message.to != self.raw.raft.id {
            // It is for the disk that was here before, and stops when the leader has heard of this one.
            return Ok(());
        }
        if self.peers.known(message.from).is_some() && !self.has_origin(origin, message.from) {
            return Ok(());
        }
        let believed = self.forget_lost_entries(&mut message);
        self.check(&message)?;
        let kind = message.get_msg_type();
        if self.must_not_vote(kind) || self.owes_entries(&message) || self.begin_again(&message) {
            return Ok(());
        }
        self.note_answer(&message);
        let (from, commit) = (message.from, message.commit);
        if kind == MessageType::MsgRequestVoteResponse && !message.reject {
            self.granted.insert(message.from);
        }
        if kind == MessageType::MsgSnapshot {
            self.on_snapshot_announced(message)?;
        } else {
            // It refuses what comes from a node that is no peer any more.
            let _ = self.raw.step(message);
        }
        if let Some(believed) = believed {
            self.tell_loss(from, believed);
        }
        self.note_debt((kind, commit), believed);
        self.note_role();
        Ok(())
    }

    /// Proposes records that were decided in `epoch`, all or none. Returns where the log ends after them. They are committed
    /// when news of a commit with at least that end comes in the same epoch.
    pub fn propose(
        &mut self,
        epoch: LeaderEpoch,
        records: &[MetadataRecord],
        version: MetadataVersion,
        now: Timestamp,
    ) -> Result<Offset, NotProposed> {
        let Some(Leadership {
            epoch: leading,
            proposed_end: Some(end),
        }) = self.leadership
        else {
            return Err(NotProposed::NotLeader);
        };
        if leading != epoch && !is_planted(Bug::TermFenceSkipped) {
            return Err(NotProposed::NotLeader);
        }
        let place = Place {
            offset: Offset(0),
            epoch: LeaderEpoch(0),
            timestamp: now,
        };
        let built = proposal::build(records, version, place, self.log.settings().batch_bytes)?;
        let count: i64 = built.iter().map(|(_, count)| i64::from(*count)).sum();
        if count == 0 {
            return Ok(end);
        }
        let batches: Vec<Vec<u8>> = built.into_iter().map(|(bytes, _)| bytes).collect();
        let payload = payload::encode(epoch, &batches);
        self.make_room(payload.len())?;
        self.raw
            .propose(Vec::new(), payload)
            .map_err(|_| NotProposed::Busy)?;
        let end = end.plus(count);
        self.leadership = Some(Leadership {
            epoch: leading,
            proposed_end: Some(end),
        });
        Ok(end)
    }

    /// Makes durable what has changed, applies what is committed, and returns what the driver must do.
    ///
    /// On a full disk nothing goes on: the next call tries again, and until then this node hears and says nothing.
    pub fn ready(&mut self, now: Timestamp) -> Result<Effects, NodeError> {
        let mut effects = Effects::default();
        self.date_answers(now);
        loop {
            self.apply_waiting()?;
            if self.held.is_none() {
                self.take_origin()?;
                self.elect_alone()?;
                self.begin_epoch(now);
                if !self.raw.has_ready() {
                    break;
                }
                self.held = Some(self.raw.ready());
            }
            let Some(ready) = self.persist_held()? else {
                break;
            };
            self.go_on(ready, &mut effects)?;
        }
        self.note_role();
        if self.held.is_none() {
            // Before that the term in which it happened may not be durable.
            effects.news = std::mem::take(&mut self.events);
        }
        Ok(effects)
    }

    /// Makes durable what the library wants durable. `None` if the disk is full.
    fn persist_held(&mut self) -> Result<Option<Ready>, NodeError> {
        let Some(ready) = self.held.take() else {
            return Ok(None);
        };
        match self.persist(&ready) {
            Err(NodeError::File(error)) if error.is_full() && ready.snapshot().is_empty() => {
                self.note_full(Some(&error));
                self.held = Some(ready);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Some(ready)),
        }
    }

    fn persist(&mut self, ready: &Ready) -> Result<(), NodeError> {
        let state = ready.hs();
        self.note_epoch(&self.hard_state(state))?;
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot(), &self.hard_state(state))?;
        }
        if !ready.entries().is_empty() || (ready.must_sync() && ready.snapshot().is_empty()) {
            let state = self.hard_state(state);
            self.raw.mut_store().persist(&state, ready.entries())?;
            self.write_ahead(ready.entries())?;
        } else if let Some(state) = state {
            self.raw.mut_store().note_commit(state.commit);
        }
        Ok(())
    }

    /// Applies and sends what may be, now that it is durable.
    fn go_on(&mut self, mut ready: Ready, effects: &mut Effects) -> Result<(), NodeError> {
        let mut messages = ready.take_messages();
        messages.extend(ready.take_persisted_messages());
        self.waiting.extend(ready.take_committed_entries());
        let mut light = self.raw.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.raw.mut_store().note_commit(commit);
        }
        messages.extend(light.take_messages());
        self.waiting.extend(light.take_committed_entries());
        self.apply_waiting()?;
        if self.waiting.is_empty() {
            self.raw.advance_apply();
        }
        if !self.is_alone() {
            self.raw.mut_store().write_commit()?;
        }
        self.send(messages, effects);
        if is_planted(Bug::CommitWithoutMajority) && self.raw.raft.state == StateRole::Leader {
            let last = self.raw.raft.raft_log.last_index();
            self.raw.raft.raft_log.commit_to(last);
        }
        match self.raw.mut_store().take_failed_read() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// The end of the log: all records before it are committed and applied here.
    pub fn end_offset(&self) -> Offset {
        self.applied.log_end
    }

    /// The epoch that this node leads, once it may propose.
    pub fn led_epoch(&self) -> Option<LeaderEpoch> {
        self.leadership
            .filter(|leadership| leadership.proposed_end.is_some())
            .map(|leadership| leadership.epoch)
    }

    /// The newest epoch that this node knows, and will not forget.
    pub fn epoch(&self) -> LeaderEpoch {
        epoch_of(self.raw.store().head().hard_state.term)
    }

    /// The voters, as the log has them.
    pub fn voters(&self) -> &[Voter] {
        &self.control().voters
    }

    fn hard_state(&self, changed: Option<&HardState>) -> HardState {
        let known = || self.raw.store().head().hard_state.clone();
        changed.cloned().unwrap_or_else(known)
    }

    /// Reports a change of the leader, and the loss of leadership.
    fn note_role(&mut self) {
        let raft = &self.raw.raft;
        let epoch = epoch_of(raft.term);
        let leads = raft.state == StateRole::Leader;
        if let Some(leadership) = self.leadership
            && !(leads && leadership.epoch == epoch)
        {
            self.leadership = None;
            self.pending_voters = None;
            self.answers.clear();
            if leadership.proposed_end.is_some() {
                let epoch = leadership.epoch;
                self.events.push(QuorumNews::LeadershipLost { epoch });
            }
        }
        let leader = self.peers.node_id(raft.leader_id);
        if self.leader != (leader, epoch) {
            if self.leader.1 != epoch {
                self.granted.clear();
            }
            self.leader = (leader, epoch);
            self.events.push(QuorumNews::Leader { epoch, leader });
        }
    }

    fn send(&mut self, messages: Vec<Message>, effects: &mut Effects) {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.announced_to.insert(message.to, 0);
            }
            let Some(to) = self.peers.known(message.to) else {
                continue;
            };
            effects.messages.push(Envelope {
                to: to.clone(),
                bytes: message::encode(&message, self.raw.store().head().origin).into(),
            });
        }
    }

    /// What must hold for a message beside what this node knows. The library takes it for granted.
    fn check(&self, message: &Message) -> Result<(), Malformed> {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        if self.peers.known(message.from).is_none() {
            return Err(Malformed::Impossible("sender"));
        }
        let is_possible = match message.get_msg_type() {
            MessageType::MsgHeartbeat => message.commit <= last,
            MessageType::MsgAppendResponse if message.term == raft.term => {
                message.index <= last && message.reject_hint <= last
            }
            _ => true,
        };
        if is_possible {
            Ok(())
        } else {
            Err(Malformed::Impossible("index"))
        }
    }
}

fn epoch_of(term: u64) -> LeaderEpoch {
    LeaderEpoch(i32::try_from(term).expect("terms are bounded where they come in"))
}
