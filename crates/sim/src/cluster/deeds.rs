//! The faults of a cluster and their times, chosen by the seed.

use std::time::Duration;

use ottla_log::files::simulated::Random;
use ottla_protocol::ids::NodeId;

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Kill,
    PowerCut,
    /// All machines lose their power.
    Blackout,
    Stop,
    /// The power goes, or the process is killed, in the middle of what is being done.
    EndSoon,
    FillDisk,
    /// A log directory does not answer for a while.
    Stall,
    /// The process does not run for a while.
    Pause,
    MoveWallClock,
    CutConnections,
    /// The node does not reach others, or they do not reach it, or both.
    CutLinks,
}

impl Deed {
    pub fn choose(random: &mut Random) -> Self {
        match random.below(25) {
            0..3 => Self::Kill,
            3..6 => Self::PowerCut,
            6 => Self::Blackout,
            7..9 => Self::Stop,
            9..12 => Self::EndSoon,
            12 => Self::Stall,
            13 => Self::MoveWallClock,
            14 => Self::CutConnections,
            15 | 16 => Self::Pause,
            19 => Self::FillDisk,
            _ => Self::CutLinks,
        }
    }
}

/// The links of a node that are cut, each from where to where.
pub fn links_to_cut(node: NodeId, others: &[NodeId], random: &mut Random) -> Vec<(NodeId, NodeId)> {
    let (sends, receives) = match random.below(3) {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    let all = random.one_in(2);
    let mut links = Vec::new();
    for other in others.iter().filter(|other| **other != node) {
        if all || random.one_in(2) {
            links.extend(sends.then_some((node, *other)));
            links.extend(receives.then_some((*other, node)));
        }
    }
    links
}

/// The time until the next fault.
pub fn pause(random: &mut Random) -> Duration {
    Duration::from_millis(1_000 + random.below(7_000))
}
