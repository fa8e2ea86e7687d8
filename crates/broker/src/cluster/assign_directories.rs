//! Tells the controller in which log directory each replica of this broker is (KIP-858), as only the broker knows.
//!
//! It follows the metadata to report new replicas, and replicas that were moved while the broker was down. A replica whose
//! log may be in a directory that is not there is reported as lost, so that it leaves the ISR and leads nothing. It is
//! reported again when its directory is back.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::directories::Located;
use ottla_controller::request::AssignReplicasToDirs;
use ottla_metadata::MetadataImage;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::drivers::stopping::stopped;

/// Replicas in one request, which is Kafka's bound.
const AT_ONCE: usize = 2_250;

/// The time until a refused request is sent again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs until the broker stops.
pub async fn follow(
    broker: Arc<Broker>,
    mut images: watch::Receiver<Arc<MetadataImage>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut late = broker.replicas.follow_late_changes();
    let mut known = Arc::new(MetadataImage::default());
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let located = broker.replicas.node().located(&known, &image);
        let is_told = tell(&broker, &image, &located).await;
        if is_told {
            known = image;
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            Ok(()) = late.changed() => known = Arc::new(MetadataImage::default()),
            // A request may be refused, for example when the disk is full. It is sent again.
            () = tokio::time::sleep(RETRY_AFTER), if !is_told => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Reports the replicas; returns whether the controller has taken the report. A replica that it does not know is gone by
/// now, which a later image shows.
async fn tell(broker: &Arc<Broker>, image: &MetadataImage, located: &[Located]) -> bool {
    let node = broker.config.node_id;
    let Some(registered) = image.brokers.get(&node) else {
        return located.is_empty();
    };
    for some in located.chunks(AT_ONCE) {
        let told = AssignReplicasToDirs {
            broker: node,
            epoch: registered.epoch,
            located: some.to_vec(),
        };
        if !matches!(broker.controller.ask(told).await, Ok(Ok(_))) {
            return false;
        }
    }
    true
}
