//! How many connections the configs allow, resolved. They may change while the broker runs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ottla_metadata::MetadataImage;
use ottla_metadata::config_keys::{connections_by_address, find};
use ottla_metadata::effective::{self, StaticConfigs};
use ottla_metadata::{ConfigResource, ResourceKind};

/// How many connections may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedConnections {
    /// `max.connections`: in all.
    pub in_all: usize,
    /// `max.connections.per.ip`: from one address.
    pub per_address: usize,
    /// `max.connections.per.ip.overrides`: from chosen addresses.
    pub overrides: BTreeMap<IpAddr, usize>,
}

impl AllowedConnections {
    /// What is allowed as of now. A stored value that does not parse counts as Kafka's default.
    pub fn resolve(image: &MetadataImage, statics: &StaticConfigs) -> Self {
        let value = |name: &str| {
            let key = find(ResourceKind::Broker, name)?;
            effective::broker_key(image, statics, key).value
        };
        let count = |name| {
            let count = value(name).and_then(|text| text.trim().parse().ok());
            count.unwrap_or(usize::MAX)
        };
        let overrides = value("max.connections.per.ip.overrides").unwrap_or_default();
        Self {
            in_all: count("max.connections"),
            per_address: count("max.connections.per.ip"),
            overrides: connections_by_address(&overrides).unwrap_or_default(),
        }
    }

    /// Whether a change to the configs of `resource` can be one to these.
    pub fn depend_on(resource: &ConfigResource) -> bool {
        resource.kind == ResourceKind::Broker
    }

    /// How many may come from this address.
    pub fn per(&self, address: IpAddr) -> usize {
        let own = self.overrides.get(&address);
        own.copied().unwrap_or(self.per_address)
    }
}

#[cfg(test)]
mod tests {
    use super::AllowedConnections;
    use ottla_metadata::effective::StaticConfigs;
    use ottla_metadata::{ConfigResource, MetadataImage};
    use ottla_protocol::ids::NodeId;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn what_was_set_while_it_ran_beats_the_file_and_nonsense_allows_all() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let statics = StaticConfigs {
            node: NodeId(1),
            values: [("max.connections.per.ip".to_owned(), "7".to_owned())].into(),
        };
        let mut image = MetadataImage::default();
        let allowed = AllowedConnections::resolve(&image, &statics);
        assert_eq!((allowed.in_all, allowed.per(here)), (2_147_483_647, 7));
        let stored = [
            ("max.connections", "3"),
            ("max.connections.per.ip.overrides", "127.0.0.1:2"),
        ];
        let stored = stored.map(|(name, value)| (name.to_owned(), value.to_owned()));
        image
            .configs
            .insert(ConfigResource::broker(1), stored.into_iter().collect());
        let allowed = AllowedConnections::resolve(&image, &statics);
        assert_eq!((allowed.in_all, allowed.per(here)), (3, 2));
        let nonsense = (
            "max.connections.per.ip.overrides".to_owned(),
            "x".to_owned(),
        );
        image
            .configs
            .insert(ConfigResource::broker(1), [nonsense].into_iter().collect());
        assert_eq!(AllowedConnections::resolve(&image, &statics).per(here), 7);
    }
}
