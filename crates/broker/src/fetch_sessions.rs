//! Incremental fetch sessions (KIP-227): the broker remembers what a client fetches, so that requests and answers carry only
//! changes.
//!
//! The partitions of a session keep their order; one that returned records moves to the end, so that no partition
//! starves. The epoch of a session rises with each request, before the answer is known; a second request of the same
//! epoch is refused. There are at most `max.incremental.fetch.session.cache.slots` sessions. A client without one
//! names all its partitions in each request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::{ErrorCode, KafkaString};
use ottla_protocol::time::MonotonicTime;

use crate::process::random::random_number;

/// A session that was not used for this long may be evicted for a new one of any size.
const MAX_IDLE: Duration = Duration::from_mins(2);
/// The epoch of a request that wants a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants none, and ends the one it names.
const FINAL_EPOCH: i32 = -1;
/// "No session" in requests and answers.
const NO_SESSION: i32 = 0;

/// A partition as requests name it: by topic id from version 13 on, by name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FetchKey {
    /// The topic.
    pub topic: FetchTopicKey,
    /// The partition's index.
    pub partition: i32,
}

/// A topic as requests name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FetchTopicKey {
    Id(Uuid),
    Name(KafkaString),
}

/// What a client asks for in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchWish {
    /// The first offset wanted.
    pub offset: i64,
    /// Upper bound of the bytes wanted.
    pub max_bytes: i32,
    /// The leader epoch that the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch of the last record that it has, -1 for none.
    pub last_fetched_epoch: i32,
    /// A follower's log start offset, -1 from a consumer.
    pub log_start_offset: i64,
    /// How far a follower says that it has flushed.
    pub flushed: Option<Offset>,
    /// Whether a follower takes records.
    pub has_room: bool,
}

/// The parts of a partition's answer by which a session decides whether the client must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchNews {
    /// The bytes of its records.
    pub records_bytes: usize,
    /// Its high watermark.
    pub high_watermark: i64,
    /// Its log start offset.
    pub log_start_offset: i64,
    /// Whether it is in the answer even if nothing has changed: the answer reports a divergence, or a better replica.
    pub must_be_told: bool,
    /// Whether the answer is an error.
    pub is_error: bool,
}

/// The session part of a fetch request.
#[derive(Debug)]
pub struct SessionRequest {
    /// The session it continues, 0 for none.
    pub session_id: i32,
    /// Its epoch.
    pub session_epoch: i32,
    /// Whether topics are named by id.
    pub uses_topic_ids: bool,
    /// Whether a follower asks. Its session is evicted after those of consumers.
    pub is_from_follower: bool,
    /// New or changed partitions.
    pub wishes: Vec<(FetchKey, FetchWish)>,
    /// Partitions to forget.
    pub forgotten: Vec<FetchKey>,
}

/// How a request relates to sessions.
#[derive(Debug)]
pub enum FetchContext {
    /// It has no session and gets none.
    Sessionless,
    /// It names all its partitions and all are answered; a session may be created.
    Full {
        /// See [`SessionRequest`].
        uses_topic_ids: bool,
        /// See [`SessionRequest`].
        is_from_follower: bool,
    },
    /// It continues a session; the answer may leave out partitions that did not change.
    Incremental {
        session: Arc<Mutex<Session>>,
        /// The epoch that the session must still have when the answer is ready.
        epoch: i32,
    },
}

/// The session part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The error of the whole answer.
    pub error: ErrorCode,
    /// The session that the client may continue, 0 for none.
    pub session_id: i32,
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    id: i32,
    epoch: i32,
    uses_topic_ids: bool,
    is_from_follower: bool,
    created: MonotonicTime,
    last_used: MonotonicTime,
    places: HashMap<FetchKey, u64>,
    partitions: BTreeMap<u64, CachedPartition>,
    next_place: u64,
}

#[derive(Debug)]
struct CachedPartition {
    key: FetchKey,
    wish: FetchWish,
    high_watermark: i64,
    log_start_offset: i64,
}

/// All sessions of the broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: Mutex<HashMap<i32, Arc<Mutex<Session>>>>,
}

// The locks are held for a few changes of maps. A poisoned one is used on: no change under them can stop half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FetchSessions {
    /// No sessions; there may be `slots`.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            sessions: Mutex::new(HashMap::new()),
        }
    }

    pub fn len(&self) -> usize {
        lock(&self.sessions).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how `request` relates to sessions, and all partitions that it asks for, in the order in which to read them.
    pub fn begin(
        &self,
        request: SessionRequest,
        now: MonotonicTime,
    ) -> Result<(FetchContext, Vec<(FetchKey, FetchWish)>), ErrorCode> {
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if request.session_id != NO_SESSION {
                lock(&self.sessions).remove(&request.session_id);
            }
            let context = if request.session_epoch == FINAL_EPOCH {
                FetchContext::Sessionless
            } else {
                FetchContext::Full {
                    uses_topic_ids: request.uses_topic_ids,
                    is_from_follower: request.is_from_follower,
                }
            };
            return Ok((context, unique(request.wishes)));
        }
        self.resume(request, now)
    }

    fn resume(
        &self,
        request: SessionRequest,
        now: MonotonicTime,
    ) -> Result<(FetchContext, Vec<(FetchKey, FetchWish)>), ErrorCode> {
        let session = lock(&self.sessions)
            .get(&request.session_id)
            .map(Arc::clone)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut held = lock(&session);
        if held.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if held.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for (key, wish) in &request.wishes {
            held.wish(key, *wish);
        }
        for key in &request.forgotten {
            held.forget(key);
        }
        if held.partitions.is_empty() {
            // The map is locked before a session, never after.
            drop(held);
            lock(&self.sessions).remove(&request.session_id);
            return Ok((FetchContext::Sessionless, unique(request.wishes)));
        }
        held.last_used = now;
        held.epoch = next_epoch(held.epoch);
        let epoch = held.epoch;
        let wishes = held.wishes();
        drop(held);
        Ok((FetchContext::Incremental { session, epoch }, wishes))
    }

    /// Removes from `answered` what the client knows already, and remembers the rest in the session.
    pub fn finish<P>(
        &self,
        context: FetchContext,
        answered: &mut Vec<Answered<P>>,
        now: MonotonicTime,
    ) -> Finished {
        match context {
            FetchContext::Sessionless => Finished {
                error: ErrorCode::None,
                session_id: NO_SESSION,
            },
            FetchContext::Full {
                uses_topic_ids,
                is_from_follower,
            } => {
                let session = Session {
                    id: NO_SESSION,
                    epoch: next_epoch(INITIAL_EPOCH),
                    uses_topic_ids,
                    is_from_follower,
                    created: now,
                    last_used: now,
                    places: HashMap::new(),
                    partitions: BTreeMap::new(),
                    next_place: 0,
                };
                Finished {
                    error: ErrorCode::None,
                    session_id: self.create(session, answered),
                }
            }
            FetchContext::Incremental { session, epoch } => {
                let mut held = lock(&session);
                let session_id = held.id;
                if held.epoch != epoch {
                    answered.clear();
                    return Finished {
                        error: ErrorCode::InvalidFetchSessionEpoch,
                        session_id,
                    };
                }
                answered.retain(|partition| held.must_tell(&partition.key, &partition.news));
                Finished {
                    error: ErrorCode::None,
                    session_id,
                }
            }
        }
    }

    /// Adds `session` with the partitions in `answered`, if there is room. Returns its id, or 0.
    fn create<P>(&self, mut session: Session, answered: &[Answered<P>]) -> i32 {
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.slots && !make_room(&mut sessions, &session, answered.len()) {
            return NO_SESSION;
        }
        for partition in answered {
            session.wish(&partition.key, partition.wish);
            session.must_tell(
                &partition.key,
                &FetchNews {
                    records_bytes: 0,
                    ..partition.news
                },
            );
        }
        session.id = unused_id(&sessions);
        let id = session.id;
        sessions.insert(id, Arc::new(Mutex::new(session)));
        id
    }
}

/// A partition with its answer; `P` is the caller's type of answers.
#[derive(Debug)]
pub struct Answered<P> {
    pub key: FetchKey,
    pub wish: FetchWish,
    pub news: FetchNews,
    pub answer: P,
}

impl Session {
    fn wish(&mut self, key: &FetchKey, wish: FetchWish) {
        if let Some(cached) = self
            .places
            .get(key)
            .and_then(|place| self.partitions.get_mut(place))
        {
            cached.wish = wish;
            return;
        }
        let cached = CachedPartition {
            key: key.clone(),
            wish,
            high_watermark: -1,
            log_start_offset: -1,
        };
        self.add(cached);
    }

    fn add(&mut self, cached: CachedPartition) {
        self.places.insert(cached.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    fn wishes(&self) -> Vec<(FetchKey, FetchWish)> {
        self.partitions
            .values()
            .map(|cached| (cached.key.clone(), cached.wish))
            .collect()
    }

    /// Whether the client must be told `news`; the session remembers that it was.
    fn must_tell(&mut self, key: &FetchKey, news: &FetchNews) -> bool {
        let Some(place) = self.places.get(key).copied() else {
            return false;
        };
        let Some(cached) = self.partitions.get_mut(&place) else {
            return false;
        };
        let has_records = news.records_bytes > 0;
        let is_news = has_records
            || news.must_be_told
            || news.is_error
            || cached.high_watermark != news.high_watermark
            || cached.log_start_offset != news.log_start_offset;
        // After an error the client is told the high watermark again, even if it has not changed.
        cached.high_watermark = if news.is_error {
            -1
        } else {
            news.high_watermark
        };
        cached.log_start_offset = news.log_start_offset;
        if has_records && let Some(cached) = self.partitions.remove(&place) {
            self.add(cached);
        }
        is_news
    }
}

/// Evicts one session for `new`: the one that was idle for longest, if that was long enough. Otherwise the smallest that has
/// existed for long enough, if it is not larger than `new`; sessions of consumers go before those of followers.
fn make_room(sessions: &mut HashMap<i32, Arc<Mutex<Session>>>, new: &Session, size: usize) -> bool {
    let now = new.created;
    let oldest = sessions
        .iter()
        .map(|(id, session)| (lock(session).last_used, *id))
        .min();
    if let Some((last_used, id)) = oldest
        && now.remaining(last_used) > MAX_IDLE
    {
        sessions.remove(&id);
        return true;
    }
    let smallest = sessions
        .iter()
        .filter_map(|(id, session)| {
            let session = lock(session);
            let had_its_time = now.remaining(session.created) > MAX_IDLE;
            had_its_time.then_some((session.is_from_follower, session.partitions.len(), *id))
        })
        .min();
    match smallest {
        Some((is_from_follower, partitions, id))
            if (is_from_follower, partitions) <= (new.is_from_follower, size) =>
        {
            sessions.remove(&id);
            true
        }
        _ => false,
    }
}

/// A random positive id, so that a client that continues a session of another broker or of an earlier process does not hit
/// one of this broker's by chance.
fn unused_id(sessions: &HashMap<i32, Arc<Mutex<Session>>>) -> i32 {
    loop {
        let id = random_number();
        if id != NO_SESSION && !sessions.contains_key(&id) {
            return id;
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        _ => epoch + 1,
    }
}

/// Each partition once, as in Kafka's map: at the place where it is named first, with the last wish.
fn unique(wishes: Vec<(FetchKey, FetchWish)>) -> Vec<(FetchKey, FetchWish)> {
    let mut places: HashMap<FetchKey, usize> = HashMap::with_capacity(wishes.len());
    let mut kept: Vec<(FetchKey, FetchWish)> = Vec::with_capacity(wishes.len());
    for (key, wish) in wishes {
        if let Some(&place) = places.get(&key) {
            kept[place].1 = wish;
        } else {
            places.insert(key.clone(), kept.len());
            kept.push((key, wish));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
