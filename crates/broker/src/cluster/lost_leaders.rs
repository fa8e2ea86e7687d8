//! Leaders to which this node has just lost its connection, and answers to clients that must not name them.
//!
//! A client that loses its leader asks any node for the new one at once. Before the controller has elected it, the answer
//! names the dead leader again, and some clients do not ask anew for seconds (franz-go: five). So such an answer waits a
//! moment: until another leader is elected, the leader is reached again, or `WAITS` is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_metadata::{MetadataImage, Topic};
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::MonotonicTime;
use tokio::sync::watch;

use super::channel::Controller;
use crate::process::clock::Clock;

/// How long after the loss of a leader answers wait, at most.
const WAITS: Duration = Duration::from_secs(1);

/// The lost leaders, and until when answers wait for others.
#[derive(Debug, Default)]
pub struct LostLeaders {
    lost: watch::Sender<BTreeMap<NodeId, MonotonicTime>>,
}

impl LostLeaders {
    /// A connection to this leader ended.
    pub fn on_lost(&self, leader: NodeId, now: MonotonicTime) {
        self.lost.send_if_modified(|lost| {
            lost.retain(|_, until| *until > now);
            lost.insert(leader, now.after(WAITS)).is_none()
        });
    }

    /// This leader answers.
    pub fn on_reached(&self, leader: NodeId) {
        if !self.lost.borrow().is_empty() {
            self.lost
                .send_if_modified(|lost| lost.remove(&leader).is_some());
        }
    }

    /// Waits while one of the topics that `asked` finds in an image has one of these leaders.
    pub async fn until_replaced(
        &self,
        controller: &Controller,
        clock: Clock,
        asked: impl Fn(&MetadataImage) -> Vec<Arc<Topic>>,
    ) {
        if self.lost.borrow().is_empty() {
            return;
        }
        let (mut images, mut lost) = (controller.follow(), self.lost.subscribe());
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            let now = clock.monotonic();
            let mut waiting = lost.borrow_and_update().clone();
            waiting.retain(|_, until| *until > now);
            let is_lost =
                |leader: Option<NodeId>| leader.is_some_and(|id| waiting.contains_key(&id));
            let has_lost =
                |topic: &Arc<Topic>| topic.partitions.values().any(|one| is_lost(one.leader));
            if waiting.is_empty() || !asked(&image).iter().any(has_lost) {
                return;
            }
            tokio::select! {
                Ok(()) = images.changed() => {}
                Ok(()) = lost.changed() => {}
                () = clock.sleep_until(waiting.values().min().copied()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LostLeaders, WAITS};
    use crate::cluster::channel::Controller;
    use crate::cluster::sessions::Sessions;
    use crate::drivers::controller::follower;
    use crate::process::clock::Clock;
    use ottla_metadata::{MetadataDelta, MetadataImage, Topic};
    use ottla_protocol::ids::{NodeId, Offset, Uuid};
    use ottla_protocol::messages::metadata::{PartitionRecord, TopicRecord};
    use std::pin::pin;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::watch;
    use tokio::time::timeout;

    const LOST: NodeId = NodeId(2);
    const MOMENT: Duration = Duration::from_millis(50);

    /// A topic of one partition with this leader.
    fn led_by(leader: NodeId) -> MetadataImage {
        let id = Uuid::from_parts(1, 1);
        let topic = TopicRecord {
            name: "topic".into(),
            topic_id: id,
            ..TopicRecord::default()
        };
        let partition = PartitionRecord {
            topic_id: id,
            replicas: vec![leader.0],
            isr: vec![leader.0],
            leader: leader.0,
            ..PartitionRecord::default()
        };
        let mut delta = MetadataDelta::new(MetadataImage::default());
        delta.replay(&topic.into());
        delta.replay(&partition.into());
        delta.finish().0
    }

    fn all(image: &MetadataImage) -> Vec<Arc<Topic>> {
        image.topics.values().cloned().collect()
    }

    /// A node whose metadata has the lost leader, and the sender of later metadata.
    fn node(clock: Clock) -> (Controller, watch::Sender<Arc<MetadataImage>>) {
        let sessions = Arc::new(Sessions::of_test(clock));
        let (mut applied, ..) = follower(MetadataImage::default(), Offset(0));
        let (publish, image) = watch::channel(Arc::new(led_by(LOST)));
        applied.image = image;
        (Controller::new(applied, sessions).0, publish)
    }

    #[tokio::test]
    async fn an_answer_waits_until_a_lost_leader_is_replaced() {
        let clock = Clock::start();
        let (controller, publish) = node(clock);
        let lost = LostLeaders::default();
        lost.until_replaced(&controller, clock, all).await;
        lost.on_lost(LOST, clock.monotonic());
        let mut waiting = pin!(lost.until_replaced(&controller, clock, all));
        assert!(timeout(MOMENT, &mut waiting).await.is_err());
        publish.send_replace(Arc::new(led_by(NodeId(3))));
        waiting.await;
    }

    #[tokio::test]
    async fn an_answer_waits_no_longer_when_the_leader_is_back_or_other_topics_are_asked_for() {
        let clock = Clock::start();
        let (controller, _publish) = node(clock);
        let lost = LostLeaders::default();
        lost.on_lost(LOST, clock.monotonic());
        lost.until_replaced(&controller, clock, |_| Vec::new())
            .await;
        let mut waiting = pin!(lost.until_replaced(&controller, clock, all));
        assert!(timeout(MOMENT, &mut waiting).await.is_err());
        lost.on_reached(LOST);
        waiting.await;
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_long() {
        let clock = Clock::start();
        let (controller, _publish) = node(clock);
        let lost = LostLeaders::default();
        lost.on_lost(LOST, clock.monotonic());
        let waiting = lost.until_replaced(&controller, clock, all);
        timeout(WAITS * 2, waiting).await.unwrap();
    }
}
