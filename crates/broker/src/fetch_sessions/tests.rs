//! Sessions from their first request to their last.

use super::{
    Answered, Asked, Asker, Continued, FetchContext, FetchKey, FetchNews, FetchSessions,
    FetchTopicKey, FetchWish, SessionRequest,
};
use crate::replicas::partition::AnsweredBy;
use ottla_log::Bound;
use ottla_protocol::messages::{ErrorCode, KafkaString};
use ottla_protocol::time::MonotonicTime;
use std::sync::Weak;
use std::time::Duration;

fn at(seconds: u64) -> MonotonicTime {
    MonotonicTime(Duration::from_secs(seconds))
}

const CONSUMER: Asker = Asker {
    follower: None,
    bound: Bound::HighWatermark,
    answered_by: AnsweredBy::Leader,
    may_be_sent_elsewhere: false,
};

fn key(partition: i32) -> FetchKey {
    FetchKey {
        topic: FetchTopicKey::Name(KafkaString::from_static("t")),
        partition,
    }
}

fn wish(offset: i64) -> FetchWish {
    FetchWish {
        offset,
        max_bytes: 1000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        flushed: None,
        has_room: true,
    }
}

fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> SessionRequest {
    SessionRequest {
        session_id,
        session_epoch,
        uses_topic_ids: false,
        asker: CONSUMER,
        wishes: partitions
            .iter()
            .map(|partition| (key(*partition), wish(0)))
            .collect(),
        forgotten: vec![],
    }
}

fn answered(partition: i32, records_bytes: usize, high_watermark: i64) -> Answered<()> {
    let news = FetchNews {
        records_bytes,
        high_watermark,
        log_start_offset: 0,
        must_be_told: false,
        is_error: false,
    };
    Answered {
        key: key(partition),
        wish: wish(0),
        news,
        answer: (),
        settled_at: None,
    }
}

fn partitions(asked: &[Asked]) -> Vec<i32> {
    asked.iter().map(|(_, key, _)| key.partition).collect()
}

fn told(answered: &[Answered<()>]) -> Vec<i32> {
    answered
        .iter()
        .map(|partition| partition.key.partition)
        .collect()
}

fn opened(sessions: &FetchSessions, count: i32, now: MonotonicTime) -> i32 {
    let all: Vec<i32> = (0..count).collect();
    let (context, _) = sessions.begin(request(0, 0, &all), now).unwrap();
    let mut answers = all
        .iter()
        .map(|partition| answered(*partition, 0, 10))
        .collect();
    sessions.finish(context, &mut answers, now).session_id
}

#[test]
fn an_incremental_answer_leaves_out_what_did_not_change() {
    let sessions = FetchSessions::new(10);
    let id = opened(&sessions, 3, at(0));
    assert_ne!(id, 0);
    let (context, wishes) = sessions.begin(request(id, 1, &[]), at(1)).unwrap();
    assert_eq!(partitions(&wishes), [0, 1, 2]);
    let mut answers = vec![answered(0, 5, 10), answered(1, 0, 11), answered(2, 0, 10)];
    let finished = sessions.finish(context, &mut answers, at(1));
    assert_eq!((finished.error, finished.session_id), (ErrorCode::None, id));
    assert_eq!(told(&answers), [0, 1]);
    let (_, wishes) = sessions.begin(request(id, 2, &[]), at(2)).unwrap();
    assert_eq!(
        partitions(&wishes),
        [1, 2, 0],
        "what returned records goes to the end"
    );
}

#[test]
fn an_error_makes_the_next_high_watermark_news() {
    let sessions = FetchSessions::new(10);
    let id = opened(&sessions, 1, at(0));
    let (context, _) = sessions.begin(request(id, 1, &[]), at(0)).unwrap();
    let mut failed = answered(0, 0, 10);
    failed.news.is_error = true;
    let mut answers = vec![failed];
    sessions.finish(context, &mut answers, at(0));
    assert_eq!(told(&answers), [0]);
    let (context, _) = sessions.begin(request(id, 2, &[]), at(0)).unwrap();
    let mut answers = vec![answered(0, 0, 10)];
    sessions.finish(context, &mut answers, at(0));
    assert_eq!(told(&answers), [0]);
}

#[test]
fn partitions_are_added_changed_and_forgotten() {
    let sessions = FetchSessions::new(10);
    let id = opened(&sessions, 2, at(0));
    let mut change = request(id, 1, &[5]);
    change.wishes.push((key(1), wish(77)));
    change.forgotten.push(key(0));
    let (_, asked) = sessions.begin(change, at(0)).unwrap();
    assert_eq!(asked, [(1, key(1), wish(77)), (2, key(5), wish(0))]);
    let mut last = request(id, 2, &[]);
    last.forgotten = vec![key(1), key(5)];
    let (context, wishes) = sessions.begin(last, at(0)).unwrap();
    assert!(matches!(context, FetchContext::Sessionless) && wishes.is_empty());
    assert!(sessions.is_empty());
}

#[test]
fn wrong_epochs_and_sessions_are_refused() {
    let sessions = FetchSessions::new(10);
    let id = opened(&sessions, 1, at(0));
    let refused = |request| sessions.begin(request, at(0)).map(|_| ()).unwrap_err();
    assert_eq!(
        refused(request(id, 2, &[])),
        ErrorCode::InvalidFetchSessionEpoch
    );
    assert_eq!(
        refused(request(id ^ 1, 1, &[])),
        ErrorCode::FetchSessionIdNotFound
    );
    let mut by_id = request(id, 1, &[]);
    by_id.uses_topic_ids = true;
    assert_eq!(refused(by_id), ErrorCode::FetchSessionTopicIdError);
    let (first, _) = sessions.begin(request(id, 1, &[]), at(0)).unwrap();
    assert_eq!(
        refused(request(id, 1, &[])),
        ErrorCode::InvalidFetchSessionEpoch
    );
    let (_, _) = sessions.begin(request(id, 2, &[]), at(0)).unwrap();
    let late = sessions.finish(first, &mut vec![answered(0, 5, 5)], at(0));
    assert_eq!(late.error, ErrorCode::InvalidFetchSessionEpoch);
}

#[test]
fn a_final_epoch_ends_the_session() {
    let sessions = FetchSessions::new(10);
    let id = opened(&sessions, 1, at(0));
    let (context, _) = sessions.begin(request(id, -1, &[0]), at(0)).unwrap();
    assert!(matches!(context, FetchContext::Sessionless));
    assert!(sessions.is_empty());
}

#[test]
fn a_full_cache_keeps_the_large_and_the_recent() {
    let sessions = FetchSessions::new(1);
    let first = opened(&sessions, 3, at(0));
    assert_eq!(
        opened(&sessions, 5, at(100)),
        0,
        "the first has not had its time"
    );
    sessions.begin(request(first, 1, &[]), at(100)).unwrap();
    assert_eq!(opened(&sessions, 2, at(121)), 0, "the first is larger");
    assert_ne!(opened(&sessions, 3, at(121)), 0);
    assert_ne!(
        opened(&sessions, 1, at(300)),
        0,
        "the second was idle for too long"
    );
    assert_eq!(sessions.len(), 1);
}

/// A session of five partitions, all of which are settled but the first.
fn settled(sessions: &FetchSessions) -> i32 {
    let id = opened(sessions, 5, at(0));
    let (context, _) = sessions.begin(request(id, 1, &[]), at(0)).unwrap();
    let mut answers: Vec<_> = (0..5).map(|partition| answered(partition, 0, 10)).collect();
    for answer in &mut answers[1..] {
        answer.settled_at = Some(Weak::new());
    }
    sessions.finish(context, &mut answers, at(0));
    id
}

/// What the next request looks at.
fn asked(sessions: &FetchSessions, request: SessionRequest) -> (Continued, Vec<i32>) {
    match sessions.begin(request, at(0)).unwrap() {
        (FetchContext::Incremental(continued), asked) => (continued, partitions(&asked)),
        (context, _) => panic!("{context:?}"),
    }
}

#[test]
fn settled_partitions_are_left_out_until_they_change_or_the_client_asks_for_something_else() {
    let sessions = FetchSessions::new(10);
    let id = settled(&sessions);
    let (continued, looked_at) = asked(&sessions, request(id, 2, &[3]));
    assert_eq!((looked_at, continued.settled), (vec![0, 3], 3));
    assert_eq!(continued.changed(1), Some((key(1), wish(0))));
    assert_eq!(continued.changed(99), None);
    let mut forgets = request(id, 3, &[]);
    forgets.forgotten = vec![key(2)];
    let (continued, looked_at) = asked(&sessions, forgets);
    assert_eq!((looked_at, continued.settled), (vec![0, 1, 3], 1));
}

#[test]
fn nothing_is_settled_for_another_asker() {
    let sessions = FetchSessions::new(10);
    let id = settled(&sessions);
    let mut committed = request(id, 2, &[]);
    committed.asker.bound = Bound::LastStableOffset;
    assert_eq!(asked(&sessions, committed).1, [0, 1, 2, 3, 4]);
}

#[test]
fn a_change_that_a_late_request_takes_is_left_to_the_next_one() {
    let sessions = FetchSessions::new(10);
    let id = settled(&sessions);
    let (late, _) = asked(&sessions, request(id, 2, &[]));
    asked(&sessions, request(id, 3, &[]));
    assert_eq!(late.changed(4), None);
    assert_eq!(asked(&sessions, request(id, 4, &[])).1, [0, 4]);
}
