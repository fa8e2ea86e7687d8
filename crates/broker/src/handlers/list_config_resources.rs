//! `ListConfigResources` (key 74), versions 0 and 1.
//!
//! - 0: the client metrics subscriptions (KIP-714). 1: resources of the requested types; none requested means all types.

use std::collections::BTreeSet;

use ottla_metadata::{MetadataImage, ResourceKind};
use ottla_protocol::messages::list_config_resources_response::ConfigResource;
use ottla_protocol::messages::{
    ErrorCode, ListConfigResourcesRequestData, ListConfigResourcesResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Lists the resources that have configs.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListConfigResourcesRequestData,
) -> ListConfigResourcesResponseData {
    let all = [
        ResourceKind::Topic,
        ResourceKind::Broker,
        ResourceKind::BrokerLogger,
        ResourceKind::ClientMetrics,
        ResourceKind::Group,
    ];
    let kinds: Option<Vec<ResourceKind>> = if context.version == 0 {
        Some(vec![ResourceKind::ClientMetrics])
    } else if request.resource_types.is_empty() {
        Some(all.to_vec())
    } else {
        let unique: BTreeSet<i8> = request.resource_types.iter().copied().collect();
        unique.into_iter().map(ResourceKind::from_code).collect()
    };
    let Some(kinds) = kinds else {
        return ListConfigResourcesResponseData::default()
            .with_error_code(ErrorCode::UnsupportedVersion.code());
    };
    let image = broker.controller.image();
    let resources = kinds.into_iter().flat_map(|kind| {
        let named = move |name: String| {
            ConfigResource::default()
                .with_resource_type(kind.code())
                .with_resource_name(name.into())
        };
        names(&image, kind).into_iter().map(named)
    });
    ListConfigResourcesResponseData::default().with_config_resources(resources.collect())
}

fn names(image: &MetadataImage, kind: ResourceKind) -> Vec<String> {
    match kind {
        ResourceKind::Topic => image.topic_ids.keys().cloned().collect(),
        ResourceKind::Broker | ResourceKind::BrokerLogger => {
            image.brokers.keys().map(ToString::to_string).collect()
        }
        ResourceKind::ClientMetrics | ResourceKind::Group => image
            .configs
            .keys()
            .filter(|resource| resource.kind == kind)
            .map(|resource| resource.name.clone())
            .collect(),
    }
}
