//! Allocates ids for idempotent producers, from blocks that the controller gives to this broker.
//!
//! No id is given twice: a block belongs to this broker alone, and the rest of a block is not used after a stop.

use ottla_controller::request::AllocateProducerIds;
use ottla_protocol::ids::{NodeId, ProducerId};
use ottla_protocol::messages::ErrorCode;
use tokio::sync::Mutex;

use crate::cluster::channel::Controller;

/// The block of ids in use.
#[derive(Debug, Default)]
pub struct ProducerIds {
    /// An async lock: one caller asks for a new block while the others wait for the same one.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// The next id. If the controller cannot give a block, the error is one that clients retry.
    pub async fn next(
        &self,
        controller: &Controller,
        node: NodeId,
    ) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = allocate(controller, node).await?;
        }
        let id = block.next().expect("a new block is not empty");
        Ok(ProducerId(id))
    }
}

async fn allocate(
    controller: &Controller,
    node: NodeId,
) -> Result<std::ops::Range<i64>, ErrorCode> {
    let registered = controller
        .image()
        .brokers
        .get(&node)
        .map(|broker| broker.epoch);
    let epoch = registered.ok_or(ErrorCode::CoordinatorLoadInProgress)?;
    let asked = AllocateProducerIds {
        broker: node,
        epoch,
    };
    match controller.ask(asked).await {
        Ok(Ok(given)) => Ok(given.first.0..given.first.0 + i64::from(given.size)),
        Ok(Err(refusal)) => {
            tracing::warn!(%refusal, "the controller gave no producer ids");
            Err(ErrorCode::CoordinatorLoadInProgress)
        }
        Err(_) => Err(ErrorCode::CoordinatorLoadInProgress),
    }
}
