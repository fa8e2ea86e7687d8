//! Members, commits, and what becomes of them when a group, a topic or the coordinator goes.

use ottla_broker::handlers::{delete_groups, describe_groups, find_coordinator, offset_delete};
use ottla_protocol::messages::{
    ApiKey, DeleteGroupsRequestData, DescribeGroupsRequestData, ErrorCode,
    FindCoordinatorRequestData, OffsetDeleteRequestData, offset_delete_request,
};

use crate::node::{start, text};

#[tokio::test]
async fn coordinator_is_found_and_transactions_are_refused_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let context = node.context(ApiKey::FindCoordinator, 6);
    let request =
        FindCoordinatorRequestData::default().with_coordinator_keys(vec![text("g"), text("h")]);
    let answer = find_coordinator::handle(&node.broker, &context, request).await;
    assert_eq!(answer.coordinators.len(), 2);
    for found in answer.coordinators {
        assert_eq!((found.error_code, found.node_id, found.port), (0, 1, 9092));
    }
    let request = FindCoordinatorRequestData::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![text("x")]);
    let answer = find_coordinator::handle(&node.broker, &context, request).await;
    let refused = &answer.coordinators[0];
    assert_eq!(
        refused.error_code,
        ErrorCode::ClusterAuthorizationFailed.code()
    );
    let message = refused.error_message.as_ref().unwrap();
    assert!(message.as_str().contains("transactions are not served"));
    let context = node.context(ApiKey::FindCoordinator, 0);
    let request = FindCoordinatorRequestData::default().with_key(text("g"));
    let answer = find_coordinator::handle(&node.broker, &context, request).await;
    assert_eq!(
        (answer.error_code, answer.node_id, answer.port),
        (0, 1, 9092)
    );
}

#[tokio::test]
async fn member_joins_commits_and_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    assert_eq!(node.heartbeat(&joined).await, 0);

    let committed = node.commit("g", 5, Some(&joined)).await;
    let codes: Vec<(String, i32, i16)> = committed
        .topics
        .iter()
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|p| {
                (
                    topic.name.as_str().to_owned(),
                    p.partition_index,
                    p.error_code,
                )
            })
        })
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert!(codes.contains(&("t".into(), 0, 0)));
    assert!(codes.contains(&("t".into(), 9, unknown)));
    assert!(codes.contains(&("nowhere".into(), 0, unknown)));
    for version in [1, 2, 5, 7, 8, 9, 10] {
        assert_eq!(node.fetch("g", version).await, (5, 0), "version {version}");
    }
    assert_eq!(node.list().await, [("g".to_owned(), "Stable".to_owned())]);

    assert_eq!(node.leave(&joined).await, 0);
    assert_eq!(node.list().await, [("g".to_owned(), "Empty".to_owned())]);
    assert_eq!(
        node.heartbeat(&joined).await,
        ErrorCode::UnknownMemberId.code()
    );
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    node.commit("g", 41, Some(&joined)).await;
    node.commit("g", 42, Some(&joined)).await;
    node.commit("simple", 7, None).await;
    node.crash();

    let node = start(directory.path());
    assert_eq!(node.fetch("g", 9).await, (42, 0));
    assert_eq!(node.fetch("simple", 9).await, (7, 0));
    assert_eq!(node.heartbeat(&joined).await, 0);
    let context = node.context(ApiKey::DescribeGroups, 6);
    let request = DescribeGroupsRequestData::default().with_groups(vec![text("g"), text("no")]);
    let described = describe_groups::handle(&node.broker, &context, request)
        .await
        .groups;
    assert_eq!(described[0].group_state.as_str(), "Stable");
    assert_eq!(described[0].members[0].client_host.as_str(), "/127.0.0.1");
    assert_eq!(described[0].members[0].member_assignment, "share");
    assert_eq!(described[1].error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(described[1].group_state.as_str(), "Dead");
}

#[tokio::test]
async fn group_is_deleted_with_its_offsets_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    node.commit("g", 5, Some(&joined)).await;
    let delete =
        || DeleteGroupsRequestData::default().with_groups_names(vec![text("g"), text("g")]);
    let context = node.context(ApiKey::DeleteGroups, 2);
    let refused = delete_groups::handle(&node.broker, &context, delete()).await;
    assert_eq!(refused.results.len(), 1);
    assert_eq!(
        refused.results[0].error_code,
        ErrorCode::NonEmptyGroup.code()
    );

    node.leave(&joined).await;
    let deleted = delete_groups::handle(&node.broker, &context, delete()).await;
    assert_eq!(deleted.results[0].error_code, 0);
    node.crash();

    let node = start(directory.path());
    assert_eq!(node.fetch("g", 9).await, (-1, 0));
    assert!(node.list().await.is_empty());
}

#[tokio::test]
async fn offsets_of_subscribed_topics_are_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    node.commit("g", 5, Some(&joined)).await;
    let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
    let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(text("t"))
        .with_partitions(vec![partition]);
    let request = || {
        OffsetDeleteRequestData::default()
            .with_group_id(text("g"))
            .with_topics(vec![topic.clone()])
    };
    let context = node.context(ApiKey::OffsetDelete, 0);
    let answer = offset_delete::handle(&node.broker, &context, request()).await;
    let code = answer.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::GroupSubscribedToTopic.code());
    node.leave(&joined).await;
    let answer = offset_delete::handle(&node.broker, &context, request()).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(node.fetch("g", 9).await, (-1, 0));
}

#[tokio::test]
async fn rebalance_hands_every_member_its_share() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let first = node.join_alone("all").await;
    // A newcomer of an old version waits for the first member to rejoin.
    let (second, rejoined) = tokio::join!(node.join("", 3), async {
        loop {
            let code = node.heartbeat(&first).await;
            if code == ErrorCode::RebalanceInProgress.code() {
                return node.join(first.member_id.as_str(), 9).await;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!((second.error_code, rejoined.error_code), (0, 0));
    assert_eq!((second.generation_id, rejoined.generation_id), (2, 2));
    assert_eq!(rejoined.members.len(), 2);
    assert_eq!(second.leader, rejoined.member_id);
}

#[tokio::test]
async fn member_that_waits_is_answered_when_the_coordinator_goes() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let first = node.join_alone("all").await;
    let (waiting, ()) = tokio::join!(node.join("", 3), async {
        while node.heartbeat(&first).await == 0 {
            tokio::task::yield_now().await;
        }
        node.broker.groups.stop();
    });
    assert_eq!(waiting.error_code, ErrorCode::NotCoordinator.code());
}
