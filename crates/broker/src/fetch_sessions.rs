//! Incremental fetch sessions (KIP-227): the broker remembers what a client fetches, so that requests and answers carry only
//! changes.
//!
//! The partitions of a session keep their order; one that returned records moves to the end, so that no partition
//! starves. Partitions that are settled (`ottla_replica`'s `partition/settled.rs`) are left out until they change; they have
//! no records, so the order of the others stays. The epoch of a session rises with each request, before the answer is
//! known; a second request of the same epoch is refused. There are at most `max.incremental.fetch.session.cache.slots`
//! sessions. A client without one names all its partitions in each request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ottla_log::Bound;
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::messages::{ErrorCode, KafkaString};
use ottla_protocol::time::MonotonicTime;
use ottla_replication::Replica;

use crate::process::random::random_number;
use crate::replicas::partition::{AnsweredBy, Partition, Reader, reader};

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

/// Who asks, and how. A session leaves out nothing when this changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// `None` for a consumer.
    pub follower: Option<Replica>,
    pub bound: Bound,
    pub answered_by: AnsweredBy,
    /// Whether it may be sent to a replica in its rack.
    pub may_be_sent_elsewhere: bool,
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
    pub asker: Asker,
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
        asker: Asker,
    },
    /// It continues a session; the answer may leave out partitions that did not change.
    Incremental(Continued),
}

/// A request that continues a session.
#[derive(Debug, Clone)]
pub struct Continued {
    session: Arc<Mutex<Session>>,
    /// The epoch that the session must still have when the answer is ready.
    epoch: i32,
    /// The partitions that it does not look at, because they are settled.
    pub settled: usize,
    /// Notes which of those have changed.
    pub reader: Arc<Reader>,
}

/// What a client asks for in a partition, under the place of the partition in the order of the answer.
pub type Asked = (usize, FetchKey, FetchWish);

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
    asker: Asker,
    created: MonotonicTime,
    last_used: MonotonicTime,
    places: HashMap<FetchKey, usize>,
    partitions: BTreeMap<usize, CachedPartition>,
    next_place: usize,
    /// The places of partitions that are not settled, or may not be any more.
    unsettled: BTreeSet<usize>,
    reader: Arc<Reader>,
}

#[derive(Debug)]
struct CachedPartition {
    key: FetchKey,
    wish: FetchWish,
    high_watermark: i64,
    log_start_offset: i64,
    /// Where it was settled.
    settled_at: Weak<Partition>,
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

    /// Returns how `request` relates to sessions, and all partitions that it asks for and that are not settled, in the order
    /// in which to read them.
    pub fn begin(
        &self,
        request: SessionRequest,
        now: MonotonicTime,
    ) -> Result<(FetchContext, Vec<Asked>), ErrorCode> {
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            if request.session_id != NO_SESSION {
                lock(&self.sessions).remove(&request.session_id);
            }
            let context = if request.session_epoch == FINAL_EPOCH {
                FetchContext::Sessionless
            } else {
                FetchContext::Full {
                    uses_topic_ids: request.uses_topic_ids,
                    asker: request.asker,
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
    ) -> Result<(FetchContext, Vec<Asked>), ErrorCode> {
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
        if held.asker != request.asker {
            held.asker = request.asker;
            held.unsettle_all();
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
        held.reader.asks_at(now);
        let asked = held.asked();
        let continued = Continued {
            session: Arc::clone(&session),
            epoch: held.epoch,
            settled: held.partitions.len() - asked.len(),
            reader: Arc::clone(&held.reader),
        };
        Ok((FetchContext::Incremental(continued), asked))
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
                asker,
            } => {
                let session = Session {
                    id: NO_SESSION,
                    epoch: next_epoch(INITIAL_EPOCH),
                    uses_topic_ids,
                    asker,
                    created: now,
                    last_used: now,
                    places: HashMap::new(),
                    partitions: BTreeMap::new(),
                    next_place: 0,
                    unsettled: BTreeSet::new(),
                    reader: reader(),
                };
                Finished {
                    error: ErrorCode::None,
                    session_id: self.create(session, answered),
                }
            }
            FetchContext::Incremental(continued) => {
                let mut held = lock(&continued.session);
                let session_id = held.id;
                if held.epoch != continued.epoch {
                    answered.clear();
                    return Finished {
                        error: ErrorCode::InvalidFetchSessionEpoch,
                        session_id,
                    };
                }
                answered.retain(|partition| held.answered(partition));
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
    /// Where it is settled after this answer.
    pub settled_at: Option<Weak<Partition>>,
}

impl Continued {
    /// What the client asks for at `place`, which was settled and has changed. From now on it is not settled. `None` if the
    /// place is gone, or if a later request continues the session.
    pub fn changed(&self, place: usize) -> Option<(FetchKey, FetchWish)> {
        let mut held = lock(&self.session);
        let cached = held.partitions.get(&place)?;
        let asked = (cached.key.clone(), cached.wish);
        held.unsettled.insert(place);
        (held.epoch == self.epoch).then_some(asked)
    }
}

impl Session {
    /// The session of a follower is evicted after those of consumers.
    fn is_of_follower(&self) -> bool {
        self.asker.follower.is_some()
    }

    fn wish(&mut self, key: &FetchKey, wish: FetchWish) {
        if let Some(&place) = self.places.get(key) {
            self.unsettle(place);
            if let Some(cached) = self.partitions.get_mut(&place) {
                cached.wish = wish;
            }
            return;
        }
        let cached = CachedPartition {
            key: key.clone(),
            wish,
            high_watermark: -1,
            log_start_offset: -1,
            settled_at: Weak::new(),
        };
        self.add(cached);
    }

    fn add(&mut self, cached: CachedPartition) {
        self.places.insert(cached.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, cached);
        self.unsettled.insert(self.next_place);
        self.next_place += 1;
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some(place) = self.places.remove(key) {
            self.unsettle(place);
            self.unsettled.remove(&place);
            self.partitions.remove(&place);
        }
    }

    fn unsettle_all(&mut self) {
        let places: Vec<usize> = self.partitions.keys().copied().collect();
        for place in places {
            self.unsettle(place);
        }
    }

    /// A partition must be looked at. If it was settled, the requests up to now count for it.
    fn unsettle(&mut self, place: usize) {
        if let Some(cached) = self.partitions.get_mut(&place)
            && self.unsettled.insert(place)
            && let Some(partition) = std::mem::take(&mut cached.settled_at).upgrade()
        {
            partition.unsettle(&self.reader);
        }
    }

    /// What must be looked at now.
    fn asked(&mut self) -> Vec<Asked> {
        for place in self.reader.take_changed() {
            if self.partitions.contains_key(&place) {
                self.unsettled.insert(place);
            }
        }
        let asked = self.unsettled.iter().filter_map(|place| {
            let cached = self.partitions.get(place)?;
            Some((*place, cached.key.clone(), cached.wish))
        });
        asked.collect()
    }

    /// A partition is answered. Returns whether the client must be told.
    fn answered<P>(&mut self, answered: &Answered<P>) -> bool {
        let is_news = self.must_tell(&answered.key, &answered.news);
        if let Some(settled_at) = &answered.settled_at
            && let Some(place) = self.places.get(&answered.key)
            && let Some(cached) = self.partitions.get_mut(place)
        {
            cached.settled_at = Weak::clone(settled_at);
            self.unsettled.remove(place);
        }
        is_news
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
            self.unsettled.remove(&place);
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
            had_its_time.then_some((session.is_of_follower(), session.partitions.len(), *id))
        })
        .min();
    match smallest {
        Some((is_of_follower, partitions, id))
            if (is_of_follower, partitions) <= (new.is_of_follower(), size) =>
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
fn unique(wishes: Vec<(FetchKey, FetchWish)>) -> Vec<Asked> {
    let mut places: HashMap<FetchKey, usize> = HashMap::with_capacity(wishes.len());
    let mut kept: Vec<Asked> = Vec::with_capacity(wishes.len());
    for (key, wish) in wishes {
        if let Some(&place) = places.get(&key) {
            kept[place].2 = wish;
        } else {
            places.insert(key.clone(), kept.len());
            kept.push((kept.len(), key, wish));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
