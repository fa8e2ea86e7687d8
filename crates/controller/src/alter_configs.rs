//! IncrementalAlterConfigs and AlterConfigs.

use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::{ConfigResource, ResourceKind};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;

use crate::config_refusal::ConfigRefusal;
use crate::configs::{self, Change};
use crate::{Decision, Refusal, View};

/// The reply for each resource, in the order of the request.
pub type Reply = Vec<(ConfigResource, Result<(), Refusal>)>;

/// Decides IncrementalAlterConfigs: changes some configs of each resource.
pub fn decide_incremental(
    view: View<'_>,
    resources: &[(ConfigResource, Vec<(String, Change)>)],
    validate_only: bool,
) -> Decision<Reply> {
    each(
        view,
        resources,
        validate_only,
        |resource, topic, changes| {
            let mut names = BTreeSet::new();
            if let Some((twice, _)) = changes.iter().find(|(name, _)| !names.insert(name)) {
                return Err(ConfigRefusal::NamedTwice(twice.clone()));
            }
            configs::set(view, resource, topic, changes)
        },
    )
}

/// Decides AlterConfigs: replaces all configs of each resource.
pub fn decide_replacing(
    view: View<'_>,
    resources: &[(ConfigResource, BTreeMap<String, String>)],
    validate_only: bool,
) -> Decision<Reply> {
    each(view, resources, validate_only, |resource, topic, values| {
        configs::replace(view, resource, topic, values)
    })
}

/// The records that change one resource.
type Changed = Result<Vec<MetadataRecord>, ConfigRefusal>;

fn each<T>(
    view: View<'_>,
    resources: &[(ConfigResource, T)],
    validate_only: bool,
    change: impl Fn(&ConfigResource, Option<Uuid>, &T) -> Changed,
) -> Decision<Reply> {
    let mut records = Vec::new();
    let mut reply = Reply::new();
    for (resource, wanted) in resources {
        let twice = resources
            .iter()
            .filter(|(other, _)| other == resource)
            .count()
            > 1;
        let result = if twice {
            Err(Refusal::ResourceNamedTwice)
        } else {
            owner(view, resource).and_then(|topic| Ok(change(resource, topic, wanted)?))
        };
        reply.push((
            resource.clone(),
            result.map(|its_records| records.extend(its_records)),
        ));
    }
    if validate_only {
        records.clear();
    }
    Decision::new(records, reply)
}

/// Refuses a resource that does not exist. Returns the id of a topic, `None` for other resources.
fn owner(view: View<'_>, resource: &ConfigResource) -> Result<Option<Uuid>, Refusal> {
    match resource.kind {
        ResourceKind::Topic => view
            .image
            .topic_ids
            .get(&resource.name)
            .copied()
            .map(Some)
            .ok_or(Refusal::UnknownTopic),
        ResourceKind::Broker if resource.name.is_empty() => Ok(None),
        ResourceKind::Broker => {
            let known = resource.name.parse().map(NodeId);
            let known = known.is_ok_and(|id| view.image.brokers.contains_key(&id));
            known
                .then_some(None)
                .ok_or_else(|| Refusal::NotABroker(resource.name.clone()))
        }
        ResourceKind::Group if resource.name.is_empty() => Err(Refusal::DefaultGroup),
        ResourceKind::ClientMetrics if resource.name.is_empty() => {
            Err(Refusal::UnnamedClientMetrics)
        }
        ResourceKind::Group | ResourceKind::ClientMetrics => Ok(None),
        ResourceKind::BrokerLogger => Err(Refusal::LoggerLevels),
    }
}
