//! Where a log of Raft comes from: from Ottla alone, or from a log of Apache Kafka that was taken over.
//!
//! Index and term mean the same entry in two logs only if both have the same origin. A controller may have missed that the
//! others ran under Apache Kafka meanwhile; messages between such logs do not count.
//!
//! - The origin of a log that was taken over is the newest epoch that its controller knew then. Those that take over the
//!   same cluster may know different ones.
//! - Entries with terms up to the origin are as Kafka had them. A log without later ones may take the origin of others, if
//!   that is not below its last term: the highest at once, a lower one if the others go on with it.
//! - The term is not below the origin, so Ottla elects leaders above it.

use ottla_log::files::Files;

use raft::INVALID_ID;

use super::{NodeError, RaftNode};
use crate::voter::QuorumControl;

/// After so many messages of another origin it stays. When controllers take over a cluster, a few are usual.
const MANY: u32 = 100;

/// Upper bound of the controllers whose messages are counted.
const MAX_OTHERS: usize = 128;

impl<F: Files> RaftNode<F> {
    /// Whether a message of a log with the origin `theirs` counts here.
    pub(super) fn has_origin(&mut self, theirs: u64, from: u64) -> bool {
        let log = self.raw.store();
        let own = log.head().origin;
        if theirs == own {
            self.other_origins.remove(&from);
            return true;
        }
        let may_change = log.is_as_taken_over() && log.last().term <= theirs;
        if self.other_origins.len() > MAX_OTHERS {
            self.other_origins.clear();
        }
        let count = self.other_origins.entry(from).or_default();
        *count = count.saturating_add(1);
        if may_change && (theirs > own || *count > MANY) {
            *count = 0;
            self.new_origin = self.new_origin.max(Some(theirs));
            return false;
        }
        if *count == MANY && !may_change {
            let node = self.peers.node_id(from).map_or(-1, |node| node.0);
            let older = if theirs > own { "this one" } else { "that one" };
            tracing::error!(
                controller = node,
                their_origin = theirs,
                own_origin = own,
                "the other controller has run under Apache Kafka when this one did not, or the other way round: their logs do \
                 not belong together; stop {older}, remove the file raft-log in its metadata log directory, and start it again"
            );
        }
        false
    }

    /// The voters: while the log of Apache Kafka is not applied, the newest that it names count already, as in Kafka.
    pub(super) fn control(&self) -> &QuorumControl {
        let taken = self.taken_control.as_ref();
        let is_in_taken = self.is_in_taken();
        taken
            .filter(|_| is_in_taken)
            .unwrap_or_else(|| self.log.control())
    }

    /// Whether all that is applied is as Apache Kafka had it.
    pub(super) fn is_in_taken(&self) -> bool {
        let origin = self.raw.store().head().origin;
        origin > 0 && self.applied.at.term <= origin
    }

    /// Takes the origin that other controllers have.
    pub(super) fn take_origin(&mut self) -> Result<(), NodeError> {
        let Some(origin) = self.new_origin.take() else {
            return Ok(());
        };
        let log = self.raw.mut_store();
        if !log.is_as_taken_over() || log.last().term > origin {
            return Ok(());
        }
        match log.set_origin(origin) {
            // The next message asks for it again.
            Err(error) if error.is_full() => return Ok(()),
            set => set?,
        }
        if self.raw.raft.term < origin {
            self.raw.raft.become_follower(origin, INVALID_ID);
        }
        Ok(())
    }
}
