//! The follower's side of a fetch session: a request names only what has changed since the one before.

use std::collections::{BTreeMap, BTreeSet};

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

/// A session with one leader.
#[derive(Debug, Default)]
pub struct Session {
    /// 0 for none.
    id: i32,
    /// The epoch of the next request; 0 asks for a session.
    epoch: i32,
    /// What each partition asks for.
    wanted: BTreeMap<PartitionId, FollowerFetch>,
    /// The partitions of `wanted` that the next request must name.
    changed: BTreeSet<PartitionId>,
    /// The partitions that the next request must take out of the session.
    forgotten: BTreeSet<PartitionId>,
    /// The partitions of `wanted` whose leader does not know yet that all their records are flushed.
    unflushed: BTreeSet<PartitionId>,
}

impl Session {
    /// What a partition asks for from now on.
    pub fn want(&mut self, id: PartitionId, fetch: FollowerFetch) {
        self.forgotten.remove(&id);
        if fetch.flushed.is_some_and(|flushed| flushed < fetch.offset) {
            self.unflushed.insert(id);
        } else {
            self.unflushed.remove(&id);
        }
        if self.wanted.insert(id, fetch) != Some(fetch) {
            self.changed.insert(id);
        }
    }

    /// A partition asks for nothing more.
    pub fn forget(&mut self, id: PartitionId) {
        if self.wanted.remove(&id).is_some() {
            self.changed.remove(&id);
            self.unflushed.remove(&id);
            self.forgotten.insert(id);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// What a partition asks for.
    pub fn wanted(&self, id: PartitionId) -> Option<FollowerFetch> {
        self.wanted.get(&id).copied()
    }

    /// What is asked for by the partitions whose leader does not know yet that all their records are flushed.
    pub fn unflushed(&self) -> impl Iterator<Item = (PartitionId, FollowerFetch)> {
        let ids = self.unflushed.iter();
        ids.filter_map(|id| Some((*id, *self.wanted.get(id)?)))
    }

    /// The next request.
    pub fn request(&mut self) -> SessionRequest {
        let changed = std::mem::take(&mut self.changed);
        let forgotten = std::mem::take(&mut self.forgotten);
        let is_new = self.epoch == 0;
        let named = if is_new {
            self.wanted.clone()
        } else {
            let named = changed.into_iter();
            named
                .filter_map(|id| Some((id, *self.wanted.get(&id)?)))
                .collect()
        };
        SessionRequest {
            id: self.id,
            epoch: self.epoch,
            named,
            forgotten: if is_new {
                Vec::new()
            } else {
                forgotten.into_iter().collect()
            },
        }
    }

    /// The next request begins a new session.
    pub fn restart(&mut self) {
        (self.id, self.epoch) = (0, 0);
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
            self.restart();
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
                has_room: true,
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

    /// The next request, for the partitions at these offsets.
    fn request(session: &mut Session, offsets: &[(i32, i64)]) -> SessionRequest {
        for (id, fetch) in at(offsets) {
            session.want(id, fetch);
        }
        session.request()
    }

    #[test]
    fn a_session_names_what_has_changed_and_forgets_what_is_gone() {
        let mut session = Session::default();
        let first = request(&mut session, &[(0, 5), (1, 7), (2, 9)]);
        assert_eq!((first.id, first.epoch, first.named.len()), (0, 0, 3));
        assert!(session.answered(&answer(77, ErrorCode::None)));
        let second = SessionRequest {
            id: 77,
            epoch: 1,
            named: at(&[(1, 8)]),
            forgotten: vec![id(2)],
        };
        session.forget(id(2));
        assert_eq!(request(&mut session, &[(0, 5), (1, 8)]), second);
        assert!(session.answered(&answer(77, ErrorCode::None)));
        session.forget(id(0));
        let third = request(&mut session, &[(0, 5)]);
        assert_eq!((third.epoch, third.named), (2, at(&[(0, 5)])), "it is back");
        assert_eq!(third.forgotten, []);
    }

    #[test]
    fn without_a_session_or_after_an_error_all_partitions_are_named() {
        let mut session = Session::default();
        request(&mut session, &[(0, 5)]);
        session.answered(&answer(0, ErrorCode::None));
        let again = session.request();
        assert_eq!((again.epoch, again.named.len()), (0, 1));
        session.answered(&answer(77, ErrorCode::None));
        assert_eq!(session.request().named.len(), 0);
        assert!(!session.answered(&answer(0, ErrorCode::FetchSessionIdNotFound)));
        let again = session.request();
        assert_eq!((again.id, again.epoch, again.named.len()), (0, 0, 1));
    }

    #[test]
    fn a_partition_is_unflushed_until_its_flush_is_told() {
        let mut session = Session::default();
        request(&mut session, &[(0, 5), (1, 0)]);
        let unflushed: Vec<_> = session.unflushed().map(|(id, _)| id).collect();
        assert_eq!(unflushed, [id(0)]);
        let mut fetch = session.wanted(id(0)).unwrap();
        fetch.flushed = Some(Offset(5));
        session.want(id(0), fetch);
        assert_eq!(session.unflushed().count(), 0);
    }
}
