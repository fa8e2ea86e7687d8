//! Configuration keys in environment variables, named as Apache Kafka's container image names them.
//!
//! `KAFKA_ADVERTISED_LISTENERS` sets `advertised.listeners`. Some variables with the prefix set no key: those for Kafka's
//! JVM and its logs, and those that Kubernetes sets for a service with the name `kafka`.

use super::Variable;

const PREFIX: &str = "KAFKA_";

/// Variables that Kafka's image and scripts read themselves and never turn into a key.
const OF_KAFKAS_SCRIPTS: &[&str] = &[
    "KAFKA_CLUSTER_ID",
    "KAFKA_DEBUG",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_LOG4J_CMD_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_OPTS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_VERSION",
];

/// Prefixes of the variables by which Kubernetes tells pods about a service.
const OF_KUBERNETES: &[&str] = &["KAFKA_SERVICE_", "KAFKA_PORT_"];

/// The key that a variable sets, if it sets one.
pub fn key(variable: &Variable) -> Option<String> {
    let (name, value) = variable;
    let rest = name.strip_prefix(PREFIX).filter(|rest| !rest.is_empty())?;
    let of_others = OF_KAFKAS_SCRIPTS.contains(&name.as_str())
        || OF_KUBERNETES.iter().any(|prefix| name.starts_with(prefix))
        || name == "KAFKA_PORT" && value.contains("://");
    // Kafka's rule: one underscore is a dot, two are an underscore, three a hyphen.
    (!of_others).then(|| {
        let dotted = rest.to_lowercase().replace('_', ".");
        dotted.replace("...", "-").replace("..", "_")
    })
}

#[cfg(test)]
mod tests {
    use super::key;

    fn key_of(name: &str) -> Option<String> {
        key(&(name.to_owned(), "tcp://10.0.0.1:9092".to_owned()))
    }

    #[test]
    fn underscores_stand_for_dots_underscores_and_hyphens() {
        let keys = [
            ("KAFKA_ADVERTISED_LISTENERS", "advertised.listeners"),
            ("KAFKA_OTTLA_HTTP_LISTEN", "ottla.http.listen"),
            ("KAFKA_SOME__PLUGIN_KEY", "some_plugin.key"),
            ("KAFKA_SOME___PLUGIN_KEY", "some-plugin.key"),
        ];
        for (name, expected) in keys {
            assert_eq!(key_of(name).as_deref(), Some(expected));
        }
    }

    #[test]
    fn variables_of_others_are_no_keys() {
        for name in [
            "PATH",
            "KAFKA_",
            "OTTLA_HTTP_LISTEN",
            "KAFKA_HEAP_OPTS",
            "KAFKA_LOG4J_ROOT_LOGLEVEL",
            "KAFKA_SERVICE_HOST",
            "KAFKA_PORT",
            "KAFKA_PORT_9092_TCP_ADDR",
        ] {
            assert_eq!(key_of(name), None, "{name}");
        }
    }
}
