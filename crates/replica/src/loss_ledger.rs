//! The loss ledger: a file in which a node notes what it saw of lost records. It is append-only, and each entry is synced.
//!
//! | line | of `ottla-loss-ledger` |
//! |---|---|
//! | 1 | version, 0 |
//! | then | `crc name=value …`: the CRC-32C of the rest of the line in eight hexadecimal digits, and the fields of [`LossEntry`]; `-` is a value that is not known |
//!
//! A line that is torn or damaged is left out. The next entry overwrites a torn line at the end. Kafka ignores the file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ottla_log::files::{File as _, FileError, Files, Open, read_whole};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::time::Timestamp;

use crate::loss::{Loss, LossReason};

/// The file, in the directory of the metadata log.
pub const LOSS_LEDGER: &str = "ottla-loss-ledger";

/// Upper bound of the file. Beyond it losses are only logged and counted.
const MAX_BYTES: u64 = 16 << 20;
const HEADER: &str = "0\n";

/// What a node saw of a loss. Several nodes may see the same: the controller elects, the new leader begins without the
/// records, and each other replica that has them removes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossEntry {
    pub at: Timestamp,
    /// The node that saw it.
    pub node: NodeId,
    /// The topic's name.
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: PartitionIndex,
    /// The first offset that is lost: the end of the new leader's log.
    pub from: Option<Offset>,
    /// The offset after the last record that was below the high watermark.
    pub to: Option<Offset>,
    /// The end of the log that had the records. Those from `to` on were not known to be committed; if the node has
    /// restarted since, some of them may have been.
    pub end: Option<Offset>,
    pub old_leader: Option<NodeId>,
    pub new_leader: NodeId,
    pub old_epoch: Option<LeaderEpoch>,
    /// The leader epoch that began without the records.
    pub new_epoch: LeaderEpoch,
    pub what: LossKind,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// The controller elected a leader that may lack records: no replica was in sync, and this one led last.
    ElectedLastLeader,
    /// The same, because `unclean.leader.election.enable` allows it.
    ElectedByConfig,
    /// The same, because ElectLeaders asked for it.
    ElectedByRequest,
    /// The same, because a reassignment was cancelled.
    ElectedByCancellation,
    /// The new leader began its epoch.
    Led,
    /// A replica removed records: the leader has others at their offsets, or none.
    RemovedDiverged,
    /// The same, because the leader's log ends before them.
    RemovedBehindEnd,
}

impl LossKind {
    const ALL: [Self; 7] = [
        Self::ElectedLastLeader,
        Self::ElectedByConfig,
        Self::ElectedByRequest,
        Self::ElectedByCancellation,
        Self::Led,
        Self::RemovedDiverged,
        Self::RemovedBehindEnd,
    ];

    /// Whether a replica has removed records.
    const fn is_removal(self) -> bool {
        matches!(self, Self::RemovedDiverged | Self::RemovedBehindEnd)
    }

    /// The word in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ElectedLastLeader => "elected-last-leader",
            Self::ElectedByConfig => "elected-by-config",
            Self::ElectedByRequest => "elected-by-request",
            Self::ElectedByCancellation => "elected-by-cancellation",
            Self::Led => "led",
            Self::RemovedDiverged => "removed-diverged",
            Self::RemovedBehindEnd => "removed-behind-end",
        }
    }
}

impl From<LossReason> for LossKind {
    fn from(reason: LossReason) -> Self {
        match reason {
            LossReason::Diverged => Self::RemovedDiverged,
            LossReason::LeaderEndsBefore => Self::RemovedBehindEnd,
        }
    }
}

impl LossEntry {
    /// The entry of a replica that removed records.
    pub fn removed(loss: &Loss, node: NodeId, at: Timestamp) -> Self {
        let (topic_id, partition) = loss.partition;
        Self {
            at,
            node,
            topic: loss.topic.to_string(),
            topic_id,
            partition,
            from: Some(loss.from),
            to: Some(loss.to),
            end: Some(loss.end),
            old_leader: None,
            new_leader: loss.leader,
            old_epoch: loss.removed_epoch,
            new_epoch: loss.leader_epoch,
            what: loss.reason.into(),
        }
    }

    /// The number of records that are known to have been committed and lost. Of a compacted topic some may have been
    /// compacted away before.
    pub fn lost(&self) -> i64 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => (to.0 - from.0).max(0),
            _ => 0,
        }
    }

    /// Whether this removal tells all that `other` does: it is told again if its node ended before it was done.
    fn covers(&self, other: &Self) -> bool {
        let whose = |entry: &Self| {
            let of = (entry.topic_id, entry.partition, entry.new_epoch);
            (of, entry.node, entry.new_leader, entry.what)
        };
        let begins = matches!((self.from, other.from), (Some(mine), Some(its)) if mine <= its);
        whose(self) == whose(other) && begins && self.to >= other.to && self.end >= other.end
    }

    fn parse(line: &str) -> Option<Self> {
        let (crc, fields) = line.split_once(' ')?;
        if u32::from_str_radix(crc, 16).ok()? != crc_fast::crc32_iscsi(fields.as_bytes()) {
            return None;
        }
        let fields: BTreeMap<&str, &str> = fields
            .split(' ')
            .filter_map(|field| field.split_once('='))
            .collect();
        let text = |name: &str| fields.get(name).copied();
        let of = Fields(&fields);
        let kinds = LossKind::ALL.into_iter();
        let offset = |name| of.number(name).map(Offset);
        Some(Self {
            at: Timestamp(of.number("time")?),
            node: NodeId(of.number("node")?),
            topic: text("topic")?.to_owned(),
            topic_id: Uuid::from_base64(text("topic-id")?).ok()?,
            partition: PartitionIndex(of.number("partition")?),
            from: offset("from"),
            to: offset("to"),
            end: offset("end"),
            old_leader: of.number("old-leader").map(NodeId),
            new_leader: NodeId(of.number("new-leader")?),
            old_epoch: of.number("old-epoch").map(LeaderEpoch),
            new_epoch: LeaderEpoch(of.number("new-epoch")?),
            what: { kinds }.find(|kind| Some(kind.word()) == text("what"))?,
        })
    }
}

/// The fields of a line by name.
struct Fields<'a>(&'a BTreeMap<&'a str, &'a str>);

impl Fields<'_> {
    /// `None` for `-`, too.
    fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.0.get(name)?.parse().ok()
    }
}

impl fmt::Display for LossEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        let offset = |offset: Option<Offset>| known(offset.map(|offset| offset.0));
        write!(
            out,
            "time={} node={} topic={} topic-id={} partition={} from={} to={} end={} old-leader={} new-leader={} \
             old-epoch={} new-epoch={} what={}",
            self.at.0,
            self.node.0,
            self.topic,
            self.topic_id,
            self.partition.0,
            offset(self.from),
            offset(self.to),
            offset(self.end),
            known(self.old_leader.map(|id| id.0.into())),
            self.new_leader.0,
            known(self.old_epoch.map(|epoch| epoch.0.into())),
            self.new_epoch.0,
            self.what.word(),
        )
    }
}

/// Why an entry is not in the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    File(#[from] FileError),
    /// A write or sync failed before; the content of the file is unknown until the next start.
    #[error("an earlier write of the loss ledger failed")]
    Failed,
    #[error("the loss ledger has its largest size of {MAX_BYTES} bytes")]
    Full,
}

/// The sums over all entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LossTotals {
    pub entries: i64,
    /// See [`LossEntry::lost`].
    pub lost: i64,
}

impl LossTotals {
    fn add(&mut self, entry: &LossEntry) {
        self.entries += 1;
        self.lost += entry.lost();
    }
}

/// The loss ledger of a node.
#[derive(Debug)]
pub struct LossLedger<F: Files> {
    files: F,
    path: PathBuf,
    /// The end of the last good line.
    end: u64,
    totals: LossTotals,
    /// The entries that tell what a replica has removed.
    removals: Vec<LossEntry>,
    has_failed: bool,
}

impl<F: Files> LossLedger<F> {
    /// The ledger in `directory`. Its file is made with the first entry.
    pub fn open(files: F, directory: &Path) -> Result<Self, FileError> {
        let path = directory.join(LOSS_LEDGER);
        let content = read_whole(&files, &path, MAX_BYTES)?.unwrap_or_default();
        let mut ledger = Self {
            files,
            path,
            end: 0,
            totals: LossTotals::default(),
            removals: Vec::new(),
            has_failed: false,
        };
        let mut position = 0;
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            position += line.len() as u64;
            let entry = parse(line);
            if line == HEADER.as_bytes() || entry.is_some() {
                ledger.end = position;
            }
            if let Some(entry) = entry {
                ledger.note(entry);
            }
        }
        Ok(ledger)
    }

    /// Adds an entry, durably, unless an entry covers it.
    pub fn append(&mut self, entry: LossEntry) -> Result<(), LedgerError> {
        if self.has_failed {
            return Err(LedgerError::Failed);
        }
        if self.removals.iter().any(|known| known.covers(&entry)) {
            return Ok(());
        }
        let fields = entry.to_string();
        let crc = crc_fast::crc32_iscsi(fields.as_bytes());
        let header = if self.end == 0 { HEADER } else { "" };
        let text = format!("{header}{crc:08x} {fields}\n");
        if self.end + text.len() as u64 > MAX_BYTES {
            return Err(LedgerError::Full);
        }
        let written = self.write(text.as_bytes());
        self.has_failed = written.is_err();
        written?;
        self.note(entry);
        Ok(())
    }

    fn note(&mut self, entry: LossEntry) {
        self.totals.add(&entry);
        if entry.what.is_removal() {
            self.removals.push(entry);
        }
    }

    /// The sums over the entries, without reading the file.
    pub fn totals(&self) -> LossTotals {
        self.totals
    }

    fn write(&mut self, text: &[u8]) -> Result<(), FileError> {
        let file = self.files.open(&self.path, Open::Create)?;
        file.write_at(&[IoSlice::new(text)], self.end)?;
        file.sync_data()?;
        if self.end == 0 {
            let directory = self.path.parent().unwrap_or(Path::new("."));
            self.files.sync_directory(directory)?;
        }
        self.end += text.len() as u64;
        Ok(())
    }

    /// All entries, the oldest first.
    pub fn entries(&self) -> Result<Vec<LossEntry>, FileError> {
        let content = read_whole(&self.files, &self.path, MAX_BYTES)?.unwrap_or_default();
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        Ok(lines.filter_map(parse).collect())
    }
}

/// The entry of a whole line.
fn parse(line: &[u8]) -> Option<LossEntry> {
    LossEntry::parse(std::str::from_utf8(line).ok()?.strip_suffix('\n')?)
}

#[cfg(test)]
mod tests;
