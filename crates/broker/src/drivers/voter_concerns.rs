//! Logs what is unsafe about the voters of the metadata quorum: at a start, and whenever it becomes so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::stopping::stopped;
use crate::broker::Broker;
use crate::cluster::{quorum_leader, voter_concerns};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks until the node stops.
pub async fn run(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        () = look(&broker) => {}
        () = stopped(&mut stopping) => {}
    }
}

async fn look(broker: &Broker) {
    let mut known = Vec::new();
    loop {
        if let Some(status) = quorum_leader::status(broker) {
            let concerns = voter_concerns::of(&status.voters, &broker.controller.image());
            for concern in &concerns {
                if !known.contains(concern) {
                    tracing::warn!("{concern}");
                }
            }
            known = concerns;
        }
        sleep(LOOK).await;
    }
}
