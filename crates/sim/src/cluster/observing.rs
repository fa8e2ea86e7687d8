//! The metadata of a broker: it looks for the active controller, fetches its log, and keeps the image.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_metadata::{Changes, MetadataImage};
use ottla_protocol::address;
use ottla_protocol::ids::{NodeId, Offset};
use ottla_quorum::{LeaderSearch, Observer, Wanted};

use crate::between::{Between, Content, Metadata, MetadataAnswer};
use crate::node::event::{NodeEvent, ProcessId};
use crate::node::start::{CONTROLLER_PORT, host};
use crate::outside::Outside;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Observing {
    process: ProcessId,
    observer: Observer,
    search: LeaderSearch,
    /// The controllers by their addresses.
    controllers: BTreeMap<String, NodeId>,
    /// The number of the fetch that is under way.
    asked: Option<u64>,
    /// When it fetches next: what is under way then is lost.
    fetches_at: Duration,
}

impl Observing {
    pub fn new(process: ProcessId, controllers: &[NodeId]) -> Self {
        let controllers = controllers.iter().map(|node| (address_of(*node), *node));
        let controllers: BTreeMap<String, NodeId> = controllers.collect();
        Self {
            search: LeaderSearch::new(controllers.keys().cloned().collect()),
            controllers,
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

    /// The active controller, as far as it is known.
    pub fn active(&self) -> Option<NodeId> {
        let address = self.search.leader_address()?;
        self.controllers.get(address).copied()
    }

    /// Takes in who leads.
    fn believed(&mut self, answer: MetadataAnswer) -> Metadata {
        if let Some(leader) = answer.leader {
            self.search
                .on_endpoint(leader, &host(leader), CONTROLLER_PORT.into());
        }
        let leader = answer.leader.unwrap_or(NodeId(-1));
        let is_refused = matches!(answer.content, Metadata::Refused | Metadata::SnapshotGone);
        let believed = self.search.on_answer(leader, answer.epoch, is_refused);
        believed.map_or(Metadata::Unavailable, |()| answer.content)
    }

    /// Fetches what is next, if it is time.
    pub fn fetch(&mut self, number: u64, outside: &mut Outside) {
        if self.fetches_at > outside.time() {
            return;
        }
        if self.asked.replace(number).is_some() {
            // Nothing was answered.
            self.search.on_failure();
        }
        self.fetch_after(PATIENCE, outside);
        outside.send_between(&Between {
            from: self.process.node,
            to: self.controllers[self.search.address()],
            number,
            content: Content::FetchMetadata(self.observer.wanted(), self.search.epoch()),
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
        answer: MetadataAnswer,
        outside: &mut Outside,
    ) -> Option<Changes> {
        self.asked.take_if(|asked| *asked == number)?;
        let before = self.observer.applied();
        let changes = match self.believed(answer) {
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
            Metadata::Refused | Metadata::Unavailable => None,
        };
        let is_snapshot = matches!(self.observer.wanted(), Wanted::Snapshot { .. });
        let has_more = is_snapshot || self.observer.applied() > before;
        let delay = if has_more {
            outside.between(100, 2_000)
        } else {
            outside.between(20_000, 80_000)
        };
        self.fetch_after(delay, outside);
        changes.filter(|_| self.observer.applied() > before)
    }
}

fn address_of(node: NodeId) -> String {
    address::dialled(&host(node), CONTROLLER_PORT)
}
