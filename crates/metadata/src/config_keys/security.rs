//! Kafka's broker configs for TLS and SASL, which are not served yet.

use super::{Bounds, ConfigKey, Importance, Update, ValueType};

/// Configs of TLS and SASL.
pub const SECURITY: &[ConfigKey] = &[
    ConfigKey::new("sasl.client.callback.handler.class", ValueType::Class, None),
    ConfigKey::new("sasl.enabled.mechanisms", ValueType::List, Some("GSSAPI"))
        .updated(Update::PerBroker),
    ConfigKey::new("sasl.jaas.config", ValueType::Password, None).updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.kerberos.kinit.cmd",
        ValueType::Text,
        Some("/usr/bin/kinit"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.kerberos.min.time.before.relogin",
        ValueType::Long,
        Some("60000"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.kerberos.principal.to.local.rules",
        ValueType::List,
        Some("DEFAULT"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new("sasl.kerberos.service.name", ValueType::Text, None).updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.kerberos.ticket.renew.jitter",
        ValueType::Double,
        Some("0.05"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.kerberos.ticket.renew.window.factor",
        ValueType::Double,
        Some("0.8"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new("sasl.login.callback.handler.class", ValueType::Class, None),
    ConfigKey::new("sasl.login.class", ValueType::Class, None),
    ConfigKey::new("sasl.login.connect.timeout.ms", ValueType::Int, None)
        .important(Importance::Low),
    ConfigKey::new("sasl.login.read.timeout.ms", ValueType::Int, None).important(Importance::Low),
    ConfigKey::new(
        "sasl.login.refresh.buffer.seconds",
        ValueType::Short,
        Some("300"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.login.refresh.min.period.seconds",
        ValueType::Short,
        Some("60"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.login.refresh.window.factor",
        ValueType::Double,
        Some("0.8"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.login.refresh.window.jitter",
        ValueType::Double,
        Some("0.05"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.login.retry.backoff.max.ms",
        ValueType::Long,
        Some("10000"),
    )
    .important(Importance::Low),
    ConfigKey::new("sasl.login.retry.backoff.ms", ValueType::Long, Some("100"))
        .important(Importance::Low),
    ConfigKey::new(
        "sasl.mechanism.controller.protocol",
        ValueType::Text,
        Some("GSSAPI"),
    )
    .important(Importance::High),
    ConfigKey::new(
        "sasl.mechanism.inter.broker.protocol",
        ValueType::Text,
        Some("GSSAPI"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "sasl.oauthbearer.allow.unverified.audience",
        ValueType::Boolean,
        Some("false"),
    ),
    ConfigKey::new(
        "sasl.oauthbearer.allow.unverified.issuer",
        ValueType::Boolean,
        Some("false"),
    ),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.algorithm",
        ValueType::Text,
        Some("RS256"),
    )
    .bounded(Bounds::OneOfAnyCase(&["es256", "rs256"])),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.claim.aud",
        ValueType::Text,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        ValueType::Int,
        Some("300"),
    )
    .bounded(Bounds::Between(0, 86_400))
    .important(Importance::Low),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.claim.iss",
        ValueType::Text,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.claim.jti.include",
        ValueType::Boolean,
        Some("false"),
    ),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        ValueType::Int,
        Some("60"),
    )
    .bounded(Bounds::Between(0, 3_600))
    .important(Importance::Low),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.claim.sub",
        ValueType::Text,
        None,
    ),
    ConfigKey::new("sasl.oauthbearer.assertion.file", ValueType::Text, None),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.private.key.file",
        ValueType::Text,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        ValueType::Password,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.assertion.template.file",
        ValueType::Text,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.client.credentials.client.id",
        ValueType::Text,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.client.credentials.client.secret",
        ValueType::Password,
        None,
    ),
    ConfigKey::new(
        "sasl.oauthbearer.clock.skew.seconds",
        ValueType::Int,
        Some("30"),
    )
    .important(Importance::Low),
    ConfigKey::new(
        "sasl.oauthbearer.expected.audience",
        ValueType::List,
        Some(""),
    )
    .important(Importance::High),
    ConfigKey::new("sasl.oauthbearer.expected.issuer", ValueType::Text, None)
        .important(Importance::High),
    ConfigKey::new(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        ValueType::Long,
        Some("3600000"),
    )
    .important(Importance::Low),
    ConfigKey::new(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        ValueType::Long,
        Some("10000"),
    )
    .important(Importance::Low),
    ConfigKey::new(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        ValueType::Long,
        Some("100"),
    )
    .important(Importance::Low),
    ConfigKey::new("sasl.oauthbearer.jwks.endpoint.url", ValueType::Text, None),
    ConfigKey::new(
        "sasl.oauthbearer.jwt.retriever.class",
        ValueType::Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
    ),
    ConfigKey::new(
        "sasl.oauthbearer.jwt.validator.class",
        ValueType::Class,
        Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
    ),
    ConfigKey::new("sasl.oauthbearer.scope", ValueType::Text, None),
    ConfigKey::new(
        "sasl.oauthbearer.scope.claim.name",
        ValueType::Text,
        Some("scope"),
    )
    .important(Importance::Low),
    ConfigKey::new(
        "sasl.oauthbearer.sub.claim.name",
        ValueType::Text,
        Some("sub"),
    )
    .important(Importance::Low),
    ConfigKey::new("sasl.oauthbearer.token.endpoint.url", ValueType::Text, None),
    ConfigKey::new("sasl.server.callback.handler.class", ValueType::Class, None),
    ConfigKey::new(
        "sasl.server.max.receive.size",
        ValueType::Int,
        Some("524288"),
    ),
    ConfigKey::new("ssl.allow.dn.changes", ValueType::Boolean, Some("false"))
        .important(Importance::Low),
    ConfigKey::new("ssl.allow.san.changes", ValueType::Boolean, Some("false"))
        .important(Importance::Low),
    ConfigKey::new("ssl.cipher.suites", ValueType::List, Some("")).updated(Update::PerBroker),
    ConfigKey::new("ssl.client.auth", ValueType::Text, Some("none"))
        .bounded(Bounds::OneOf(&["required", "requested", "none"]))
        .updated(Update::PerBroker),
    ConfigKey::new(
        "ssl.enabled.protocols",
        ValueType::List,
        Some("TLSv1.2,TLSv1.3"),
    )
    .updated(Update::PerBroker),
    ConfigKey::new(
        "ssl.endpoint.identification.algorithm",
        ValueType::Text,
        Some("https"),
    )
    .important(Importance::Low)
    .updated(Update::PerBroker),
    ConfigKey::new("ssl.engine.factory.class", ValueType::Class, None)
        .important(Importance::Low)
        .updated(Update::PerBroker),
    ConfigKey::new("ssl.key.password", ValueType::Password, None).updated(Update::PerListener),
    ConfigKey::new("ssl.keymanager.algorithm", ValueType::Text, Some("SunX509"))
        .updated(Update::PerBroker),
    ConfigKey::new("ssl.keystore.certificate.chain", ValueType::Password, None)
        .updated(Update::PerListener),
    ConfigKey::new("ssl.keystore.key", ValueType::Password, None).updated(Update::PerListener),
    ConfigKey::new("ssl.keystore.location", ValueType::Text, None).updated(Update::PerListener),
    ConfigKey::new("ssl.keystore.password", ValueType::Password, None).updated(Update::PerListener),
    ConfigKey::new("ssl.keystore.type", ValueType::Text, Some("JKS")).updated(Update::PerListener),
    ConfigKey::new(
        "ssl.principal.mapping.rules",
        ValueType::Text,
        Some("DEFAULT"),
    )
    .important(Importance::Low),
    ConfigKey::new("ssl.protocol", ValueType::Text, Some("TLSv1.3")).updated(Update::PerBroker),
    ConfigKey::new("ssl.provider", ValueType::Text, None).updated(Update::PerBroker),
    ConfigKey::new("ssl.secure.random.implementation", ValueType::Text, None)
        .important(Importance::Low)
        .updated(Update::PerBroker),
    ConfigKey::new("ssl.trustmanager.algorithm", ValueType::Text, Some("PKIX"))
        .updated(Update::PerBroker),
    ConfigKey::new("ssl.truststore.certificates", ValueType::Password, None)
        .updated(Update::PerListener),
    ConfigKey::new("ssl.truststore.location", ValueType::Text, None).updated(Update::PerListener),
    ConfigKey::new("ssl.truststore.password", ValueType::Password, None)
        .updated(Update::PerListener),
    ConfigKey::new("ssl.truststore.type", ValueType::Text, Some("JKS"))
        .updated(Update::PerListener),
];
