//! The producer ids of a broker: a block from the controller, and the clients that wait for the next.

use crate::messages::ReplyTo;

#[derive(Debug, Default)]
pub struct ProducerIds {
    block: std::ops::Range<i64>,
    waiting: Vec<ReplyTo>,
}

impl ProducerIds {
    /// The next id of the block.
    pub fn next(&mut self) -> Option<i64> {
        self.block.next()
    }

    /// Lets a client wait for the next block; returns whether that is to be asked for.
    pub fn wait(&mut self, to: ReplyTo) -> bool {
        self.waiting.push(to);
        self.waiting.len() == 1
    }

    pub fn on_block(&mut self, block: std::ops::Range<i64>) {
        self.block = block;
    }

    pub fn take_waiting(&mut self) -> Vec<ReplyTo> {
        std::mem::take(&mut self.waiting)
    }
}
