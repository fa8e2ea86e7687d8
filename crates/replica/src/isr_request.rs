//! What a leader asks the controller for a change of its ISR, and what the controller's answer means for the leader.

use ottla_controller::alter_partition::{Place, Rejection, Wanted};
use ottla_metadata::Partition;
use ottla_replication::{Answer, Committed, IsrChange};

/// The request for a change. A leader that recovers from an unclean election has recovered when it asks.
pub fn wanted(place: Place, change: &IsrChange) -> Wanted {
    let isr = change.isr.iter();
    Wanted {
        place,
        leader_epoch: change.leader_epoch,
        partition_epoch: change.partition_epoch,
        isr: isr
            .map(|member| (member.node, member.broker_epoch.unwrap_or(-1)))
            .collect(),
        recovering: false,
    }
}

/// The meaning of the controller's answer about one partition.
pub fn answer(outcome: Result<Partition, Rejection>) -> Answer {
    match outcome {
        Ok(partition) => Answer::Committed(Committed {
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.isr,
        }),
        Err(rejection) => Answer::of_error(rejection.code()),
    }
}
