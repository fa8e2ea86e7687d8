//! The faults end; and a quorum goes to Apache Kafka and back. Kafka keeps what it finds, and knows nothing of Raft's log.

use super::{Happening, SECOND, World};

impl World {
    /// Ends all faults and changes, and starts what is down.
    pub fn heal(&mut self) {
        self.is_settling = true;
        (self.loss, self.has_faults) = (0, false);
        self.cut.clear();
        for index in 0..self.machines.len() {
            self.machines[index].files.heal();
            self.machines[index].limit_space(None);
            if self.machines[index].node.is_none() {
                self.after(1_000, Happening::Start(index));
            }
        }
    }

    /// All processes are killed, and go on from what Apache Kafka would find in their directories. One may
    /// keep Raft's log: it did not run under Kafka.
    pub fn go_to_kafka_and_back(&mut self, kept: Option<usize>) {
        for index in 0..self.machines.len() {
            self.machines[index].files.heal();
            self.start(index);
        }
        for index in 0..self.machines.len() {
            self.machines[index].stop(None);
            if kept != Some(index) {
                self.machines[index].forget_raft();
            }
            let delay = self.random.below(SECOND);
            self.after(delay, Happening::Start(index));
        }
    }
}
