//! The follower's side of a fetch session: a request names only what has changed since the one before.

use std::collections::BTreeMap;

use ottla_protocol::messages::{ErrorCode, FetchResponseData};
use ottla_replica::PartitionId;
use ottla_replication::FollowerFetch;

/// The session part of a request, and the partitions that it names.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionRequest {
    pub id: i32,
    pub epoch: i32,
    pub named: BTreeMap<PartitionId, FollowerFetch>,
    pub forgotten: Vec<PartitionId>,
}

/// A session with one leader. The leader has what `told` has.
#[derive(Debug, Default)]
pub struct Session {
    /// 0 for none.
    id: i32,
    /// The epoch of the next request; 0 asks for a session.
    epoch: i32,
    told: BTreeMap<PartitionId, FollowerFetch>,
}

impl Session {
    /// The next request, for all of `wanted`.
    pub fn request(&mut self, wanted: BTreeMap<PartitionId, FollowerFetch>) -> SessionRequest {
        let (mut named, mut forgotten) = (wanted.clone(), Vec::new());
        if self.epoch > 0 {
            named.retain(|id, fetch| self.told.get(id) != Some(fetch));
            let told = self.told.keys().copied();
            forgotten = told.filter(|id| !wanted.contains_key(id)).collect();
        }
        self.told = wanted;
        SessionRequest {
            id: self.id,
            epoch: self.epoch,
            named,
            forgotten,
        }
    }

    /// A request beside the session, with these partitions.
    pub fn without(named: &BTreeMap<PartitionId, FollowerFetch>) -> SessionRequest {
        SessionRequest {
            id: 0,
            epoch: -1,
            named: named.clone(),
            forgotten: Vec::new(),
        }
    }

    /// The leader has answered; returns whether the answer has partitions. After an error the next request begins a new
    /// session.
    pub fn answered(&mut self, response: &FetchResponseData) -> bool {
        if ErrorCode::from(response.error_code) != ErrorCode::None {
            *self = Self::default();
            return false;
        }
        self.id = response.session_id;
        self.epoch = match (self.id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Session, SessionRequest};
    use ottla_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, Uuid};
    use ottla_protocol::messages::{ErrorCode, FetchResponseData};
    use ottla_replica::PartitionId;
    use ottla_replication::FollowerFetch;
    use std::collections::BTreeMap;

    fn id(index: i32) -> PartitionId {
        (Uuid::from_parts(1, 1), PartitionIndex(index))
    }

    fn at(offsets: &[(i32, i64)]) -> BTreeMap<PartitionId, FollowerFetch> {
        let fetches = offsets.iter().map(|(index, offset)| {
            let fetch = FollowerFetch {
                leader_epoch: LeaderEpoch(1),
                offset: Offset(*offset),
                last_fetched_epoch: None,
                log_start: Offset(0),
                flushed: Some(Offset(0)),
            };
            (id(*index), fetch)
        });
        fetches.collect()
    }

    fn answer(session_id: i32, code: ErrorCode) -> FetchResponseData {
        FetchResponseData::default()
            .with_session_id(session_id)
            .with_error_code(code.code())
    }

    #[test]
    fn a_session_names_what_has_changed_and_forgets_what_is_gone() {
        let mut session = Session::default();
        let first = session.request(at(&[(0, 5), (1, 7), (2, 9)]));
        assert_eq!((first.id, first.epoch, first.named.len()), (0, 0, 3));
        assert!(session.answered(&answer(77, ErrorCode::None)));
        let second = SessionRequest {
            id: 77,
            epoch: 1,
            named: at(&[(1, 8)]),
            forgotten: vec![id(2)],
        };
        assert_eq!(session.request(at(&[(0, 5), (1, 8)])), second);
        assert!(session.answered(&answer(77, ErrorCode::None)));
        assert_eq!(session.request(at(&[(0, 5), (1, 8)])).epoch, 2);
    }

    #[test]
    fn without_a_session_or_after_an_error_all_partitions_are_named() {
        let mut session = Session::default();
        session.request(at(&[(0, 5)]));
        session.answered(&answer(0, ErrorCode::None));
        let again = session.request(at(&[(0, 5)]));
        assert_eq!((again.epoch, again.named.len()), (0, 1));
        session.answered(&answer(77, ErrorCode::None));
        session.request(at(&[(0, 5)]));
        assert!(!session.answered(&answer(0, ErrorCode::FetchSessionIdNotFound)));
        let again = session.request(at(&[(0, 5)]));
        assert_eq!((again.id, again.epoch, again.named.len()), (0, 0, 1));
    }
}
