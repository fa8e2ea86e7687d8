//! Opens a log. After a clean shutdown it needs only names and lengths; after a crash it reads from the recovery point
//! on.
//!
//! From the recovery point on, any write may be torn or missing (assumptions 3 and 4 of `docs/formats.md`). So every
//! batch is read and its checksum verified, and the log ends before the first bad one; the bytes after it are kept
//! aside ([`cut_off`]). Indexes, producer state and leader epochs are rebuilt from these batches, and everything is
//! synced: an open log is durable up to its end. Before the recovery point only the batches since the last index entry
//! are read. Nothing is cut off there: damage stays in the log, keeps its offsets and is recorded.

pub(crate) mod cut_off;
mod directory;
mod epochs;
mod indexes;
mod producers;
mod segment;

pub use self::cut_off::CutOff;
pub(crate) use self::producers::LoadProducers;

use crate::checkpoint::read_topic_id;
use crate::compaction::{Compacted, gaps_end, read_quarantine};
use crate::config::LogConfig;
use crate::damage::{Damage, UNBOUNDED};
use crate::directory::{LogDirectory, StorageError};
use crate::epoch_file::EpochFile;
use crate::files::Files;
use crate::leader_epochs::LeaderEpochs;
use crate::partition_log::{Creation, PartitionLog, Recovered, sync_recovered};
use crate::place::Place;
use crate::planted::{Bug, is_planted};
use crate::producer_state::ProducerState;
use crate::segment::{NewIndexes, PresentIndexes, Segment};
use crate::segments::Segments;
use ottla_protocol::ids::{Offset, Uuid};
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A log to open, and the state in which it was left.
#[derive(Debug)]
pub struct OpenLog<F: Files> {
    /// The log directory it lies in.
    pub directory: Arc<LogDirectory<F>>,
    /// The name of its own directory: `topic-partition`.
    pub name: String,
    pub config: LogConfig,
    /// The topic's id. It is written to `partition.metadata` if that is missing, and must match it otherwise.
    pub topic_id: Option<Uuid>,
    pub left: Left,
}

/// The state in which a log was left, from the checkpoints of its log directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Left {
    /// Whether the log directory has the mark of a clean shutdown.
    pub is_clean: bool,
    /// The recovery point.
    pub recovery_point: Offset,
    /// The log start offset, if it is above the first segment's base.
    pub log_start: Offset,
    /// The high watermark; `None` stands for the end of the log.
    pub high_watermark: Option<Offset>,
    /// The offset below which it is compacted; `None` if it never was.
    pub compacted_to: Option<Offset>,
}

impl Left {
    /// The end of the gaps that compaction left: all are before this offset, and none spans it.
    fn gaps_end(&self) -> Offset {
        gaps_end(self.recovery_point, self.compacted_to)
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory belongs to another topic.
    #[error("{} belongs to the topic with id {found}, not {expected}: move it away or start the broker it belongs to", path.display())]
    TopicId {
        /// The partition's directory.
        path: PathBuf,
        expected: Uuid,
        found: Uuid,
    },
    /// The log has records in the format of Kafka 0.10 or older.
    #[error("{} has records of a format older than Kafka 0.11 at position {position}: rewrite the topic with Kafka first", path.display())]
    Legacy {
        /// The segment's file.
        path: PathBuf,
        /// The position of the first such record.
        position: u64,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The progress of recovery, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub done: u64,
    /// Bytes to read in all.
    pub total: u64,
}

/// What opening has done to a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of the batches that were read and verified.
    pub bytes_read: u64,
    /// The bytes that were cut off its end.
    pub cut_off: Option<CutOff>,
    /// Segments whose indexes were rebuilt.
    pub indexes_rebuilt: usize,
    /// Whether the leader epoch checkpoint was missing or unreadable, and was rebuilt from the batches.
    pub epochs_rebuilt: bool,
    /// Damage below the recovery point.
    pub damage: Vec<Damage>,
}

/// A log that is being opened.
struct Recovering<F: Files> {
    segments: Segments<F>,
    config: LogConfig,
    leader_epochs: LeaderEpochs,
    compaction: Compacted,
    now: Timestamp,
}

impl<F: Files> PartitionLog<F> {
    /// Opens the log. It creates a missing log, and recovers one without a clean shutdown.
    pub fn open(
        open: OpenLog<F>,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, Recovery), OpenError> {
        let (mut log, recovery) = Self::open_unsynced(open, now, progress)?;
        sync_recovered(std::slice::from_mut(&mut log))?;
        Ok((log, recovery))
    }

    /// As [`PartitionLog::open`], but recovery's changes are not synced: [`sync_recovered`] must be called before the
    /// log is used.
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
        let epoch_file = EpochFile::holding(leader_epochs.clone());
        let has_epochs = leader_epochs.latest().is_some();
        let compaction = Compacted {
            to: open.left.compacted_to,
            quarantine: directory.judge(read_quarantine(files, &place.path))?,
        };
        let mut log = Recovering {
            segments: Segments::none(place, found.snapshots),
            config: open.config,
            leader_epochs,
            compaction,
            now,
        };
        let mut recovery = Recovery::default();
        log.load_segments(found.segments, &open.left, &mut recovery)?;
        // The log was closed, but its end is damaged: recover it.
        let left = Left {
            is_clean: open.left.is_clean && log.activate_sound(&open.left)?,
            ..open.left
        };
        if !left.is_clean {
            log.recover(&left, &mut recovery, progress)?;
        }
        recovery.epochs_rebuilt = !has_epochs && log.learn_all_epochs(&left)?;
        let log = log.settle(&left, creation, epoch_file)?;
        recovery.damage = log.known_damage().copied().collect();
        Ok((log, recovery))
    }
}

impl<F: Files> Recovering<F> {
    fn place(&self) -> &Place<F> {
        self.segments.place()
    }

    fn load_segments(
        &mut self,
        found: BTreeMap<Offset, PresentIndexes>,
        left: &Left,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        let mut segments = Vec::with_capacity(found.len());
        let mut rebuilt = NewIndexes::default();
        for (base, indexes) in found {
            let loaded = Segment::load(self.place(), base, indexes);
            let mut segment = self.place().directory.judge(loaded)?;
            let is_missing = !(indexes.offset && indexes.time);
            if is_missing || self.has_lost_index(&segment, left) {
                self.rebuild_indexes(&mut segment, &mut rebuilt)?;
                recovery.indexes_rebuilt += 1;
            }
            segments.push(segment);
        }
        rebuilt.put_in_place(self.place())?;
        self.segments.load(segments);
        Ok(())
    }

    /// Whether a segment has enough batches below the recovery point for an index entry, but its offset index has none.
    /// An earlier start had no space to write its rebuilt entries. They must not be written in place, because a power
    /// cut could tear them and the next start would trust the rest.
    fn has_lost_index(&self, segment: &Segment<F>, left: &Left) -> bool {
        let interval = u64::from(self.config.index_interval_bytes);
        !left.is_clean
            && segment.base < left.recovery_point
            && segment.size > interval
            && segment.offset_index.count() == 0
    }

    /// Opens the last segment for appending; returns whether the batches after its last index entry are sound and end
    /// where the log ended.
    fn activate_sound(&mut self, left: &Left) -> Result<bool, OpenError> {
        self.activate_last()?;
        let Some(last) = self.segments.iter().next_back() else {
            return Ok(true);
        };
        let end = self.place().directory.judge(last.end(self.place()))?;
        self.segments.set_end(end.next);
        let was_closed_at = left.recovery_point;
        let ends_elsewhere = was_closed_at > Offset(0) && end.next != was_closed_at;
        Ok(end.damage.is_empty() && !ends_elsewhere)
    }

    fn activate_last(&mut self) -> Result<(), OpenError> {
        let max_jitter = self.config.segment_jitter;
        Ok(self.segments.activate_last(self.now, max_jitter)?)
    }

    /// Reads the batches from the recovery point on and ends the log before the first bad one.
    fn recover(
        &mut self,
        left: &Left,
        recovery: &mut Recovery,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), OpenError> {
        let recovery_point = left.recovery_point;
        let first = self.segments.base_before(recovery_point);
        let open = self.segments.from(first);
        let total = open.map(|segment| segment.size).sum();
        let open = self.segments.bases().filter(|base| *base >= first);
        let open: Vec<Offset> = open.collect();
        let mut shown = Progress { done: 0, total };
        let gaps_end = left.gaps_end();
        let mut ends_in_damage = false;
        let mut later = open.iter();
        while let Some(base) = later.next() {
            let mut scanned = self.recover_segment(*base, left, |bytes| {
                recovery.bytes_read += bytes;
                shown.done += bytes;
                progress(shown);
            })?;
            if let Some(next) = later.as_slice().first() {
                scanned.compare_with_next(*next, gaps_end);
            }
            self.segments.set_end(scanned.end);
            ends_in_damage = scanned.ends_in_damage;
            for damage in scanned.damage {
                self.segments.note_damage(damage);
            }
            if let Some(cut) = scanned.cut {
                // A refused append may have left bytes after the last batch of a segment.
                let goes_on = later.as_slice().first() == Some(&scanned.end);
                let lost = if goes_on { &[] } else { later.as_slice() };
                recovery.cut_off = Some(self.cut_off(*base, &cut, lost)?);
                if !goes_on {
                    break;
                }
            }
        }
        // A segment that ends in damage takes no appends: the log continues in a new segment at the next offset.
        if ends_in_damage {
            return Ok(());
        }
        // The last segment was not scanned if it ends before the recovery point, or it was cut.
        self.activate_last()
    }

    /// Removes indexes, snapshots and epochs beyond the end of the log, and loads the producer state.
    fn settle(
        mut self,
        left: &Left,
        creation: Creation,
        epoch_file: Arc<EpochFile>,
    ) -> Result<PartitionLog<F>, OpenError> {
        let recovery_point = if left.is_clean {
            UNBOUNDED
        } else {
            left.recovery_point
        };
        let first = self.segments.first_base();
        let log_start = first.map_or(left.log_start, |base| base.max(left.log_start));
        let is_empty = first.is_none() || self.segments.end() < log_start;
        if is_empty {
            self.restart_at(log_start, &epoch_file)?;
        }
        let end = self.segments.end();
        self.compaction.cut_to(end);
        self.leader_epochs.truncate_from_end(end);
        self.leader_epochs.truncate_from_start(log_start);
        producers::drop_snapshots(&mut self.segments, log_start)?;
        let mut producers = ProducerState::empty(log_start);
        let load = LoadProducers {
            log_start,
            recovery_point,
            expiration: self.config.producer_id_expiration,
            now: self.now,
        };
        load.load(&mut self.segments, &mut producers)?;
        let is_left_out = is_planted(Bug::RecoveredNotSynced) && !creation.is_due();
        let is_durable = left.is_clean && !is_empty && !creation.is_due() || is_left_out;
        let recovery_point = recovery_point.min(end);
        let log = PartitionLog::from_recovered(Recovered {
            config: self.config,
            segments: self.segments,
            log_start,
            high_watermark: left.high_watermark,
            producers,
            leader_epochs: self.leader_epochs,
            epoch_file,
            compaction: self.compaction,
            recovery_point,
            recovery_point_on_disk: left.recovery_point.min(end),
            unsynced_from: (!is_durable).then_some(recovery_point),
            creation,
        })?;
        Ok(log)
    }

    /// Empties the log, which continues at `offset`.
    fn restart_at(&mut self, offset: Offset, epoch_file: &EpochFile) -> Result<(), StorageError> {
        self.segments
            .restart_at(offset, self.now, self.config.segment_jitter)?;
        self.compaction.cut_to(offset);
        self.leader_epochs.clear();
        let place = self.place();
        let files = place.directory.files();
        let written = epoch_file.truncate(files, &place.path, &self.leader_epochs);
        place.directory.judge(written)
    }
}

/// The topic's id if `partition.metadata` is missing; an error if it has another id.
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
