//! AllocateProducerIds: blocks of producer ids, none handed out twice.

use ottla_protocol::ids::{NodeId, ProducerId};
use ottla_protocol::messages::metadata::ProducerIdsRecord;

use crate::brokers::registered;
use crate::{Decision, Refusal, View};

/// The number of ids in a block, as in Kafka.
pub const BLOCK_SIZE: i32 = 1000;

/// A block of producer ids, for one broker to hand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub first: ProducerId,
    pub size: i32,
}

/// Decides AllocateProducerIds for a broker at this epoch.
pub fn decide(view: View<'_>, broker: NodeId, epoch: i64) -> Decision<Result<Block, Refusal>> {
    if let Err(refusal) = registered(view.image, (broker, epoch)) {
        return Decision::reply(Err(refusal));
    }
    let first = view.image.next_producer_id;
    let record = ProducerIdsRecord {
        broker_id: broker.0,
        broker_epoch: epoch,
        next_producer_id: first + i64::from(BLOCK_SIZE),
        ..ProducerIdsRecord::default()
    };
    let block = Block {
        first: ProducerId(first),
        size: BLOCK_SIZE,
    };
    Decision::new(vec![record.into()], Ok(block))
}
