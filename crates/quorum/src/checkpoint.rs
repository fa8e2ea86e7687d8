//! Snapshots: the metadata at one offset of the log, in a file of batches.
//!
//! A file begins with a control batch: the header, and the voters if they are in the log. The records of the image follow,
//! and the footer, without which the file is not complete. Offsets start at 0 in every file. The name has the end offset of
//! the snapshot, and the epoch of the last batch before it.

use crate::batches::{self, BadBatch, BatchReader, Content, DataBatch, DecodeError, Next, Place};
use crate::voter::QuorumControl;
use ottla_log::files::{File, FileError, Files, Open};
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::messages::{RecordError, SnapshotFooterRecordData, SnapshotHeaderRecordData};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".checkpoint";
/// The suffix of a file that is not complete yet, as in Kafka.
const UNFINISHED: &str = ".checkpoint.part";
const BATCH_BYTES: usize = 1024 * 1024;

/// The name of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// The first offset that it does not contain.
    pub end_offset: Offset,
    /// The epoch of the batch before `end_offset`.
    pub epoch: LeaderEpoch,
}

impl SnapshotId {
    /// The checkpoint that formatting makes.
    pub(crate) const BOOTSTRAP: Self = Self {
        end_offset: Offset(0),
        epoch: LeaderEpoch(0),
    };

    pub fn file_name(self) -> String {
        format!("{:020}-{:010}{SUFFIX}", self.end_offset.0, self.epoch.0)
    }

    /// The snapshot with this file name; `None` for other names.
    pub fn parse(name: &str) -> Option<Self> {
        let (offset, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        if offset.len() != 20 || epoch.len() != 10 {
            return None;
        }
        Some(Self {
            end_offset: Offset(offset.parse().ok()?),
            epoch: LeaderEpoch(epoch.parse().ok()?),
        })
    }
}

/// Whether an unfinished snapshot, or Kafka when it deleted one, left a file of this name.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.ends_with(UNFINISHED) || name.ends_with(".checkpoint.deleted")
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bytes are damaged.
    #[error("{path} is damaged at position {position}: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        position: u64,
        source: BadBatch,
    },
    /// The footer is missing.
    #[error("{path} ends without a footer: it was not written whole")]
    NoFooter {
        /// The file.
        path: PathBuf,
    },
    /// A record cannot be understood.
    #[error("{path} holds a record that this release does not understand: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        source: DecodeError,
    },
}

impl CheckpointError {
    /// Whether the file is damaged, so that an older snapshot and the log can replace it.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NoFooter { .. })
    }
}

/// A snapshot that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Restored {
    pub(crate) image: MetadataImage,
    pub(crate) control: QuorumControl,
    pub(crate) size: u64,
}

/// Reads a snapshot into an image.
pub(crate) fn restore<F: Files>(files: &F, path: &Path) -> Result<Restored, CheckpointError> {
    let mut loader = Loader::default();
    let mut control = QuorumControl::default();
    let size = walk(files, path, |content| match content {
        Content::Data(records) => {
            loader.load(&records);
        }
        Content::Control(records) => records.iter().for_each(|record| control.replay(record)),
    })?;
    Ok(Restored {
        image: loader.image().clone(),
        control,
        size,
    })
}

/// The records of a snapshot, without the control records.
pub(crate) fn records<F: Files>(
    files: &F,
    path: &Path,
) -> Result<Vec<MetadataRecord>, CheckpointError> {
    let mut all = Vec::new();
    walk(files, path, |content| {
        if let Content::Data(records) = content {
            all.extend(records);
        }
    })?;
    Ok(all)
}

fn walk<F: Files>(
    files: &F,
    path: &Path,
    mut visit: impl FnMut(Content),
) -> Result<u64, CheckpointError> {
    let file = files.open(path, Open::Read)?;
    let mut reader = BatchReader::new(&file)?;
    let mut footer = false;
    loop {
        let position = reader.position();
        let content = match reader.next()? {
            Next::End => break,
            Next::Bad(source) => {
                return Err(CheckpointError::Damaged {
                    path: path.to_path_buf(),
                    position,
                    source,
                });
            }
            Next::Batch(batch) => {
                batches::decode(&batch).map_err(|source| CheckpointError::Record {
                    path: path.to_path_buf(),
                    source,
                })?
            }
        };
        if let Content::Control(records) = &content {
            footer |= records
                .iter()
                .any(|record| matches!(record, ControlRecord::SnapshotFooter(_)));
        }
        visit(content);
    }
    if !footer {
        return Err(CheckpointError::NoFooter {
            path: path.to_path_buf(),
        });
    }
    Ok(reader.length())
}

/// The content of a snapshot.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) epoch: LeaderEpoch,
    /// The time of the last batch of the log that the snapshot covers.
    pub(crate) last_contained: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) control: Vec<ControlRecord>,
    pub(crate) version: MetadataVersion,
    pub(crate) records: &'a [MetadataRecord],
}

/// Writes a snapshot durably. It gets the name `path` when it is complete. Returns its size in bytes.
pub(crate) fn write<F: Files>(
    files: &F,
    path: &Path,
    contents: &Contents<'_>,
) -> Result<u64, WriteError> {
    let mut unfinished = path.as_os_str().to_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let mut writer = Writer {
        file: files.open(&unfinished, Open::Replace)?,
        position: 0,
        offset: Offset(0),
    };
    writer.write_all(contents)?;
    writer.file.sync_data()?;
    files.rename(&unfinished, path)?;
    files.sync_directory(path.parent().unwrap_or(Path::new(".")))?;
    Ok(writer.position)
}

/// Why a snapshot cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image holds something that its `metadata.version` cannot express.
    #[error("the image does not fit its metadata.version: {0}")]
    Record(#[from] RecordError),
}

struct Writer<F> {
    file: F,
    position: u64,
    offset: Offset,
}

impl<F: File> Writer<F> {
    fn write_all(&mut self, contents: &Contents<'_>) -> Result<(), WriteError> {
        let header = SnapshotHeaderRecordData::default()
            .with_last_contained_log_timestamp(contents.last_contained.0);
        let mut head = vec![ControlRecord::SnapshotHeader(header)];
        head.extend(contents.control.iter().cloned());
        self.control(contents, &head)?;
        let mut batch = DataBatch::new(self.place(contents));
        for record in contents.records {
            batch.append(record, contents.version)?;
            if batch.size() >= BATCH_BYTES {
                self.data(batch)?;
                batch = DataBatch::new(self.place(contents));
            }
        }
        self.data(batch)?;
        let footer = ControlRecord::SnapshotFooter(SnapshotFooterRecordData::default());
        self.control(contents, &[footer])?;
        Ok(())
    }

    fn place(&self, contents: &Contents<'_>) -> Place {
        Place {
            offset: self.offset,
            epoch: contents.epoch,
            timestamp: contents.now,
        }
    }

    fn control(
        &mut self,
        contents: &Contents<'_>,
        records: &[ControlRecord],
    ) -> Result<(), FileError> {
        let batch = batches::control_batch(self.place(contents), records);
        self.append(&batch, records.len() as i64)
    }

    fn data(&mut self, batch: DataBatch) -> Result<(), FileError> {
        let count = i64::from(batch.record_count());
        match batch.build() {
            Some(bytes) => self.append(&bytes, count),
            None => Ok(()),
        }
    }

    fn append(&mut self, bytes: &[u8], records: i64) -> Result<(), FileError> {
        self.file.write_at(&[IoSlice::new(bytes)], self.position)?;
        self.position += bytes.len() as u64;
        self.offset = self.offset.plus(records);
        Ok(())
    }
}
