//! Starts and ends the tasks that fetch from other brokers, as the metadata changes.
//!
//! Each lane of a leader has one task. A leader that was started again, or is reached at another address, gets a new task,
//! so that nothing waits for the old connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_replication::Replica;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::stopping::stopped;
use crate::broker::Broker;
use crate::cluster::fetchers::{Fetcher, Followed, Lane, Partitions, Source};
use crate::replicas::settings::replica_fetchers;

/// A task that fetches.
#[derive(Debug)]
struct Running {
    source: Source,
    own: Replica,
    assigned: watch::Sender<Arc<Partitions>>,
    task: AbortHandle,
}

struct Fetchers {
    broker: Arc<Broker>,
    followed: Followed,
    running: BTreeMap<Lane, Running>,
    tasks: JoinSet<()>,
    /// The leaders that cannot be reached because they have not registered the endpoint for it. This was logged.
    unreachable: BTreeSet<NodeId>,
}

/// Fetches what this node follows until the broker stops.
pub async fn follow(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let mut images = broker.controller.follow();
    let mut fetchers = Fetchers::new(broker);
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        fetchers.reconcile(&image);
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            // One that was ended, or that has panicked: it is started again if it is needed.
            Some(_) = fetchers.tasks.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    fetchers.tasks.shutdown().await;
}

impl Fetchers {
    fn new(broker: Arc<Broker>) -> Self {
        let followed = Followed::new(broker.config.node_id);
        Self {
            broker,
            followed,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            unreachable: BTreeSet::new(),
        }
    }

    fn reconcile(&mut self, image: &Arc<MetadataImage>) {
        let lanes = replica_fetchers(image, &self.broker.config.statics);
        self.followed.set_lanes(lanes);
        self.followed.update(image);
        let by_lane = self.followed.by_lane().clone();
        self.running.retain(|lane, running| {
            let stays = by_lane.contains_key(lane);
            if !stays {
                running.task.abort();
            }
            stays
        });
        let node = self.broker.config.node_id;
        let own = Replica {
            node,
            broker_epoch: image.brokers.get(&node).map(|own| own.epoch),
        };
        for (lane, partitions) in by_lane {
            match self.source(lane.leader, image) {
                Some(source) => self.fetch((lane, partitions), source, own),
                None => {
                    if let Some(running) = self.running.remove(&lane) {
                        running.task.abort();
                    }
                }
            }
        }
    }

    /// Where a leader is reached.
    fn source(&mut self, leader: NodeId, image: &MetadataImage) -> Option<Source> {
        let listener = &self.broker.config.network.inter_broker_listener;
        let registered = image.brokers.get(&leader);
        let reached =
            registered.and_then(|broker| Some((broker.endpoint(listener)?, broker.epoch)));
        let Some((endpoint, epoch)) = reached else {
            if self.unreachable.insert(leader) {
                tracing::error!(
                    leader = leader.0,
                    listener,
                    "cannot fetch from a leader: it has registered no endpoint of inter.broker.listener.name"
                );
            }
            return None;
        };
        self.unreachable.remove(&leader);
        Some(Source {
            leader,
            address: endpoint.address(),
            epoch,
        })
    }

    /// Has `partitions` fetched from `source`, by the task that is there or by a new one.
    fn fetch(&mut self, (lane, partitions): (Lane, Arc<Partitions>), source: Source, own: Replica) {
        if let Some(running) = self.running.get(&lane) {
            let is_same = running.source == source && running.own == own;
            if is_same && !running.task.is_finished() {
                running.assigned.send_if_modified(|assigned| {
                    let is_news = !Arc::ptr_eq(assigned, &partitions);
                    *assigned = partitions;
                    is_news
                });
                return;
            }
            running.task.abort();
        }
        let broker = &self.broker;
        let fetcher = Fetcher::new(
            source.clone(),
            own,
            &broker.config.replication,
            Arc::clone(&broker.replicas),
            Arc::clone(&broker.lost_leaders),
        );
        let (assigned, assignments) = watch::channel(partitions);
        let task = self.tasks.spawn(fetcher.run(assignments));
        let running = Running {
            source,
            own,
            assigned,
            task,
        };
        self.running.insert(lane, running);
    }
}
