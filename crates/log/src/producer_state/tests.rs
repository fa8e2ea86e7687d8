//! What producers may append, as Kafka decides it.

use super::{Origin, ProducerError, ProducerState};
use crate::batch::Batch;
use crate::tests::fixture::{idempotent, marker, transactional};
use ottla_protocol::ids::{Offset, ProducerEpoch, ProducerId};
use ottla_protocol::records::BatchView;
use ottla_protocol::time::Timestamp;
use std::time::Duration;

/// Stages and applies a batch at the end of the log, as the log does.
fn append(state: &mut ProducerState, bytes: &[u8], origin: Origin) -> Result<usize, ProducerError> {
    let mut batch = Batch::from(BatchView::first(bytes).unwrap());
    batch.header.base_offset = state.end().0;
    let mut staged = state.stage();
    staged.add(&batch, None, origin)?;
    let changes = staged.finish();
    Ok(state.apply(changes, batch.header.next_offset()).len())
}

fn client(
    state: &mut ProducerState,
    epoch: i16,
    sequence: i32,
    count: i64,
) -> Result<usize, ProducerError> {
    append(
        state,
        &idempotent(1, epoch, sequence, count),
        Origin::Client,
    )
}

fn is_duplicate(state: &ProducerState, bytes: &[u8]) -> bool {
    state
        .stage()
        .duplicate(BatchView::first(bytes).unwrap().header())
        .is_some()
}

#[test]
fn sequences_must_follow_and_the_last_five_batches_are_known() {
    let mut state = ProducerState::empty(Offset(1));
    client(&mut state, 0, 100, 1)
        .expect("of a producer that may be forgotten any sequence is taken");
    for sequence in 101..107 {
        client(&mut state, 0, sequence, 1).unwrap();
    }
    let error = client(&mut state, 0, 108, 1).unwrap_err();
    assert_eq!(
        error,
        ProducerError::OutOfOrderSequence {
            producer: ProducerId(1),
            sequence: 108,
            last: 106
        }
    );
    assert!(client(&mut state, 0, 106, 1).is_err());
    assert!((102..107).all(|sequence| is_duplicate(&state, &idempotent(1, 0, sequence, 1))));
    assert!(
        !is_duplicate(&state, &idempotent(1, 0, 101, 1)),
        "forgotten"
    );
    assert!(
        !is_duplicate(&state, &idempotent(1, 0, 105, 2)),
        "not the same batch"
    );
    assert!(
        !is_duplicate(&state, &idempotent(1, 1, 105, 1)),
        "of another epoch"
    );
}

#[test]
fn a_log_that_never_held_a_record_has_forgotten_no_producer() {
    let mut state = ProducerState::empty(Offset(0));
    for origin in [Origin::Replication, Origin::Coordinator] {
        let mut state = state.clone();
        append(&mut state, &idempotent(1, 0, 5, 1), origin).expect("only clients are checked");
    }
    let late = ProducerError::OutOfOrderSequence {
        producer: ProducerId(1),
        sequence: 5,
        last: -1,
    };
    assert_eq!(client(&mut state, 0, 5, 1), Err(late));
    let in_transaction = append(&mut state, &transactional(1, 5, 1), Origin::Client);
    assert_eq!(in_transaction, Err(late));
    client(&mut state, 0, 0, 5).unwrap();
    client(&mut state, 0, 5, 1).unwrap();
    // Its records and its entry may be gone by now.
    state.expire(Timestamp(i64::MAX), Duration::ZERO);
    client(&mut state, 0, 9, 1).unwrap();
    assert!(
        client(&mut state, 1, 10, 1).is_err(),
        "a new epoch begins at 0"
    );
}

#[test]
fn sequences_wrap_to_zero() {
    let mut state = ProducerState::empty(Offset(1));
    client(&mut state, 0, i32::MAX - 1, 2).unwrap();
    client(&mut state, 0, 0, 1).unwrap();
    let mut state = ProducerState::empty(Offset(1));
    client(&mut state, 0, i32::MAX, 3).unwrap();
    client(&mut state, 0, 2, 1).unwrap();
    assert!(is_duplicate(&state, &idempotent(1, 0, i32::MAX, 3)));
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old() {
    let mut state = ProducerState::empty(Offset(0));
    client(&mut state, 3, 0, 1).unwrap();
    assert!(matches!(
        client(&mut state, 4, 1, 1),
        Err(ProducerError::OutOfOrderSequence { .. })
    ));
    client(&mut state, 4, 0, 1).unwrap();
    let error = client(&mut state, 3, 1, 1).unwrap_err();
    let (epoch, current) = (ProducerEpoch(3), ProducerEpoch(4));
    assert_eq!(
        error,
        ProducerError::InvalidEpoch {
            producer: ProducerId(1),
            epoch,
            current
        }
    );
    append(&mut state, &idempotent(1, 3, 9, 1), Origin::Replication)
        .expect("the leader has checked");
}

#[test]
fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
    let mut state = ProducerState::empty(Offset(0));
    append(&mut state, &transactional(1, 0, 2), Origin::Client).unwrap();
    assert_eq!(state.first_unstable().unwrap().offset, Offset(0));
    let error = append(&mut state, &idempotent(1, 0, 2, 1), Origin::Client).unwrap_err();
    assert_eq!(
        error,
        ProducerError::InvalidTransactionState {
            producer: ProducerId(1)
        }
    );
    append(&mut state, &transactional(2, 0, 1), Origin::Client).unwrap();
    assert_eq!(
        append(&mut state, &marker(1, 0), Origin::Coordinator),
        Ok(1),
        "aborted"
    );
    assert_eq!(
        append(&mut state, &marker(2, 1), Origin::Coordinator),
        Ok(0),
        "committed"
    );
    assert_eq!(
        append(&mut state, &marker(2, 0), Origin::Coordinator),
        Ok(0),
        "nothing was open"
    );
    state.on_high_watermark(Offset(3));
    assert_eq!(
        state.first_unstable().unwrap().offset,
        Offset(0),
        "the markers are not replicated"
    );
    state.on_high_watermark(Offset(4));
    assert_eq!(state.first_unstable().unwrap().offset, Offset(2));
    state.on_high_watermark(Offset(5));
    assert_eq!(state.first_unstable(), None);
}

#[test]
fn idle_producers_are_forgotten_unless_a_transaction_is_open() {
    let mut state = ProducerState::empty(Offset(0));
    append(&mut state, &idempotent(1, 0, 0, 1), Origin::Client).unwrap();
    append(&mut state, &transactional(2, 0, 1), Origin::Client).unwrap();
    let last = state.producers()[&ProducerId(1)].last_timestamp;
    let expiration = Duration::from_secs(10);
    state.expire(Timestamp(last.0 + 9_999), expiration);
    assert_eq!(state.producers().len(), 2);
    state.expire(Timestamp(last.0 + 10_000), expiration);
    assert_eq!(
        state.producers().keys().collect::<Vec<_>>(),
        [&ProducerId(2)]
    );
}
