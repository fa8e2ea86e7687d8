//! Fetches a snapshot of the metadata from the leader of the quorum, as Kafka's followers do, into the directory of the log.
//!
//! One at a time, on a thread of its own. If it fails, the leader announces the snapshot again.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_log::files::disk::Disk;
use ottla_log::files::{File, FileError, Files, Open};
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::messages::ErrorCode;
use ottla_quorum::SnapshotId;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::threads::Thread;
use crate::cluster::observe::{Identity, fetch_snapshot};
use crate::cluster::quorum_inbox::Arrived;

/// How long the leader may take for one piece.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a snapshot was not fetched.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the leader answered with the error code {0}")]
    Refused(i16),
    #[error("the leader's pieces do not make the snapshot that it announced")]
    Pieces,
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::Error),
}

/// The fetches of one controller.
#[derive(Debug)]
pub struct SnapshotFetch {
    identity: Identity,
    /// The directory of the metadata log.
    directory: PathBuf,
    runs: Arc<AtomicBool>,
}

/// A snapshot that a leader has announced.
#[derive(Debug)]
pub struct Announced {
    /// The address of the leader.
    pub address: String,
    pub epoch: LeaderEpoch,
    pub id: SnapshotId,
    /// In bytes.
    pub size: u64,
}

/// One fetch.
struct Job {
    identity: Identity,
    path: PathBuf,
    of: Announced,
}

impl SnapshotFetch {
    pub fn new(identity: Identity, directory: PathBuf) -> Self {
        Self {
            identity,
            directory,
            runs: Arc::default(),
        }
    }

    /// Fetches a snapshot, unless a fetch runs already. `done` is told when it is in its place.
    pub fn start(&self, announced: Announced, done: &mpsc::Sender<Arrived>) {
        if self.runs.swap(true, Ordering::AcqRel) {
            return;
        }
        let job = Job {
            identity: self.identity.clone(),
            path: self.directory.join(announced.id.file_name()),
            of: announced,
        };
        let (done, runs) = (done.clone(), Arc::clone(&self.runs));
        let run = move || {
            let fetched = job.run();
            runs.store(false, Ordering::Release);
            match fetched {
                // Without a receiver the controller has ended.
                Ok(()) => _ = done.blocking_send(Arrived::SnapshotFetched(job.of.id)),
                Err(error) => {
                    tracing::warn!(snapshot = %job.of.id.file_name(), %error, "cannot fetch a snapshot from the leader; it is tried again");
                }
            }
        };
        if let Err(error) = Thread::start("metadata-snapshot-fetch", run) {
            self.runs.store(false, Ordering::Release);
            tracing::warn!(%error, "cannot start a thread to fetch a snapshot");
        }
    }
}

impl Job {
    fn run(&self) -> Result<(), NotFetched> {
        let part = self.path.with_extension("checkpoint.part");
        let runtime = Builder::new_current_thread().enable_all().build();
        let fetched = runtime
            .map_err(NotFetched::Runtime)?
            .block_on(self.fetch(&part));
        if fetched.is_err() {
            // A start removes it as well.
            let _ = Disk.remove(&part);
        }
        fetched?;
        Disk.rename(&part, &self.path)?;
        let directory = self.path.parent().expect("it is in a directory");
        Disk.sync_directory(directory)?;
        Ok(())
    }

    async fn fetch(&self, part: &std::path::Path) -> Result<(), NotFetched> {
        let options = Options {
            client_id: format!("ottla-controller-{}", self.identity.node),
            connect_timeout: TIMEOUT,
            request_timeout: TIMEOUT,
            ..Options::default()
        };
        let connection = Connection::open(&self.of.address, &options).await?;
        let file = Disk.open(part, Open::Replace)?;
        let mut position = 0;
        while position < self.of.size {
            let request = fetch_snapshot(&self.identity, self.of.id, position, self.of.epoch);
            let answer = connection.call(&request).await?;
            let mut topics = answer.topics.into_iter();
            let piece = topics
                .next()
                .and_then(|topic| topic.partitions.into_iter().next());
            let piece = piece.ok_or(NotFetched::Refused(answer.error_code))?;
            if piece.error_code != ErrorCode::None.code() {
                return Err(NotFetched::Refused(piece.error_code));
            }
            let bytes = &piece.unaligned_records;
            let is_next = u64::try_from(piece.position) == Ok(position)
                && u64::try_from(piece.size) == Ok(self.of.size);
            if !is_next || bytes.is_empty() || position + bytes.len() as u64 > self.of.size {
                return Err(NotFetched::Pieces);
            }
            file.write_at(&[IoSlice::new(bytes)], position)?;
            position += bytes.len() as u64;
        }
        file.sync_data()?;
        Ok(())
    }
}
