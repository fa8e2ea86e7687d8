//! The fetch of a snapshot from the leader of the quorum, one piece after the other.

use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_protocol::ids::{LeaderEpoch, NodeId};
use ottla_quorum::{NeededSnapshot, SnapshotDownload, SnapshotId, Wanted};

use crate::between::{Between, Content, Metadata, MetadataAnswer};
use crate::node::event::ProcessId;
use crate::node::start::metadata_directory;
use crate::outside::Outside;

/// How long a piece is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// A fetch that is under way.
#[derive(Debug)]
pub struct Download {
    process: ProcessId,
    from: NodeId,
    id: SnapshotId,
    epoch: LeaderEpoch,
    file: SnapshotDownload<Simulated>,
    /// The number of the request, and how long its answer is waited for.
    asked: (u64, Duration),
}

/// How far a fetch is.
#[derive(Debug)]
pub enum Progress {
    GoesOn(Download),
    /// The snapshot is in its place.
    Done(SnapshotId),
    /// The leader announces it again.
    Ended,
}

impl Download {
    /// Begins a fetch; nothing if the disk does not take the file.
    pub fn begin(
        process: ProcessId,
        disk: &Simulated,
        needed: NeededSnapshot,
        epoch: LeaderEpoch,
    ) -> Option<Self> {
        let NeededSnapshot { from, id, size } = needed;
        let directory = metadata_directory(process.node);
        let file = SnapshotDownload::begin(disk.clone(), &directory, id, size).ok()?;
        Some(Self {
            process,
            from,
            id,
            epoch,
            file,
            asked: (0, Duration::ZERO),
        })
    }

    /// Asks for the next piece, or ends. `number` names the request.
    pub fn go_on(mut self, number: u64, outside: &mut Outside) -> Progress {
        let Some(position) = self.file.wanted() else {
            let id = self.id;
            return match self.file.finish() {
                Ok(()) => Progress::Done(id),
                Err(_) => Progress::Ended,
            };
        };
        self.asked = (number, outside.time() + PATIENCE);
        let wanted = Wanted::Snapshot {
            id: self.id,
            position,
        };
        outside.send_between(&Between {
            from: self.process.node,
            to: self.from,
            number,
            content: Content::FetchMetadata(wanted, self.epoch),
        });
        Progress::GoesOn(self)
    }

    pub fn is_answered_by(&self, number: u64) -> bool {
        self.asked.0 == number
    }

    pub fn has_waited_too_long(&self, outside: &Outside) -> bool {
        self.asked.1 <= outside.time()
    }

    /// Takes a piece, and asks for the next one.
    pub fn on_answer(
        mut self,
        answer: &MetadataAnswer,
        number: u64,
        outside: &mut Outside,
    ) -> Progress {
        if let Metadata::Piece(position, piece) = &answer.content
            && let Ok(()) = self.file.on_piece(*position, piece.size, &piece.bytes)
        {
            return self.go_on(number, outside);
        }
        self.file.abandon();
        Progress::Ended
    }
}
