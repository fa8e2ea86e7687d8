//! How many connections the configs allow. They may change while the broker runs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ottla_metadata::MetadataImage;
use ottla_metadata::config_keys::{connections_by_address, find};
use ottla_metadata::effective::{self, StaticConfigs};
use ottla_metadata::{ConfigResource, ResourceKind};

/// Upper bounds of open connections.
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
    /// Reads the bounds from the configs. A stored value that does not parse is logged, and sets no bound.
    pub fn resolve(image: &MetadataImage, statics: &StaticConfigs) -> Self {
        let (allowed, unreadable) = Self::read(image, statics);
        for (key, value) in unreadable {
            tracing::warn!(
                key,
                value,
                "the value of a config cannot be read; connections are not bounded by it"
            );
        }
        allowed
    }

    /// The bounds, and the configs whose values do not parse.
    fn read(image: &MetadataImage, statics: &StaticConfigs) -> (Self, Vec<(&'static str, String)>) {
        let mut unreadable = Vec::new();
        let value = |name: &str| {
            let key = find(ResourceKind::Broker, name)?;
            effective::broker_key(image, statics, key).value
        };
        let mut count = |name| {
            let text = value(name).unwrap_or_default();
            text.trim().parse().unwrap_or_else(|_| {
                unreadable.push((name, text));
                usize::MAX
            })
        };
        let (in_all, per_address) = (count("max.connections"), count("max.connections.per.ip"));
        let name = "max.connections.per.ip.overrides";
        let text = value(name).unwrap_or_default();
        let overrides = connections_by_address(&text).unwrap_or_else(|_| {
            unreadable.push((name, text));
            BTreeMap::new()
        });
        let allowed = Self {
            in_all,
            per_address,
            overrides,
        };
        (allowed, unreadable)
    }

    /// Whether a change of the configs of `resource` may change the bounds.
    pub fn depend_on(resource: &ConfigResource) -> bool {
        resource.kind == ResourceKind::Broker
    }

    pub fn for_address(&self, address: IpAddr) -> usize {
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
    fn stored_values_beat_the_file_and_unreadable_ones_set_no_bound() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let statics = StaticConfigs {
            node: NodeId(1),
            values: [("max.connections.per.ip".to_owned(), "7".to_owned())].into(),
        };
        let mut image = MetadataImage::default();
        let allowed = AllowedConnections::resolve(&image, &statics);
        assert_eq!(
            (allowed.in_all, allowed.for_address(here)),
            (2_147_483_647, 7)
        );
        let stored = [
            ("max.connections", "3"),
            ("max.connections.per.ip.overrides", "127.0.0.1:2"),
        ];
        let stored = stored.map(|(name, value)| (name.to_owned(), value.to_owned()));
        image
            .configs
            .insert(ConfigResource::broker(1), stored.into_iter().collect());
        let allowed = AllowedConnections::resolve(&image, &statics);
        assert_eq!((allowed.in_all, allowed.for_address(here)), (3, 2));
        assert_eq!(AllowedConnections::read(&image, &statics).1, []);
        let unreadable = [
            ("max.connections", "many"),
            ("max.connections.per.ip.overrides", "x"),
        ];
        let unreadable = unreadable.map(|(name, value)| (name, value.to_owned()));
        let stored = unreadable.clone();
        let stored = stored.map(|(name, value)| (name.to_owned(), value));
        image
            .configs
            .insert(ConfigResource::broker(1), stored.into_iter().collect());
        let (allowed, reported) = AllowedConnections::read(&image, &statics);
        assert_eq!((allowed.in_all, allowed.for_address(here)), (usize::MAX, 7));
        assert_eq!(reported, unreadable);
    }
}
