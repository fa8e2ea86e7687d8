//! The current leader beside the error of a partition that has moved, in answers to Produce and Fetch (KIP-951).
//!
//! The client goes there at once, and need not ask for metadata first.

use std::sync::Arc;
use std::time::Duration;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::{
    ErrorCode, FetchResponseData, ProduceResponseData, fetch_response, produce_response,
};
use tokio::time::timeout;

use super::endpoints::{self, Node};
use crate::broker::Broker;
use crate::context::RequestContext;

/// The first versions of Produce and Fetch with the endpoints of leaders.
const PRODUCE_SINCE: i16 = 10;
const FETCH_SINCE: i16 = 16;
/// A partition follows before the metadata that says so is published. How long an answer waits for that.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(200);

/// A partition that has moved.
struct Moved {
    topic: Uuid,
    /// Counts if `topic` is zero.
    name: String,
    index: PartitionIndex,
    /// Whether this node may be its leader: the client has an old epoch.
    may_be_here: bool,
}

/// The leaders of such partitions, and where the client reaches them.
struct Leaders {
    leaders: Vec<Option<(NodeId, LeaderEpoch)>>,
    nodes: Vec<Node>,
}

/// Adds the leaders to an answer to Produce.
pub async fn add_to_produce(
    broker: &Broker,
    context: &RequestContext,
    response: &mut ProduceResponseData,
) {
    if context.version < PRODUCE_SINCE {
        return;
    }
    let has_moved = |code: i16| ErrorCode::from(code) == ErrorCode::NotLeaderOrFollower;
    let topics = response.responses.iter().flat_map(|topic| {
        let partitions = topic.partition_responses.iter();
        let moved = partitions.filter(|partition| has_moved(partition.error_code));
        moved.map(|partition| Moved {
            topic: topic.topic_id,
            name: topic.name.as_str().to_owned(),
            index: PartitionIndex(partition.index),
            may_be_here: false,
        })
    });
    let moved: Vec<Moved> = topics.collect();
    if moved.is_empty() {
        return;
    }
    let found = leaders(broker, context, &moved).await;
    let topics = response.responses.iter_mut();
    let partitions = topics.flat_map(|topic| &mut topic.partition_responses);
    let moved = partitions.filter(|partition| has_moved(partition.error_code));
    for (partition, leader) in moved.zip(&found.leaders) {
        if let Some((id, epoch)) = leader {
            partition.current_leader = produce_response::LeaderIdAndEpoch::default()
                .with_leader_id(id.0)
                .with_leader_epoch(epoch.0);
        }
    }
    let endpoint = |node: Node| {
        produce_response::NodeEndpoint::default()
            .with_node_id(node.id.0)
            .with_host(node.host)
            .with_port(node.port)
            .with_rack(node.rack)
    };
    response.node_endpoints = found.nodes.into_iter().map(endpoint).collect();
}

/// Adds the leaders to an answer to Fetch.
pub async fn add_to_fetch(
    broker: &Broker,
    context: &RequestContext,
    response: &mut FetchResponseData,
) {
    if context.version < FETCH_SINCE {
        return;
    }
    let has_moved = |code: i16| {
        matches!(
            ErrorCode::from(code),
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        )
    };
    let topics = response.responses.iter().flat_map(|topic| {
        let moved = topic.partitions.iter();
        let moved = moved.filter(|partition| has_moved(partition.error_code));
        moved.map(|partition| Moved {
            topic: topic.topic_id,
            name: topic.topic.as_str().to_owned(),
            index: PartitionIndex(partition.partition_index),
            may_be_here: partition.error_code == ErrorCode::FencedLeaderEpoch.code(),
        })
    });
    let moved: Vec<Moved> = topics.collect();
    if moved.is_empty() {
        return;
    }
    let found = leaders(broker, context, &moved).await;
    let topics = response.responses.iter_mut();
    let partitions = topics.flat_map(|topic| &mut topic.partitions);
    let moved = partitions.filter(|partition| has_moved(partition.error_code));
    for (partition, leader) in moved.zip(&found.leaders) {
        if let Some((id, epoch)) = leader {
            partition.current_leader = fetch_response::LeaderIdAndEpoch::default()
                .with_leader_id(id.0)
                .with_leader_epoch(epoch.0);
        }
    }
    let endpoint = |node: Node| {
        fetch_response::NodeEndpoint::default()
            .with_node_id(node.id.0)
            .with_host(node.host)
            .with_port(node.port)
            .with_rack(node.rack)
    };
    response.node_endpoints = found.nodes.into_iter().map(endpoint).collect();
}

impl Moved {
    fn leader(&self, image: &MetadataImage) -> Option<(NodeId, LeaderEpoch)> {
        let topic = if self.topic == Uuid::ZERO {
            image.topic(&self.name)
        } else {
            image.topics.get(&self.topic)
        };
        let partition = topic?.partitions.get(&self.index)?;
        Some((partition.leader?, partition.leader_epoch))
    }
}

async fn leaders(broker: &Broker, context: &RequestContext, moved: &[Moved]) -> Leaders {
    let own = broker.config.node_id;
    let leader = |one: &Moved, image: &MetadataImage| {
        let leader = one.leader(image);
        leader.filter(|(id, _)| one.may_be_here || *id != own)
    };
    let is_published = |image: &Arc<MetadataImage>| {
        let mut moved = moved.iter();
        moved.all(|one| leader(one, image).is_some() || one.leader(image).is_none())
    };
    let mut images = broker.controller.follow();
    let published = timeout(PUBLISHED_WITHIN, images.wait_for(is_published)).await;
    let image = match published {
        Ok(Ok(image)) => Arc::clone(&image),
        Ok(Err(_)) | Err(_) => broker.controller.image(),
    };
    let leaders: Vec<_> = moved.iter().map(|one| leader(one, &image)).collect();
    let mut nodes = endpoints::nodes(broker, &image, context);
    nodes.retain(|node| {
        let mut named = leaders.iter().flatten();
        !node.fenced && named.any(|(id, _)| *id == node.id)
    });
    Leaders { leaders, nodes }
}
