//! The steps of a world. All are hashed, so that two runs of a seed can be compared. The last ones are kept for the
//! report of a failure.

use std::collections::VecDeque;

/// The steps that are kept.
const KEPT: usize = 60;

#[derive(Debug, Clone)]
pub(super) struct Trace {
    hash: u64,
    steps: u64,
    last: VecDeque<String>,
    /// Starts after a crash.
    pub(super) crashes: u64,
    /// Comparisons of a log with its model.
    pub(super) checks: u64,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            hash: 0xCBF2_9CE4_8422_2325,
            steps: 0,
            last: VecDeque::new(),
            crashes: 0,
            checks: 0,
        }
    }

    pub(super) fn note(&mut self, step: &str) {
        for byte in step.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.steps += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:>4} {step}", self.steps));
    }

    /// The hash of all steps.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn last_steps(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
