//! A controller that is not the active one says so on its listener. It passes nothing on: the caller may itself be
//! wrong about which controller is active, and two that pass requests to each other would never end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nowhere;
mod support;

use std::net::TcpListener;
use std::sync::Arc;

use bytes::BytesMut;
use ottla_broker::Broker;
use ottla_broker::cluster::channel::Controller;
use ottla_broker::cluster::remote_controller::{
    ActiveController, Knowledge, RemoteController, Seen,
};
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::{ListenerRole, RequestContext};
use ottla_broker::drivers::controller::{controller, follower};
use ottla_broker::handlers::{
    Request, create_topics, incremental_alter_configs, list_partition_reassignments, served, start,
    unregister_broker,
};
use ottla_broker::process::clock::Clock;
use ottla_controller::Settings;
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use ottla_protocol::messages::{
    ApiKey, CreateTopicsRequestData, ErrorCode, IncrementalAlterConfigsRequestData, KafkaString,
    ListPartitionReassignmentsRequestData, UnregisterBrokerRequestData,
};
use tokio::sync::watch;

use nowhere::{Nowhere, no_sessions};
use support::context;

/// A request on the controller's listener.
fn of_controller(api: ApiKey) -> RequestContext {
    let mut context = context(api);
    Arc::get_mut(&mut context.connection).unwrap().role = ListenerRole::Controller;
    context
}

fn text(text: &'static str) -> KafkaString {
    KafkaString::from_static(text)
}

fn seen(active: ActiveController) -> Seen {
    Seen {
        active,
        ..Seen::default()
    }
}

#[tokio::test]
async fn an_inactive_controller_answers_for_itself() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().to_path_buf(), 0);
    let active = TcpListener::bind("127.0.0.1:0").unwrap();
    active.set_nonblocking(true).unwrap();
    let at = ActiveController::At(active.local_addr().unwrap().to_string());
    let (_known, known) = watch::channel(seen(at));
    let remote = RemoteController::new(Knowledge::Observed(known), config.node_id, "cluster");
    let image = MetadataImage::default();
    let (controller, ..) = controller(
        Loader::new(image),
        Settings::default(),
        Nowhere,
        no_sessions(),
    );
    let controller = controller.or_elsewhere(remote);
    let broker = Broker::new(config, Clock::start(), text("cluster"), controller, served);

    let not_controller = ErrorCode::NotController.code();
    let forget = UnregisterBrokerRequestData::default().with_broker_id(7);
    let context = of_controller(ApiKey::UnregisterBroker);
    let answer = unregister_broker::handle(&broker, &context, forget).await;
    assert_eq!(answer.error_code, not_controller);

    let topic = CreatableTopic::default().with_name(text("t"));
    let create = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let context = of_controller(ApiKey::CreateTopics);
    let answer = create_topics::handle(&broker, &context, create).await;
    assert_eq!(answer.topics[0].error_code, not_controller);

    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"));
    let alter = IncrementalAlterConfigsRequestData::default().with_resources(vec![resource]);
    let context = of_controller(ApiKey::IncrementalAlterConfigs);
    let answer = incremental_alter_configs::handle(&broker, &context, alter).await;
    assert_eq!(answer.responses[0].error_code, not_controller);

    let list = ListPartitionReassignmentsRequestData::default();
    let context = of_controller(ApiKey::ListPartitionReassignments);
    let answer = list_partition_reassignments::handle(&broker, &context, list);
    assert_eq!(answer.error_code, not_controller);

    assert!(active.accept().is_err(), "a request was passed on");
}

#[tokio::test]
async fn a_request_goes_to_the_next_controller_if_this_one_loses_its_office_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let config = BrokerConfig::embedded(directory.path().join("next"), 0);
    let next = ottla_broker::start(config, Clock::start()).await.unwrap();
    let address = next.controller_addresses[0].1.to_string();

    let config = BrokerConfig::embedded(directory.path().join("this"), 0);
    let (active, known) = watch::channel(seen(ActiveController::Here));
    let knowledge = Knowledge::Observed(known);
    let remote = RemoteController::new(knowledge, config.node_id, next.broker.cluster_id.as_str());
    let (applied, ..) = follower(MetadataImage::default(), Offset(0));
    let (controller, mut requests) = Controller::new(applied, no_sessions());
    let controller = controller.or_elsewhere(remote);
    let broker = Broker::new(config, Clock::start(), text("cluster"), controller, served);

    let topic = CreatableTopic::default()
        .with_name(text("t"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let create = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let context = context(ApiKey::CreateTopics);
    let mut body = BytesMut::new();
    create.write(&mut body, context.version).unwrap();
    let request = Request {
        context,
        body: body.freeze(),
        reservation: None,
    };
    let asked = start(&broker, request).answering;
    let loses = async {
        let unanswered = requests.recv().await.unwrap();
        active.send(seen(ActiveController::At(address))).unwrap();
        drop(unanswered);
    };
    let (answer, ()) = tokio::join!(asked, loses);
    assert!(!answer.unwrap().is_not_controller);
    let image = next.broker.controller.image();
    assert!(image.topics.values().any(|topic| topic.name == "t"));
    next.shut_down().await;
}
