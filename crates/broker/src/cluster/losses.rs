//! Reports lost records: each [`Loss`] of this node comes here, whatever has found it.

use ottla_replica::Loss;

/// Reports a loss: in the log, at once.
pub fn report(loss: &Loss) {
    tracing::error!(
        topic = &*loss.topic,
        partition = loss.partition.1.0,
        from = loss.from.0,
        to = loss.to.0,
        removed_epoch = loss.removed_epoch.map_or(-1, |epoch| epoch.0),
        leader = loss.leader.0,
        leader_epoch = loss.leader_epoch.0,
        "records below the high watermark are lost: {}",
        loss.reason
    );
}
