//! The faults of a world and their times, chosen by the seed.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use ottla_log::files::simulated::{Random, Simulated};
use ottla_log::files::{Files, Operation};

use crate::node::failed::Failed;

/// More space than a world uses.
const AMPLE: u64 = 1 << 40;
/// What a start finds free on a full disk: the space that a broker keeps aside for it.
pub const SPARE: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next fault is to be chosen.
    Any,
    /// A machine starts its process.
    Start,
    /// An operator ends a process that cannot go on.
    EndCrippled,
    /// There is space again.
    FreeDisk,
    /// The links between all nodes work again.
    MendLinks,
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Kill,
    PowerCut,
    Stop,
    /// The power goes, or the process is killed, in the middle of what is being done.
    EndSoon,
    /// An operation on the disk fails.
    Break,
    FillDisk,
    /// A log directory does not answer for a while.
    Stall,
    MoveWallClock,
    CutConnections,
}

impl Deed {
    pub fn choose(random: &mut Random) -> Self {
        match random.below(20) {
            0..3 => Self::Kill,
            3..7 => Self::PowerCut,
            7 => Self::Stop,
            8..11 => Self::EndSoon,
            11..13 => Self::Break,
            13 | 14 => Self::FillDisk,
            15 => Self::Stall,
            16 | 17 => Self::MoveWallClock,
            _ => Self::CutConnections,
        }
    }
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stop,
    Kill,
    PowerCut,
}

/// What was done to a disk since the last start, which excuses failures.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Troubles {
    pub fault: bool,
    pub full: bool,
    /// Whether an operator knows that the process cannot go on.
    pub is_noticed: bool,
}

impl Troubles {
    /// Whether a failure of a process on this disk has a cause.
    pub fn excuse_failures(self, disk: &Simulated) -> bool {
        self.fault || self.full || disk.is_power_off()
    }

    /// A process that did not stop in an orderly way must have had a cause.
    pub fn check_stop(self, disk: &Simulated, stopped: &Result<(), Failed>) {
        assert!(
            stopped.is_ok() || self.excuse_failures(disk),
            "a stop fails without a cause: {stopped:?}"
        );
    }
}

/// One operation soon fails.
pub fn break_something(disk: &Simulated, random: &mut Random) {
    const OPERATIONS: [Operation; 10] = [
        Operation::Open,
        Operation::Read,
        Operation::Write,
        Operation::Sync,
        Operation::Status,
        Operation::CreateDirectory,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDirectory,
        Operation::SyncFileSystem,
    ];
    let operation = OPERATIONS[random.index(OPERATIONS.len())];
    disk.fail_nth(operation, 1 + random.below(30), ErrorKind::Other);
}

/// Leaves this much space on a disk; returns how large it is then.
pub fn leave_space(disk: &Simulated, left: u64) -> Option<u64> {
    disk.limit_space(Some(AMPLE));
    let free = disk.space(Path::new("/")).ok()?.free;
    let limit = AMPLE - free + left;
    disk.limit_space(Some(limit));
    Some(limit)
}

/// The time until the next fault.
pub fn pause(random: &mut Random) -> Duration {
    Duration::from_millis(500 + random.below(11_000))
}
