//! The metadata of a broker: it fetches the log of the controller, and keeps the image.

use std::time::Duration;

use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset};
use ottla_quorum::Observer;

use crate::between::{Between, Content, Metadata};
use crate::node::event::{NodeEvent, ProcessId};
use crate::outside::Outside;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Observing {
    process: ProcessId,
    observer: Observer,
    /// The number of the fetch that is under way.
    asked: Option<u64>,
    /// When it fetches next: what is under way then is lost.
    fetches_at: Duration,
}

impl Observing {
    pub fn new(process: ProcessId) -> Self {
        Self {
            process,
            observer: Observer::default(),
            asked: None,
            fetches_at: Duration::ZERO,
        }
    }

    pub fn image(&self) -> &MetadataImage {
        self.observer.image()
    }

    /// The end of what is in the image.
    pub fn applied(&self) -> Offset {
        self.observer.applied()
    }

    /// Fetches what is next, if it is time.
    pub fn fetch(&mut self, number: u64, controller: NodeId, outside: &mut Outside) {
        if self.fetches_at > outside.time() {
            return;
        }
        self.asked = Some(number);
        self.fetch_after(PATIENCE, outside);
        outside.send_between(&Between {
            from: self.process.node,
            to: controller,
            number,
            content: Content::FetchMetadata(self.observer.wanted()),
        });
    }

    fn fetch_after(&mut self, delay: Duration, outside: &mut Outside) {
        self.fetches_at = outside.time() + delay;
        outside.later(self.process, delay, NodeEvent::FetchMetadata);
    }

    /// The controller has answered; returns what changed in the image.
    pub fn on_answer(
        &mut self,
        number: u64,
        answer: Metadata,
        outside: &mut Outside,
    ) -> Option<Changes> {
        self.asked.take_if(|asked| *asked == number)?;
        let before = self.observer.applied();
        let changes = match answer {
            Metadata::Batches(bytes, high_watermark) => {
                let changes = self.observer.on_batches(&bytes, high_watermark);
                Some(
                    changes
                        .unwrap_or_else(|error| panic!("check: metadata can be followed: {error}")),
                )
            }
            Metadata::Snapshot(id) => {
                self.observer.on_snapshot(id);
                None
            }
            Metadata::SnapshotGone => {
                self.observer.on_snapshot_gone();
                None
            }
            Metadata::Piece(position, piece) => {
                let changes = self.observer.on_piece(position, &piece.bytes, piece.size);
                changes.unwrap_or_else(|error| panic!("check: metadata can be followed: {error}"))
            }
            Metadata::Unavailable => None,
        };
        let has_more = changes.is_none() || self.observer.applied() > before;
        let delay = if has_more {
            outside.between(100, 2_000)
        } else {
            outside.between(20_000, 80_000)
        };
        self.fetch_after(delay, outside);
        changes.filter(|_| self.observer.applied() > before)
    }
}
