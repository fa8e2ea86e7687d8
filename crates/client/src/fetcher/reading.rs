//! How far one partition is read, and the look-up that it needs before the next fetch.

use tokio::time::Instant;

use super::options::Position;
use crate::OffsetSpec;
use crate::backoff::pause_after;

/// Where reading a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset.
    Offset(i64),
    /// At the offset that this means. If no record is as late as a timestamp, at the end.
    Found(OffsetSpec),
    /// This number of records before the end, or at the first record.
    BeforeEnd(i64),
}

/// A look-up for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Where reading begins.
    Start(StartAt),
    /// Where reading goes on, because this offset is before the first record or after the end.
    OutOfRange(i64),
    /// Whether a leader of this epoch has the records that were read before the position.
    Epoch(Position, i32),
}

impl Lookup {
    /// The look-up that is needed after a change of leader (KIP-320): the new one may lack records of the old one.
    pub fn of_epoch(position: Option<Position>, checked: i32, current: i32) -> Option<Self> {
        let position = position.filter(|position| position.leader_epoch >= 0)?;
        (current > checked).then_some(Self::Epoch(position, current))
    }
}

/// How far a partition is read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The position of the next fetch; `None` until it is looked up.
    pub position: Option<Position>,
    /// The look-up that must be done before the next fetch.
    pub lookup: Option<Lookup>,
    pub is_looked_up: bool,
    /// The leader epoch for which the position was last checked.
    pub checked_epoch: i32,
    pub failures: u32,
    pub wait_until: Option<Instant>,
}

impl Reading {
    pub fn at(position: Position) -> Self {
        Self {
            position: Some(position),
            lookup: None,
            is_looked_up: false,
            checked_epoch: -1,
            failures: 0,
            wait_until: None,
        }
    }

    pub fn unknown(lookup: Lookup) -> Self {
        Self {
            position: None,
            lookup: Some(lookup),
            ..Self::at(Position::at(0))
        }
    }

    pub fn failed(&mut self) {
        self.failures += 1;
        self.wait_until = Some(Instant::now() + pause_after(self.failures));
    }

    pub fn works(&mut self) {
        self.failures = 0;
        self.wait_until = None;
    }
}
