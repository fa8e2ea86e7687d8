//! A leader whose `advertised.listeners` has an address that its followers do not reach.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;
#[path = "../../broker/tests/ports/mod.rs"]
mod ports;

use ottla_client::{Connection, Options};
use ottla_protocol::messages::{CreateTopicsRequestData, create_topics_request};

use nodes::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_key_of_a_leader_that_it_cannot_reach() {
    let directory = tempfile::tempdir().unwrap();
    let [at, controller, nowhere, http] = [(); 4].map(|()| ports::held());
    let listeners = format!("PLAINTEXT://127.0.0.1:{at},CONTROLLER://127.0.0.1:{controller}");
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{nowhere}");
    let more = ["--override", advertised.as_str()];
    let _first = Node::serve(1, (&directory.path().join("1"), &listeners), more);
    let mut second = Node::broker(&directory.path().join("2"), (2, controller, http));
    second.line(" is ready on ");

    // The tools would go to the advertised address too.
    let address = format!("127.0.0.1:{at}");
    let connection = Connection::open(&address, &Options::default())
        .await
        .unwrap();
    let topic = create_topics_request::CreatableTopic::default()
        .with_name("t".to_owned().into())
        .with_num_partitions(2)
        .with_replication_factor(2);
    let request = CreateTopicsRequestData::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer = connection.call(&request).await.unwrap();
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    second.line("check that its advertised.listeners has an address that this broker reaches");
}
