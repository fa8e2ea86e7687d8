//! Plans the reads of a request until there are enough bytes, or the time is up.
//!
//! All partitions are planned at first. While the request waits, only those that have changed are planned again, so that an
//! append to one partition costs the same however many a session has. Partitions that were settled when the request came
//! join it when they change. Invariants:
//!
//! - a request that waits holds no files: a plan that reads something is dropped, and made anew after each change;
//! - a plan that a waiting request keeps reads nothing, and no flush alone would change that.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use ottla_log::files::Files;
use ottla_log::files::disk::Disk;
use ottla_log::{FirstBatch, LogDirectory, Missing};
use ottla_protocol::messages::ErrorCode;

use super::Limits;
use super::target::{Pages, Target};
use crate::process::held_files::HeldFile;
use crate::replicas::ends;
use crate::replicas::partition::{Offsets, Partition, Planned, Reader, reader};

/// How often what is missing is loaded before a plan waits for the disk after all: a search in an index takes a few
/// pages, and memory may be so short that they are gone again.
const MOST_LOADS: usize = 8;

/// A planned read, and the file that it holds open, if it reads anything.
pub(super) type Plan = (Planned, Option<HeldFile>);
pub(super) type Outcome = Result<Plan, ErrorCode>;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Until there are enough bytes.
    ForBytes,
    /// Its time is up, or it asks for what there is: only until that is flushed, if nothing else can be read.
    ForFlush,
}

impl Waits {
    fn of(limits: &Limits) -> Self {
        if limits.max_wait.is_zero() || limits.min_bytes == 0 {
            Self::ForFlush
        } else {
            Self::ForBytes
        }
    }
}

/// The partitions of a session that are settled when its request comes.
pub(super) struct Settled<'a> {
    pub(super) count: usize,
    /// The reader of the session.
    pub(super) reader: Arc<Reader>,
    /// What a place has that was settled and has changed; `None` if it does not concern this request.
    pub(super) find: &'a (dyn Fn(usize) -> Option<Target> + Sync),
}

impl Settled<'_> {
    /// For a request that looks at all its partitions.
    pub(super) fn none() -> Self {
        Self {
            count: 0,
            reader: reader(),
            find: &|_| None,
        }
    }
}

/// Plans until there are enough bytes, an error or a divergence, or the time is up.
///
/// Records that are appended and not flushed yet count as well: they are flushed for the reader that would be answered with
/// them, so that no answer is empty only because a flush is missing.
pub(super) async fn plan_enough(
    targets: BTreeMap<usize, Target>,
    settled: Settled<'_>,
    limits: &Limits,
) -> BTreeMap<usize, (Target, Outcome)> {
    let mut planning = Planning::new(targets, settled, limits);
    planning.plan_all().await;
    if !planning.suffices(Waits::of(limits)) {
        planning.wait_for_enough().await;
        planning.renew_offsets();
    }
    planning.flush_tails();
    planning.finish()
}

/// A partition of a request.
struct Slot {
    target: Target,
    /// `None` until it is planned, and while a plan that reads something is dropped.
    plan: Option<Outcome>,
}

/// The plans of one request.
struct Planning<'a> {
    limits: &'a Limits,
    settled: Settled<'a>,
    /// By place.
    slots: BTreeMap<usize, Slot>,
    /// The places that were planned last. Only they may have bytes.
    latest: Vec<usize>,
    /// The number of plans that a request can wait for, and of settled partitions.
    awaited: usize,
}

impl<'a> Planning<'a> {
    fn new(targets: BTreeMap<usize, Target>, settled: Settled<'a>, limits: &'a Limits) -> Self {
        let slot = |(place, target)| (place, Slot { target, plan: None });
        Self {
            limits,
            awaited: settled.count,
            settled,
            slots: targets.into_iter().map(slot).collect(),
            latest: Vec::new(),
        }
    }

    fn places(&self) -> Vec<usize> {
        self.slots.keys().copied().collect()
    }

    async fn plan_all(&mut self) {
        self.plan(self.places()).await;
    }

    /// Plans `places`. Indexes and heads that are not in the page cache are loaded first, on threads of
    /// [`ColdReads`](crate::drivers::cold_reads::ColdReads): neither a thread of the runtime nor a partition's lock waits
    /// for the disk.
    async fn plan(&mut self, places: Vec<usize>) {
        self.latest = places;
        for _ in 0..MOST_LOADS {
            self.plan_by(Pages::Cached);
            let missing: Vec<_> = self.missing().collect();
            if missing.is_empty() {
                return;
            }
            // A waiting request holds no files.
            self.drop_reads();
            for (directory, missing) in missing {
                let mut loading = self.limits.cold_reads.load_missing(&directory, missing);
                // A failure has taken the directory offline, which the next plan reports.
                let _ = loading.wait().await;
            }
        }
        self.plan_by(Pages::Awaited);
    }

    fn plan_by(&mut self, pages: Pages) {
        let limits = self.limits;
        let mut left = limits.max_bytes;
        let mut first_batch = FirstBatch::MayExceed;
        let places = std::mem::take(&mut self.latest);
        for &place in &places {
            if first_batch == FirstBatch::MustFit && limits.held_files.are_spent() {
                left = 0;
            }
            let Some(slot) = self.slots.get(&place) else {
                continue;
            };
            let plan = slot.target.plan(limits, left, first_batch, pages);
            let outcome = plan.map(|mut planned| {
                if first_batch == FirstBatch::MustFit && left == 0 {
                    // It gives nothing to this answer, so nothing is loaded for it.
                    planned.plan.missing = None;
                }
                let held = (planned.plan.length > 0).then(|| limits.held_files.hold());
                if held.is_some() {
                    first_batch = FirstBatch::MustFit;
                    left = left.saturating_sub(planned.plan.length);
                }
                (planned, held)
            });
            self.put(place, Some(outcome));
        }
        self.latest = places;
    }

    fn put(&mut self, place: usize, outcome: Option<Outcome>) {
        let is_awaited = |outcome: &Option<Outcome>| outcome.as_ref().is_some_and(can_wait);
        if let Some(slot) = self.slots.get_mut(&place) {
            self.awaited += usize::from(is_awaited(&outcome));
            let before = std::mem::replace(&mut slot.plan, outcome);
            self.awaited -= usize::from(is_awaited(&before));
        }
    }

    fn outcome(&self, place: usize) -> Option<&Outcome> {
        self.slots.get(&place)?.plan.as_ref()
    }

    fn partition(&self, place: usize) -> Option<&Arc<Partition>> {
        self.slots.get(&place)?.target.found.as_ref().ok()
    }

    /// What must be loaded before the latest places can be planned.
    fn missing(
        &self,
    ) -> impl Iterator<Item = (Arc<LogDirectory<Disk>>, Missing<<Disk as Files>::File>)> {
        self.latest_plans().filter_map(|planned| {
            let missing = planned.plan.missing.as_ref()?;
            Some((Arc::clone(planned.plan.directory()), missing.clone()))
        })
    }

    fn latest_plans(&self) -> impl Iterator<Item = &Planned> {
        self.latest_outcomes()
            .filter_map(|outcome| Some(&outcome.as_ref().ok()?.0))
    }

    fn latest_outcomes(&self) -> impl Iterator<Item = &Outcome> {
        let latest = self.latest.iter();
        latest.filter_map(|place| self.outcome(*place))
    }

    /// Drops the plans that read something, or would after a flush; returns their places.
    fn drop_reads(&mut self) -> Vec<usize> {
        let latest = self.latest.iter().copied();
        let reading = latest.filter(|place| !self.outcome(*place).is_some_and(is_idle));
        let reading: Vec<usize> = reading.collect();
        for place in &reading {
            self.put(*place, None);
        }
        reading
    }

    /// Whether there is enough for an answer.
    fn suffices(&self, waits: Waits) -> bool {
        let look = self.look();
        look.is_due
            || match waits {
                Waits::ForBytes => look.bytes >= self.limits.min_bytes as u64,
                Waits::ForFlush => look.bytes > 0 || look.unflushed == 0,
            }
    }

    fn look(&self) -> Look {
        let mut look = Look {
            is_due: self.awaited == 0,
            ..Look::default()
        };
        for outcome in self.latest_outcomes() {
            match outcome {
                Ok((planned, _)) => {
                    look.is_due |= planned.diverging.is_some() || planned.read_replica.is_some();
                    look.bytes += planned.plan.length as u64;
                    look.unflushed += planned.unflushed;
                }
                Err(_) => look.is_due |= can_wait(outcome),
            }
        }
        look
    }

    async fn wait_for_enough(&mut self) {
        let mut waits = Waits::of(self.limits);
        let time = match waits {
            Waits::ForBytes => self.limits.max_wait,
            Waits::ForFlush => ends::LEAST_PATIENCE,
        };
        let mut timer = pin!(tokio::time::sleep(time));
        let reader = Arc::clone(&self.settled.reader);
        self.drop_reads();
        let mut due: BTreeSet<usize> = self.places().into_iter().collect();
        loop {
            self.plan_watched(due).await;
            if self.suffices(waits) {
                return;
            }
            self.flush_if_enough(waits);
            due = self.drop_reads().into_iter().collect();
            tokio::select! {
                biased;
                () = reader.consumer().notified() => {}
                () = &mut timer => {
                    if waits == Waits::ForFlush {
                        return self.plan_watched(due).await;
                    }
                    waits = Waits::ForFlush;
                    let late = timer.deadline() + ends::LEAST_PATIENCE;
                    timer.as_mut().reset(late);
                }
            }
        }
    }

    /// Plans `due`, and what has changed.
    async fn plan_watched(&mut self, mut due: BTreeSet<usize>) {
        let reader = Arc::clone(&self.settled.reader);
        reader.lacks(self.limits.min_bytes);
        due.append(&mut reader.take_changed());
        due.retain(|place| self.has(*place));
        // The reader watches before it plans, so that it misses no append in between.
        due.retain(|place| {
            let slot = self.slots.get(place);
            let offsets = slot.and_then(|slot| slot.target.watch(&reader, *place, self.limits));
            !self.is_idle_at(*place, offsets)
        });
        self.plan(due.into_iter().collect()).await;
    }

    /// Whether the request has a place. One that was settled joins it.
    fn has(&mut self, place: usize) -> bool {
        if self.slots.contains_key(&place) {
            return true;
        }
        let Some(target) = (self.settled.find)(place) else {
            return false;
        };
        self.slots.insert(place, Slot { target, plan: None });
        self.awaited -= 1;
        true
    }

    /// Whether a place is planned, there is nothing to read, and its partition has still these offsets.
    fn is_idle_at(&self, place: usize, offsets: Option<Offsets>) -> bool {
        let outcome = self.outcome(place).filter(|plan| is_idle(plan));
        match (outcome, offsets) {
            (Some(Ok((planned, _))), Some(offsets)) => planned.offsets == offsets,
            _ => false,
        }
    }

    /// Asks for a flush of the records that the reader waits for, if they are enough together with those that it may read.
    ///
    /// Enough records may have been appended since the reader looked; so the partitions that have changed are flushed too.
    fn flush_if_enough(&self, waits: Waits) {
        let reader = &self.settled.reader;
        let look = self.look();
        if !reader.gets(look.bytes + look.unflushed) && waits == Waits::ForBytes {
            return;
        }
        let changed = reader.changed().into_iter();
        for place in self.latest.iter().copied().chain(changed) {
            if let Some(partition) = self.partition(place) {
                partition.make_readable(self.limits.clock.monotonic());
            }
        }
    }

    /// A partition whose records are not flushed adds nothing to this answer. It is flushed for the next one.
    fn flush_tails(&self) {
        for place in &self.latest {
            if let (Some(partition), Some(Ok((planned, _)))) =
                (self.partition(*place), self.outcome(*place))
                && planned.unflushed > 0
                && planned.plan.first_batch_size == 0
                && planned.plan.missing.is_none()
            {
                partition.make_readable(self.limits.clock.monotonic());
            }
        }
    }

    /// The high watermarks that the answer tells are those of now, also where there was no other reason to plan again.
    fn renew_offsets(&mut self) {
        for Slot { target, plan } in self.slots.values_mut() {
            if let (Ok(partition), Some(Ok((planned, _)))) = (&target.found, plan)
                && let Ok(offsets) = partition.offsets()
            {
                planned.offsets = offsets;
            }
        }
    }

    fn finish(self) -> BTreeMap<usize, (Target, Outcome)> {
        let slots = self.slots.into_iter();
        let planned = |slot: Slot| {
            (
                slot.target,
                slot.plan.expect("a place is planned before an answer"),
            )
        };
        slots.map(|(place, slot)| (place, planned(slot))).collect()
    }
}

/// The bytes that there are for an answer.
#[derive(Debug, Default)]
struct Look {
    bytes: u64,
    /// Further bytes that could be read after a flush.
    unflushed: u64,
    /// Whether to answer at once, however few bytes there are: after an error, or where there is nothing to wait for.
    is_due: bool,
}

/// Whether an answer waits for a partition or is due because of it. As in Kafka the answer waits for the other partitions
/// of one that is unknown: a client that does not handle the error yet would ask again without a pause.
fn can_wait(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Err(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition)
    )
}

/// Whether there is nothing to read at all, also after a flush.
fn is_idle(outcome: &Outcome) -> bool {
    match outcome {
        Ok((planned, _)) => {
            let plan = &planned.plan;
            let is_empty = plan.length == 0 && plan.first_batch_size == 0;
            is_empty && plan.file().is_none() && plan.missing.is_none() && planned.unflushed == 0
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests;
