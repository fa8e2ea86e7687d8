//! Fetches a snapshot of the metadata from the leader of the quorum, as Kafka's followers do, into the directory of the log.
//!
//! One at a time, on a thread of its own. If it fails, the leader announces the snapshot again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_client::{ClientError, Connection, Options};
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::messages::ErrorCode;
use ottla_quorum::{Arrived, BadPiece, SnapshotDownload, SnapshotId};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::threads::Thread;
use crate::cluster::observe::{Identity, fetch_snapshot};

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
    #[error(transparent)]
    Piece(#[from] BadPiece),
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
    directory: PathBuf,
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
            directory: self.directory.clone(),
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
        let Announced { id, size, .. } = self.of;
        let mut download = SnapshotDownload::begin(Disk, &self.directory, id, size)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let fetched = runtime
            .map_err(NotFetched::Runtime)?
            .block_on(self.fetch(&mut download));
        match fetched {
            Ok(()) => Ok(download.finish()?),
            Err(error) => {
                download.abandon();
                Err(error)
            }
        }
    }

    async fn fetch(&self, download: &mut SnapshotDownload<Disk>) -> Result<(), NotFetched> {
        let options = Options {
            client_id: format!("ottla-controller-{}", self.identity.node),
            connect_timeout: TIMEOUT,
            request_timeout: TIMEOUT,
            ..Options::default()
        };
        let connection = Connection::open(&self.of.address, &options).await?;
        while let Some(position) = download.wanted() {
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
            let (Ok(position), Ok(size)) =
                (u64::try_from(piece.position), u64::try_from(piece.size))
            else {
                return Err(BadPiece::Other.into());
            };
            download.on_piece(position, size, &piece.unaligned_records)?;
        }
        Ok(())
    }
}
