//! `listeners`, `advertised.listeners` and the keys that belong to them.

use std::collections::BTreeMap;
use std::fmt;

use ottla_protocol::address;

use super::problems::Problems;
use super::quorum::Roles;
use super::values::Values;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets; empty for every address.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

/// As it is dialled: an IPv6 address has brackets.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&address::dialled(&self.host, self.port))
    }
}

/// One of `listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name, upper case.
    pub name: String,
    /// Where to listen.
    pub bind: HostPort,
    /// From `advertised.listeners`. Without it, a client is told the local address of its own connection.
    pub advertised: Option<HostPort>,
}

/// The listeners of a node, by what they serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listeners {
    /// For clients and brokers.
    pub broker: Vec<ListenerConfig>,
    /// For nodes that follow the metadata, and admin tools that ask the controller.
    pub controller: Vec<ListenerConfig>,
    /// The name of the one that brokers use among themselves.
    pub inter_broker: String,
}

/// Reads all keys about listeners.
pub fn read(values: &Values, roles: Roles, problems: &mut Problems) -> Listeners {
    let all = parse_all("listeners", values, problems);
    check_distinct(&all, problems);
    let advertised: BTreeMap<String, HostPort> =
        parse_all("advertised.listeners", values, problems)
            .into_iter()
            .collect();
    check_advertised(&advertised, &all, problems);
    let controllers = names(values, "controller.listener.names");
    for name in &controllers {
        let is_own = all.iter().any(|(known, _)| known == name);
        let problem = match roles {
            Roles::BrokerAndController | Roles::Controller if !is_own => "is not one of listeners",
            Roles::Broker if is_own => {
                "is one of listeners, and process.roles does not have controller"
            }
            _ => continue,
        };
        problems.add("controller.listener.names", format!("{name} {problem}"));
    }
    check_protocols(values, all.iter().map(|(name, _)| name.as_str()), problems);
    let (controller, broker): (Vec<_>, Vec<_>) = all
        .into_iter()
        .map(|(name, bind)| ListenerConfig {
            advertised: advertised.get(&name).cloned(),
            name,
            bind,
        })
        .partition(|listener| controllers.contains(&listener.name));
    match broker.first() {
        None if roles != Roles::Controller => problems.add(
            "listeners",
            "none is left for clients: all belong to controller.listener.names".to_owned(),
        ),
        Some(listener) if roles == Roles::Controller => problems.add(
            "listeners",
            format!(
                "{} is not one of controller.listener.names, and process.roles does not have broker",
                listener.name
            ),
        ),
        _ => {}
    }
    let inter_broker = inter_broker(values, &broker, problems);
    Listeners {
        broker,
        controller,
        inter_broker,
    }
}

fn check_advertised(
    advertised: &BTreeMap<String, HostPort>,
    listeners: &[(String, HostPort)],
    problems: &mut Problems,
) {
    const KEY: &str = "advertised.listeners";
    for (name, address) in advertised {
        if matches!(address.host.as_str(), "" | "0.0.0.0" | "::") {
            problems.add(
                KEY,
                format!("{name} must have a host that clients can reach, not every address"),
            );
        }
        if !listeners.iter().any(|(known, _)| known == name) {
            problems.add(KEY, format!("{name} is not one of listeners"));
        }
    }
}

fn inter_broker(values: &Values, broker: &[ListenerConfig], problems: &mut Problems) -> String {
    let key = "inter.broker.listener.name";
    if let Some(name) = values.set(key).map(|name| name.trim().to_uppercase()) {
        if !broker.iter().any(|listener| listener.name == name) {
            problems.add(key, format!("{name} is not one of listeners for clients"));
        }
        return name;
    }
    let protocol = values.text("security.inter.broker.protocol");
    if protocol != "PLAINTEXT" {
        problems.refuse(
            "security.inter.broker.protocol",
            "TLS and SASL are not served yet",
        );
    }
    broker
        .iter()
        .find(|listener| listener.name == protocol)
        .or(broker.first())
        .map_or(protocol, |listener| listener.name.clone())
}

/// Every listener must be plaintext for now.
fn check_protocols<'a>(
    values: &Values,
    listeners: impl Iterator<Item = &'a str>,
    problems: &mut Problems,
) {
    const KEY: &str = "listener.security.protocol.map";
    let map = values.text(KEY);
    let mut protocols = BTreeMap::new();
    for item in map
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        match item.split_once(':') {
            Some((name, protocol)) => {
                protocols.insert(name.trim().to_uppercase(), protocol.trim().to_uppercase());
            }
            None => problems.add(KEY, format!("{item} is not NAME:PROTOCOL")),
        }
    }
    let mapped_by_default = values.set(KEY).is_none();
    let controllers = names(values, "controller.listener.names");
    for name in listeners {
        match protocols.get(name).map(String::as_str) {
            Some("PLAINTEXT") => {}
            Some(protocol @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => problems.refuse(
                "listeners",
                &format!("{name} asks for {protocol}; only PLAINTEXT is served yet"),
            ),
            Some(protocol) => problems.add(KEY, format!("{protocol} is no security protocol")),
            // Without a map, a controller's listener is plaintext, as in Kafka.
            None if mapped_by_default && controllers.iter().any(|known| known == name) => {}
            None => problems.add(KEY, format!("it does not name the listener {name}")),
        }
    }
}

fn check_distinct(listeners: &[(String, HostPort)], problems: &mut Problems) {
    for (index, (name, address)) in listeners.iter().enumerate() {
        let earlier = &listeners[..index];
        if earlier.iter().any(|(known, _)| known == name) {
            problems.add("listeners", format!("it names {name} twice"));
        }
        let same = |(_, known): &&(String, HostPort)| *known == *address && address.port != 0;
        if earlier.iter().find(same).is_some() {
            problems.add(
                "listeners",
                format!("{name} has the port {} of another listener", address.port),
            );
        }
    }
}

/// The names in a list of listener names.
pub fn names(values: &Values, key: &'static str) -> Vec<String> {
    values
        .list(key)
        .into_iter()
        .map(|name| name.to_uppercase())
        .collect()
}

fn parse_all(
    key: &'static str,
    values: &Values,
    problems: &mut Problems,
) -> Vec<(String, HostPort)> {
    values
        .list(key)
        .into_iter()
        .filter_map(|item| {
            let parsed = parse(&item);
            if parsed.is_none() {
                problems.add(key, format!("{item} is not NAME://host:port"));
            }
            parsed
        })
        .collect()
}

fn parse(item: &str) -> Option<(String, HostPort)> {
    let (name, address) = item.split_once("://")?;
    let valid =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(valid) {
        return None;
    }
    Some((name.to_uppercase(), parse_address(address)?))
}

/// `host:port`, `[address]:port` or `:port`.
pub fn parse_address(address: &str) -> Option<HostPort> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some(HostPort {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::{HostPort, parse, parse_address};

    fn at(host: &str, port: u16) -> HostPort {
        let host = host.to_owned();
        HostPort { host, port }
    }

    #[test]
    fn listeners_are_a_name_and_an_address() {
        assert_eq!(
            parse("plaintext://:9092"),
            Some(("PLAINTEXT".to_owned(), at("", 9092)))
        );
        assert_eq!(
            parse("IN-1://[::1]:0"),
            Some(("IN-1".to_owned(), at("::1", 0)))
        );
        assert_eq!(
            parse("A://b.example:1"),
            Some(("A".to_owned(), at("b.example", 1)))
        );
        for wrong in [
            "",
            "A",
            "A://",
            "A://h",
            "A://h:x",
            "A://h:70000",
            "://h:1",
            "A:/h:1",
            "A B://h:1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse_address("::1:9092"), None);
    }
}
