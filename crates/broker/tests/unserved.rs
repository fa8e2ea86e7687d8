//! What is not served yet, and the answers by which clients and tools learn of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nowhere;
mod support;

use std::sync::Arc;

use ottla_broker::Broker;
use ottla_broker::config::BrokerConfig;
use ottla_broker::drivers::controller::controller;
use ottla_broker::handlers::{
    consumer_group_describe, consumer_group_heartbeat, describe_client_quotas,
    describe_user_scram_credentials, init_producer_id, list_transactions, sasl_handshake, served,
};
use ottla_broker::process::clock::Clock;
use ottla_controller::Settings;
use ottla_metadata::{Loader, MetadataDelta, MetadataImage};
use ottla_protocol::messages::metadata::{
    ClientQuotaRecord, MetadataRecord, UserScramCredentialRecord, client_quota_record,
};
use ottla_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequestData, ConsumerGroupHeartbeatRequestData,
    DescribeClientQuotasRequestData, DescribeUserScramCredentialsRequestData, ErrorCode,
    InitProducerIdRequestData, KafkaString, ListTransactionsRequestData, SaslHandshakeRequestData,
    describe_client_quotas_request, describe_user_scram_credentials_request,
};

use nowhere::{Nowhere, no_sessions};
use support::context;

fn text(text: &'static str) -> KafkaString {
    KafkaString::from_static(text)
}

/// A broker whose metadata is what these records make.
fn broker(records: &[MetadataRecord]) -> (tempfile::TempDir, Arc<Broker>) {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    let settings = Settings {
        statics: config.statics.clone(),
        ..Settings::default()
    };
    let mut delta = MetadataDelta::new(MetadataImage::default());
    for record in records {
        delta.replay(record);
    }
    let sessions = no_sessions();
    let (controller, ..) = controller(Loader::new(delta.finish().0), settings, Nowhere, sessions);
    let broker = Broker::new(config, Clock::start(), text("cluster"), controller, served);
    (directory, broker)
}

#[test]
fn sasl_is_refused_on_a_listener_without_it() {
    let (_directory, broker) = broker(&[]);
    let request = SaslHandshakeRequestData::default().with_mechanism(text("PLAIN"));
    let answer = sasl_handshake::handle(&broker, &context(ApiKey::SaslHandshake), request);
    assert_eq!(answer.error_code, ErrorCode::IllegalSaslState.code());
    assert!(answer.mechanisms.is_empty());
}

#[test]
fn consumer_groups_are_refused_as_by_a_kafka_at_group_version_0() {
    let (_directory, broker) = broker(&[]);
    let unsupported = ErrorCode::UnsupportedVersion.code();
    let context_of = context(ApiKey::ConsumerGroupHeartbeat);
    let request = ConsumerGroupHeartbeatRequestData::default().with_group_id(text("g"));
    let answer = consumer_group_heartbeat::handle(&broker, &context_of, request);
    assert_eq!((answer.error_code, answer.member_epoch), (unsupported, 0));
    let context_of = context(ApiKey::ConsumerGroupDescribe);
    let groups = vec![text("g"), text("h"), text("g")];
    let request = ConsumerGroupDescribeRequestData::default().with_group_ids(groups.clone());
    let answer = consumer_group_describe::handle(&broker, &context_of, request);
    let answered: Vec<_> = answer.groups.iter().map(|group| &group.group_id).collect();
    assert_eq!(answered, groups.iter().collect::<Vec<_>>());
    let mut codes = answer.groups.iter().map(|group| group.error_code);
    assert!(codes.all(|code| code == unsupported));
}

#[tokio::test]
async fn a_transactional_id_gets_no_producer_id() {
    let (_directory, broker) = broker(&[]);
    let request = InitProducerIdRequestData::default()
        .with_transactional_id(Some(text("tx")))
        .with_producer_id(-1)
        .with_producer_epoch(-1);
    let context = context(ApiKey::InitProducerId);
    let answer = init_producer_id::handle(&broker, &context, request).await;
    let refused = ErrorCode::ClusterAuthorizationFailed.code();
    assert_eq!((answer.error_code, answer.producer_id), (refused, -1));
}

#[test]
fn scram_users_are_those_that_kafka_left() {
    let kept = UserScramCredentialRecord {
        name: "kept".to_owned(),
        mechanism: 2,
        iterations: 8192,
        ..UserScramCredentialRecord::default()
    };
    let ask = |broker: &Broker, names: Option<&[&'static str]>| {
        let user = |name: &&'static str| {
            describe_user_scram_credentials_request::UserName::default().with_name(text(name))
        };
        let users = names.map(|names| names.iter().map(user).collect());
        let request = DescribeUserScramCredentialsRequestData::default().with_users(users);
        let context = context(ApiKey::DescribeUserScramCredentials);
        let answer = describe_user_scram_credentials::handle(broker, &context, request);
        assert_eq!(answer.error_code, 0);
        let results = answer.results.into_iter();
        results
            .map(|result| {
                let credentials = result.credential_infos.iter();
                let credentials: Vec<_> = credentials
                    .map(|credential| (credential.mechanism, credential.iterations))
                    .collect();
                (
                    result.user.as_str().to_owned(),
                    result.error_code,
                    credentials,
                )
            })
            .collect::<Vec<_>>()
    };
    let (_directory, empty) = broker(&[]);
    assert!(ask(&empty, None).is_empty() && ask(&empty, Some(&[])).is_empty());
    let (missing, twice) = (ErrorCode::ResourceNotFound, ErrorCode::DuplicateResource);
    let of = |name: &str, code: ErrorCode| (name.to_owned(), code.code(), Vec::new());
    let asked = ask(&empty, Some(&["a", "b", "a"]));
    assert_eq!(asked, [of("a", twice), of("b", missing)]);
    let (_directory, adopted) = broker(&[kept.into()]);
    let shown = ("kept".to_owned(), 0, vec![(2, 8192)]);
    assert_eq!(ask(&adopted, None), std::slice::from_ref(&shown));
    let asked = ask(&adopted, Some(&["kept", "lost"]));
    assert_eq!(asked, [shown, of("lost", missing)]);
}

#[test]
fn client_quotas_are_those_that_kafka_left() {
    let quota = ClientQuotaRecord {
        entity: vec![client_quota_record::EntityData {
            entity_type: "user".to_owned(),
            entity_name: None,
            ..client_quota_record::EntityData::default()
        }],
        key: "producer_byte_rate".to_owned(),
        value: 1024.0,
        ..ClientQuotaRecord::default()
    };
    let ask = |broker: &Broker, kind: &'static str| {
        let component = describe_client_quotas_request::ComponentData::default()
            .with_entity_type(text(kind))
            .with_match_type(1);
        let request = DescribeClientQuotasRequestData::default().with_components(vec![component]);
        let context = context(ApiKey::DescribeClientQuotas);
        describe_client_quotas::handle(broker, &context, request)
    };
    let (_directory, empty) = broker(&[]);
    let answer = ask(&empty, "user");
    assert_eq!((answer.error_code, answer.entries), (0, Some(Vec::new())));
    let answer = ask(&empty, "group");
    let unsupported = ErrorCode::UnsupportedVersion.code();
    assert_eq!((answer.error_code, answer.entries), (unsupported, None));
    let (_directory, adopted) = broker(&[quota.into()]);
    let entries = ask(&adopted, "user").entries.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].values[0].key.as_str(), "producer_byte_rate");
    assert!((entries[0].values[0].value - 1024.0).abs() < f64::EPSILON);
    assert_eq!(ask(&adopted, "ip").entries, Some(Vec::new()));
}

#[test]
fn no_transactions_are_listed_and_filters_are_checked() {
    let (_directory, broker) = broker(&[]);
    let ask =
        |request| list_transactions::handle(&broker, &context(ApiKey::ListTransactions), request);
    let states = ["Ongoing", "Foo", "Foo", "PrepareEpochFence"];
    let request = ListTransactionsRequestData::default()
        .with_state_filters(states.into_iter().map(text).collect())
        .with_transactional_id_pattern(Some(text("a.*")));
    let answer = ask(request);
    assert_eq!(answer.error_code, 0);
    assert!(answer.transaction_states.is_empty());
    assert_eq!(answer.unknown_state_filters, [text("Foo")]);
    let request =
        ListTransactionsRequestData::default().with_transactional_id_pattern(Some(text("(a")));
    let code = ErrorCode::InvalidRegularExpression.code();
    assert_eq!(ask(request).error_code, code);
}
