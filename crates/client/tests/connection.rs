//! What a connection does when the broker behaves, and when it does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod double;

use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut as _;
use double::{Asked, Double, Step, Topic, all_versions, answer, metadata, versions};
use ottla_client::{ClientError, Cluster, Connection, Options};
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages::MetadataRequestData;
use ottla_protocol::messages::api_versions_response::ApiVersion;
use tokio::task::JoinSet;

fn options() -> Options {
    Options {
        request_timeout: Duration::from_secs(20),
        ..Options::default()
    }
}

/// A connection to a broker that answers `ApiVersions`, and everything else as `script` says.
async fn connected(
    script: impl Fn(&Asked) -> Step + Send + Sync + 'static,
) -> (Double, Connection) {
    let double = Double::start(move |asked| match asked.api {
        ApiKey::ApiVersions => all_versions(asked),
        _ => script(asked),
    })
    .await;
    let address = double.address.to_string();
    let connection = Connection::open(&address, &options()).await.unwrap();
    (double, connection)
}

#[tokio::test]
async fn many_calls_share_a_connection_and_each_gets_its_answer() {
    let (_double, connection) = connected(|asked| metadata(asked, Topic::default())).await;
    let connection = Arc::new(connection);
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let connection = Arc::clone(&connection);
        calls.spawn(async move { connection.call(&MetadataRequestData::default()).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().unwrap().brokers[0].node_id, 1);
    }
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_connection() {
    let (_double, connection) = connected(|asked| match metadata(asked, Topic::default()) {
        Step::Answer(body) => Step::AnswerToAnother(body),
        step => step,
    })
    .await;
    let answer = connection.call(&MetadataRequestData::default()).await;
    assert!(matches!(answer, Err(ClientError::Disconnected { .. })));
    assert!(connection.is_broken());
}

#[tokio::test]
async fn a_broker_that_hangs_up_ends_the_call() {
    let (_double, connection) = connected(|_| Step::Close).await;
    let answer = connection.call(&MetadataRequestData::default()).await;
    assert!(matches!(answer, Err(ClientError::Disconnected { .. })));
    assert!(connection.is_broken());
}

#[tokio::test]
async fn silence_ends_the_call_and_the_connection() {
    let (_double, connection) = connected(|_| Step::Silence).await;
    let limit = Duration::from_millis(20);
    let request = MetadataRequestData::default();
    let answer = connection.call_within(&request, limit).await;
    assert!(matches!(answer, Err(ClientError::TimedOut { .. })));
    assert!(connection.is_broken());
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_refused_before_memory_is_taken() {
    let double = Double::start(|_| Step::Raw(i32::MAX.to_be_bytes().to_vec())).await;
    let opened = Connection::open(&double.address.to_string(), &options()).await;
    let size = i64::from(i32::MAX);
    assert!(matches!(opened, Err(ClientError::FrameTooLarge { size: told, .. }) if told == size));
}

#[tokio::test]
async fn an_answer_that_is_not_kafkas_is_said_to_be_unreadable() {
    let (_double, connection) = connected(|_| answer(|out| out.put_u8(0xff))).await;
    let answer = connection.call(&MetadataRequestData::default()).await;
    assert!(matches!(answer, Err(ClientError::Malformed { .. })));
}

#[tokio::test]
async fn an_api_that_the_broker_does_not_offer_is_named() {
    let double = Double::start(|asked| versions(asked, Vec::new())).await;
    let address = double.address.to_string();
    let connection = Connection::open(&address, &options()).await.unwrap();
    let error = connection
        .call(&MetadataRequestData::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("does not offer Metadata"),
        "{error}"
    );
}

#[tokio::test]
async fn an_older_broker_is_asked_again_in_its_own_version() {
    let offered = ApiVersion {
        api_key: ApiKey::ApiVersions as i16,
        min_version: 0,
        max_version: 2,
        ..ApiVersion::default()
    };
    let double = Double::start(move |asked| {
        if asked.version <= 2 {
            return all_versions(asked);
        }
        // Version 0: the error code, then the versions.
        answer(|out| {
            out.put_i16(35);
            out.put_i32(1);
            out.put_i16(offered.api_key);
            out.put_i16(offered.min_version);
            out.put_i16(offered.max_version);
        })
    })
    .await;
    let opened = Connection::open(&double.address.to_string(), &options()).await;
    assert!(opened.unwrap().version::<MetadataRequestData>().is_ok());
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_named() {
    let address = {
        let double = Double::start(all_versions).await;
        double.address.to_string()
    };
    let error = Connection::open(&address, &options()).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn tasks_that_ask_for_a_broker_together_get_one_connection() {
    let double = Double::start(|asked| match asked.api {
        ApiKey::ApiVersions => all_versions(asked),
        _ => metadata(asked, Topic::default()),
    })
    .await;
    let bootstrap = [double.address.to_string()];
    let cluster = Cluster::connect(&bootstrap, options()).await.unwrap();
    let (one, other) = tokio::join!(cluster.node(1), cluster.node(1));
    assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
}
