//! Opening a log: after a clean stop by looking at names and lengths, after a crash by reading what the recovery point
//! leaves open.
//!
//! From the recovery point on every batch is read and its checksum compared; the log ends before the first that is
//! not whole and sound, and what is cut off there moves aside ([`cut_off`]). Indexes, producers' state and leader epochs are
//! made anew from what was read, and all is synced before the log is used: an open log is durable up to its end. Nothing
//! before the recovery point is read but the few batches since the last index entry, and nothing before it is cut off:
//! damage there stays, keeps its offsets, and is known.

pub(crate) mod cut_off;
mod directory;
mod epochs;
mod indexes;
mod producers;
mod rewrite_tail;
mod segment;

pub use self::cut_off::CutOff;
pub(crate) use self::producers::load_producers;

use self::indexes::Rebuilt;
use crate::checkpoint::read_topic_id;
use crate::compaction::{Compacted, read_quarantine};
use crate::config::LogConfig;
use crate::damage::{Damage, UNBOUNDED};
use crate::directory::{LogDirectory, StorageError, unless_full};
use crate::epoch_file::EpochFile;
use crate::files::Files;
use crate::partition_log::{Creation, KnownDamage, PartitionLog, jitter, run_together};
use crate::place::Place;
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::producer_state::ProducerState;
use crate::segment::{PresentIndexes, Segment};
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Which log to open, and how it was left.
#[derive(Debug)]
pub struct OpenLog<F: Files> {
    /// The log directory it lies in.
    pub directory: Arc<LogDirectory<F>>,
    /// The name of its own directory: `topic-partition`.
    pub name: String,
    /// The settings it obeys.
    pub config: LogConfig,
    /// The topic's id, which is written down when it is not yet, and must agree when it is.
    pub topic_id: Option<Uuid>,
    /// How it was left.
    pub left: Left,
}

/// How a log was left, as the checkpoints of its log directory say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Left {
    /// Whether the log directory was closed properly.
    pub is_clean: bool,
    /// The offset below which everything is on stable storage.
    pub recovery_point: Offset,
    /// The offset of the first record that may be read, when it is not the first there is.
    pub log_start: Offset,
    /// The high watermark; `None` for the end of the log.
    pub high_watermark: Option<Offset>,
    /// The offset below which it is compacted; `None` when it never was.
    pub compacted_to: Option<Offset>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory belongs to another topic.
    #[error("{} belongs to the topic with id {found}, not {expected}: move it away or start the broker it belongs to", path.display())]
    TopicId {
        /// The partition's directory.
        path: PathBuf,
        /// The id it should have.
        expected: Uuid,
        /// The id it has.
        found: Uuid,
    },
    /// The log holds records of a format that Kafka last wrote in 0.10.
    #[error("{} has records of a format older than Kafka 0.11 at position {position}: rewrite the topic with Kafka first", path.display())]
    Legacy {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
    },
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How far recovery is, for showing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The bytes read.
    pub done: u64,
    /// The bytes that are to be read.
    pub total: u64,
}

/// What opening a log has done to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The bytes of batches that were read and compared.
    pub bytes_read: u64,
    /// What was cut off its end.
    pub cut_off: Option<CutOff>,
    /// The segments whose missing indexes were made anew.
    pub indexes_rebuilt: usize,
    /// Whether the leader epochs were missing or unreadable, and learnt from the batches.
    pub epochs_rebuilt: bool,
    /// The damage that was met below the recovery point.
    pub damage: Vec<Damage>,
}

impl<F: Files> PartitionLog<F> {
    /// Opens the log, makes it if there is none, and recovers it if it was not closed properly.
    pub fn open(
        open: OpenLog<F>,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Recovery), OpenError> {
        let (mut log, recovery) = Self::open_unsynced(open, now, progress)?;
        sync_recovered(std::slice::from_mut(&mut log))?;
        Ok((log, recovery))
    }

    /// As [`PartitionLog::open`], but what recovery did is not durable: [`sync_recovered`] must follow before the log is
    /// used.
    pub fn open_unsynced(
        open: OpenLog<F>,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Recovery), OpenError> {
        open.directory.ensure_online()?;
        let place = Place {
            path: open.directory.path().join(&open.name),
            directory: open.directory,
            suffix: "",
        };
        let (directory, files) = (&place.directory, place.directory.files());
        let names = place.names_or_make()?;
        let creation = Creation {
            topic_id: missing_topic_id(&place, open.topic_id)?,
            is_new: names.is_none(),
        };
        let found = place.tidy(names.unwrap_or_default())?;
        let leader_epochs = directory.judge(epochs::read(files, &place.path))?;
        let has_epochs = leader_epochs.latest().is_some();
        let mut log = Self {
            config: open.config,
            segments: BTreeMap::new(),
            with_aborted: BTreeSet::new(),
            waiting_aborted: BTreeMap::new(),
            log_start: Offset(0),
            next: Offset(0),
            high_watermark: LogPosition {
                offset: Offset(0),
                segment: Offset(0),
                position: 0,
            },
            first_unstable: None,
            flush: crate::partition_log::Progress::at(Offset(0), Offset(0)),
            producers: ProducerState::empty(Offset(0)),
            epoch_file: EpochFile::holding(leader_epochs.clone()),
            leader_epochs,
            snapshots: found.snapshots,
            last_snapshot: (Offset(0), 0),
            compaction: Compacted {
                to: open.left.compacted_to,
                quarantine: directory.judge(read_quarantine(files, &place.path))?,
            },
            damage: KnownDamage::default(),
            place,
        };
        let mut recovery = Recovery::default();
        log.load_segments(found.segments, now, &mut recovery)?;
        // A clean end that turns out to be damaged is recovered like any other.
        let is_clean = open.left.is_clean && log.activate_sound(&open.left, now)?;
        let left = Left {
            is_clean,
            ..open.left
        };
        if !is_clean {
            log.recover(left.recovery_point, now, (&mut recovery, progress))?;
        }
        recovery.epochs_rebuilt = !has_epochs && log.learn_all_epochs(&left)?;
        log.settle((&left, creation), now)?;
        recovery.damage = log.known_damage().copied().collect();
        Ok((log, recovery))
    }

    fn load_segments(
        &mut self,
        found: BTreeMap<Offset, PresentIndexes>,
        now: Timestamp,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        let mut segments = Vec::with_capacity(found.len());
        let mut rebuilt = Rebuilt::default();
        for (base, indexes) in found {
            let loaded = Segment::load(&self.place, base, indexes);
            let mut segment = self.place.directory.judge(loaded)?;
            if !(indexes.offset && indexes.time) {
                self.rebuild_indexes(&mut segment, &mut rebuilt, now)?;
                recovery.indexes_rebuilt += 1;
            }
            if segment.aborted > 0 {
                self.with_aborted.insert(base);
            }
            segments.push((base, segment));
        }
        self.name_rebuilt(&rebuilt)?;
        self.segments = segments.into_iter().collect();
        Ok(())
    }

    /// Opens the last segment for appending; says whether all since its last index entry makes sense, and ends where the
    /// log did.
    fn activate_sound(&mut self, left: &Left, now: Timestamp) -> Result<bool, OpenError> {
        self.activate_last(now)?;
        let Some((_, last)) = self.segments.last_key_value() else {
            return Ok(true);
        };
        let end = self.place.directory.judge(last.end(&self.place))?;
        self.next = end.next;
        let was_closed_at = left.recovery_point;
        let ends_elsewhere = was_closed_at > Offset(0) && end.next != was_closed_at;
        Ok(end.damage.is_empty() && !ends_elsewhere)
    }

    fn activate_last(&mut self, now: Timestamp) -> Result<(), OpenError> {
        let Self {
            segments,
            place,
            config,
            ..
        } = self;
        let Some(mut last) = segments.last_entry() else {
            return Ok(());
        };
        let segment = last.get_mut();
        let jitter = jitter(config.segment_jitter, &place.path, segment.base);
        place
            .directory
            .judge(segment.activate(place, now, jitter))?;
        Ok(())
    }

    /// Reads all from `recovery_point` on and ends the log before the first batch that is not sound.
    fn recover(
        &mut self,
        recovery_point: Offset,
        now: Timestamp,
        (recovery, progress): (&mut Recovery, &mut dyn FnMut(Progress)),
    ) -> Result<(), OpenError> {
        let floor = self.segment_before(recovery_point);
        let open: Vec<Offset> = self
            .segments
            .range(floor..)
            .map(|(base, _)| *base)
            .collect();
        let total = open
            .iter()
            .filter_map(|base| self.segments.get(base))
            .map(|segment| segment.size)
            .sum();
        let mut shown = Progress { done: 0, total };
        // Without a recovery point, how far the log was compacted tells of stable storage too.
        let gaps_to = recovery_point.max(self.compaction.to.unwrap_or(Offset(0)));
        let mut ends_in_damage = false;
        let mut later = open.iter();
        while let Some(base) = later.next() {
            let mut scanned = self.recover_segment(*base, recovery_point, now, |bytes| {
                recovery.bytes_read += bytes;
                shown.done += bytes;
                progress(shown);
            })?;
            if let Some(next) = later.as_slice().first() {
                scanned.compare_with_next(*next, gaps_to);
            }
            self.next = scanned.end;
            ends_in_damage = scanned.ends_in_damage;
            for damage in scanned.damage {
                self.note_damage(damage);
            }
            if let Some(cut) = scanned.cut {
                // An append that was refused may have left bytes behind the last batch of a segment.
                let goes_on = later.as_slice().first() == Some(&scanned.end);
                let lost = if goes_on { &[] } else { later.as_slice() };
                recovery.cut_off = Some(self.cut_off(*base, &cut, lost, now)?);
                if !goes_on {
                    break;
                }
            }
        }
        // What damage ends is not appended to: the log goes on in a segment of its own, whose name says where.
        if ends_in_damage {
            return Ok(());
        }
        // The last segment may lie wholly before the recovery point, or may have been cut.
        self.activate_last(now)
    }

    /// Brings everything in line with the end of the log.
    fn settle(
        &mut self,
        (left, creation): (&Left, Creation),
        now: Timestamp,
    ) -> Result<(), OpenError> {
        let recovery_point = if left.is_clean {
            UNBOUNDED
        } else {
            left.recovery_point
        };
        let first = self.segments.first_key_value().map(|(base, _)| *base);
        self.log_start = first.map_or(left.log_start, |base| base.max(left.log_start));
        let is_empty = first.is_none() || self.next < self.log_start;
        if is_empty {
            self.restart_at(self.log_start, now)?;
        }
        self.leader_epochs.truncate_from_end(self.next);
        self.leader_epochs.truncate_from_start(self.log_start);
        producers::drop_snapshots(self)?;
        producers::load(self, recovery_point, now)?;
        self.flush = crate::partition_log::Progress::at(self.next, self.next.min(recovery_point));
        self.flush.recovery_point_on_disk = left.recovery_point.min(self.next);
        let is_left_out = is_planted(Bug::RecoveredNotSynced) && !creation.is_due();
        let is_durable = left.is_clean && !is_empty && !creation.is_due() || is_left_out;
        self.flush.recovered_from = (!is_durable).then_some(recovery_point.min(self.next));
        self.flush.creation = creation;
        self.set_high_watermark(left.high_watermark.unwrap_or(self.next))?;
        Ok(())
    }
}

/// Makes durable what recovery did to logs of one directory, with as few syncs as that takes.
pub fn sync_recovered<F: Files>(logs: &mut [PartitionLog<F>]) -> Result<(), StorageError> {
    let is_recovered = |log: &&PartitionLog<F>| log.flush.recovered_from.is_some();
    let count = logs.iter().filter(is_recovered).count();
    // What is not written on a full disk only saves a later start work, unless it makes a log known at all.
    let must_succeed = logs.iter().any(|log| log.flush.creation.is_due());
    let mut recovered = Vec::with_capacity(count);
    let mut flushes = Vec::with_capacity(count);
    for log in logs {
        if let Some(flush) = log.begin_sync_of_recovered(count)? {
            recovered.push(log);
            flushes.push(flush);
        }
    }
    let synced = run_together(&flushes);
    for (log, flush) in recovered.into_iter().zip(&flushes) {
        if synced.is_ok() {
            log.complete_checkpoint(flush);
        } else {
            log.abandon_checkpoint();
        }
    }
    if must_succeed {
        return synced;
    }
    unless_full(synced)
}

/// The topic's id where it is not written down; it must agree where it is.
fn missing_topic_id<F: Files>(
    place: &Place<F>,
    topic_id: Option<Uuid>,
) -> Result<Option<Uuid>, OpenError> {
    let Some(expected) = topic_id else {
        return Ok(None);
    };
    let files = place.directory.files();
    match place.directory.judge(read_topic_id(files, &place.path))? {
        None => Ok(Some(expected)),
        Some(found) if found == expected => Ok(None),
        Some(found) => Err(OpenError::TopicId {
            path: place.path.clone(),
            expected,
            found,
        }),
    }
}
