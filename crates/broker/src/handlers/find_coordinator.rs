//! `FindCoordinator` (key 10), versions 0 to 6.
//!
//! - 1: the type of the key. 3: flexible. 4: several keys. 5: new error codes. 6: share coordinators.
//!
//! The first request for the coordinator of a group creates `__consumer_offsets`. Transactions and share groups are not
//! served: the answer is an error that clients do not retry.

use ottla_metadata::MetadataImage;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{
    ErrorCode, FindCoordinatorRequestData, FindCoordinatorResponseData, KafkaString,
};

use crate::broker::Broker;
use crate::cluster::auto_create;
use crate::cluster::endpoints::{self, Node};
use crate::context::RequestContext;
use crate::coordinators::GroupCoordinators;
use crate::internal_topics::CONSUMER_OFFSETS;
use crate::refused_transactions;

/// From this version on several keys are asked for at once.
const FIRST_WITH_MANY_KEYS: i16 = 4;
/// The types of coordinators.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Why there is no coordinator.
struct Refused {
    code: ErrorCode,
    message: Option<&'static str>,
}

/// Returns the broker that leads the partition of each key.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FindCoordinatorRequestData,
) -> FindCoordinatorResponseData {
    if context.version < FIRST_WITH_MANY_KEYS {
        return match find(broker, context, request.key_type, &request.key).await {
            Ok(node) => FindCoordinatorResponseData::default()
                .with_node_id(node.id.0)
                .with_host(node.host)
                .with_port(node.port),
            Err(refused) => old_refusal(&refused, context.version),
        };
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let found = find(broker, context, request.key_type, &key).await;
        let coordinator = Coordinator::default().with_key(key);
        coordinators.push(match found {
            Ok(node) => coordinator
                .with_node_id(node.id.0)
                .with_host(node.host)
                .with_port(node.port),
            Err(refused) => coordinator
                .with_node_id(-1)
                .with_port(-1)
                .with_error_code(refused.code.code())
                .with_error_message(message(&refused)),
        });
    }
    FindCoordinatorResponseData::default().with_coordinators(coordinators)
}

fn old_refusal(refused: &Refused, version: i16) -> FindCoordinatorResponseData {
    let response = FindCoordinatorResponseData::default()
        .with_error_code(refused.code.code())
        .with_node_id(-1)
        .with_port(-1);
    if version >= 1 {
        response.with_error_message(message(refused))
    } else {
        response
    }
}

fn message(refused: &Refused) -> Option<KafkaString> {
    refused.message.map(KafkaString::from_static)
}

async fn find(
    broker: &Broker,
    context: &RequestContext,
    key_type: i8,
    key: &KafkaString,
) -> Result<Node, Refused> {
    match key_type {
        GROUP => find_group(broker, context, key.as_str()).await,
        TRANSACTION => {
            broker.refused_transactions.log(context, key.as_str());
            Err(Refused {
                code: refused_transactions::CODE,
                message: Some(refused_transactions::MESSAGE),
            })
        }
        _ => Err(Refused {
            code: ErrorCode::InvalidRequest,
            message: Some("only groups have a coordinator in this release"),
        }),
    }
}

async fn find_group(
    broker: &Broker,
    context: &RequestContext,
    group_id: &str,
) -> Result<Node, Refused> {
    let mut image = broker.controller.image();
    if image.topic(CONSUMER_OFFSETS).is_none() {
        // If this fails, the answer is `COORDINATOR_NOT_AVAILABLE`: the client asks again, and that creates the topic.
        let _ = auto_create::create_missing(broker, vec![CONSUMER_OFFSETS.to_owned()]).await;
        image = broker.controller.image();
        broker.groups.reconcile(&image);
    }
    leader(&image, group_id)
        .and_then(|leader| {
            let nodes = endpoints::nodes(broker, &image, context).into_iter();
            nodes
                .filter(|node| !node.fenced)
                .find(|node| node.id == leader)
        })
        .ok_or(Refused {
            code: ErrorCode::CoordinatorNotAvailable,
            message: None,
        })
}

fn leader(image: &MetadataImage, group_id: &str) -> Option<ottla_protocol::ids::NodeId> {
    let index = GroupCoordinators::partition_of(image, group_id)?;
    let topic = image.topic(CONSUMER_OFFSETS)?;
    topic.partitions.get(&index)?.leader
}
