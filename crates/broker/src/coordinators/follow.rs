//! Follows the metadata: starts and ends coordinators as leadership changes, deletes the offsets of deleted topics,
//! and expires offsets at `offsets.retention.check.interval.ms`.

use std::sync::Arc;

use ottla_coordinator::group::requests::Notice;
use ottla_metadata::{MetadataImage, Topic};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::GroupCoordinators;
use crate::drivers::stopping::stopped;

/// Runs until the broker stops.
pub async fn follow(
    coordinators: Arc<GroupCoordinators>,
    mut images: watch::Receiver<Arc<MetadataImage>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut expiry = tokio::time::interval(coordinators.expiry_interval);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, when nothing is loaded yet.
    expiry.tick().await;
    let mut late = coordinators.replicas.follow_late_changes();
    let mut known = Arc::clone(&images.borrow_and_update());
    coordinators.reconcile(&known);
    loop {
        tokio::select! {
            changed = images.changed() => {
                if changed.is_err() {
                    break;
                }
                let image = Arc::clone(&images.borrow_and_update());
                on_change(&coordinators, &known, &image).await;
                known = image;
            }
            Ok(()) = late.changed() => coordinators.reconcile(&known),
            _ = expiry.tick() => {
                coordinators.notify_all(&Notice::ExpiryDue).await;
            }
            () = stopped(&mut stopping) => break,
        }
    }
    coordinators.stop();
}

async fn on_change(coordinators: &GroupCoordinators, known: &MetadataImage, image: &MetadataImage) {
    coordinators.reconcile(image);
    for topic in deleted_topics(known, image) {
        let notice = Notice::TopicDeleted {
            name: topic.name.clone(),
            id: topic.id,
        };
        coordinators.notify_all(&notice).await;
    }
}

fn deleted_topics<'a>(
    before: &'a MetadataImage,
    after: &MetadataImage,
) -> impl Iterator<Item = &'a Arc<Topic>> {
    let topics = before.topics.iter();
    let gone = topics.filter(|(id, _)| !after.topics.contains_key(*id));
    gone.map(|(_, topic)| topic)
}
