//! How far one partition is read.

use tokio::time::Instant;

use super::lookup::Lookup;
use super::options::Position;
use crate::backoff::pause_after;

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
