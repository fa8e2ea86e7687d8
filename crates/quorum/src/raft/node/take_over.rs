//! Takes over the log of one of several Apache Kafka controllers.
//!
//! The logs of such controllers may differ at their ends: nobody knows from one of them what is committed, except that the
//! newest snapshot is. So Raft's log begins after that snapshot, as a copy of all batches that follow, and decides as Kafka
//! would: the index of an entry is the offset after it, its term is the epoch of its batch. Two logs of Raft agree exactly
//! where the Kafka logs did, a leader has everything that Kafka had committed, and the others give up what it does not have.
//!
//! A batch of several records is several entries, of which the last has the batch and the others have nothing.
//!
//! One file is written, at once. The Kafka log stays as it is until the controllers have agreed on other batches.

use bytes::Bytes;
use ottla_log::files::Files;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchView, set_base_offset, set_partition_leader_epoch};
use raft::eraftpb::Entry;

use super::open::{head_after, term_of};
use super::peers::raft_id;
use super::written::batches;
use super::{InspectedNode, NodeError};
use crate::checkpoint::SnapshotId;
use crate::raft::format::Malformed;
use crate::raft::log::{Head, SnapshotState, write_file};
use crate::raft::message::SnapshotName;
use crate::raft::payload;
use crate::voter::Voter;

impl<F: Files> InspectedNode<F> {
    /// Makes a log of Raft from the Kafka log, and reads the directory again.
    pub(super) fn take_over(self, voters: &[Voter]) -> Result<Self, NodeError> {
        let log = &self.log;
        let files = log.files().clone();
        let head = self.taken_head(voters);
        let start = head.applied.log_end;
        let mut entries = Vec::new();
        for batch in batches(&files, log.location().directory, start)? {
            push_entries(batch.bytes, &mut entries)?;
        }
        tracing::info!(
            from = start.0,
            to = log.end().0,
            epoch = head.origin,
            "the metadata log of Apache Kafka is taken over; its controllers now agree on its end"
        );
        write_file(&files, log.location().directory, &head, &entries)?;
        Self::read(files, log.location(), log.voter.clone())
    }

    /// The log begins after the newest snapshot. The voters are the newest that the log names, as in Kafka.
    fn taken_head(&self, voters: &[Voter]) -> Head {
        let snapshot = self.log.newest_snapshot();
        let (start, _) = snapshot.unwrap_or((SnapshotId::BOOTSTRAP, 0));
        let promised = self.promised(voters);
        let ids = voters.iter().map(raft_id).collect();
        let mut head = head_after(start.end_offset, start.epoch, promised, ids);
        head.snapshot = snapshot.map(|(id, size)| SnapshotState {
            at: head.before,
            name: SnapshotName { id, size },
            voters: head.applied.voters.clone(),
        });
        let newest = term_of(self.log.epoch());
        if head.hard_state.term < newest {
            (head.hard_state.term, head.hard_state.vote) = (newest, 0);
        }
        head.origin = head.hard_state.term;
        head
    }
}

/// The entries of a batch of the Kafka log, one for each offset.
fn push_entries(mut bytes: Vec<u8>, entries: &mut Vec<Entry>) -> Result<(), NodeError> {
    let impossible = NodeError::Entry(Malformed::Impossible("batch"));
    let header = match BatchView::first(&bytes) {
        Ok(view) => *view.header(),
        Err(_) => return Err(impossible),
    };
    let (first, end) = (header.base_offset, header.next_offset().0);
    let term = u64::try_from(header.partition_leader_epoch).unwrap_or(0);
    if term == 0 || first < 0 || end <= first {
        return Err(impossible);
    }
    let head = bytes.first_chunk_mut().expect("a batch has a header");
    set_base_offset(head, Offset(0));
    set_partition_leader_epoch(head, LeaderEpoch(0));
    for index in first + 1..=end {
        let data = if index == end {
            payload::encode(
                LeaderEpoch(header.partition_leader_epoch),
                &[std::mem::take(&mut bytes)],
            )
        } else {
            Vec::new()
        };
        entries.push(Entry {
            index: index.unsigned_abs(),
            term,
            data: Bytes::from(data),
            ..Entry::default()
        });
    }
    Ok(())
}
