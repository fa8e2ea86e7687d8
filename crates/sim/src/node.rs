//! A node: its machine with the disk, and the process that runs on it until it is killed.
//!
//! The process drives the production code with events, in place of the broker's threads and tasks.
//! It decides nothing. Each file here replaces one driver of the broker.

mod controller;
mod coordinators;
mod directories;
mod follower;
mod handlers;
mod host;
mod housekeeping;
mod start;

use std::sync::Arc;
use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_log::{LogDirectory, StorageError};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::Now;
use ottla_replica::logs::LogsError;

use self::controller::ControllerDriver;
use self::coordinators::Coordinators;
use self::directories::DirectoryDriver;
use self::follower::Follower;
use self::handlers::Waiting;
use self::host::{Mail, Mailbox, Waiter};
use self::housekeeping::Housekeeping;
pub use self::start::format;
use crate::faults::Troubles;
use crate::outside::{Event, Outside};

pub type Partition = ottla_replica::Partition<Simulated, host::SimulatedHost>;
type Directory = ottla_replica::Directory<Simulated, host::SimulatedHost>;
pub type Found = ottla_replica::node::Found<Simulated, host::SimulatedHost>;

/// What a process has to do at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvent {
    /// A pass of group commit may be due in the directory of this number.
    BeginPass(usize),
    SyncPass(usize),
    EndPass(usize),
    /// Requests wait for the controller.
    Controller,
    /// A snapshot of the metadata is to be written.
    WriteSnapshot,
    /// Something committed is to be taken over.
    Follow,
    /// A directory has a job.
    Apply(usize),
    /// The follower looks whether a directory that it waits for is stalled.
    LookAtStalls,
    Housekeeping(usize),
    ExpireOffsets,
    Cleaner,
    /// A coordinator has a deadline.
    Tick(i32),
    /// A coordinator's partition is to be read.
    Load(i32),
    /// A fetch has waited for long enough.
    FetchWaited(u64),
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub id: NodeId,
    /// Which of the processes of all nodes it is.
    pub number: u64,
    pub replicas: ottla_replica::Node<Simulated, host::SimulatedHost>,
    /// The metadata as it is published.
    pub image: MetadataImage,
    /// The epoch of its registration.
    epoch: i64,
    /// Whether it cannot go on: its operator starts it again.
    has_failed: bool,
    disk: Simulated,
    directories: Vec<DirectoryDriver>,
    controller: ControllerDriver,
    follower: Follower,
    pub coordinators: Coordinators,
    waiting: Waiting,
    housekeeping: Housekeeping,
    mailbox: Mailbox,
}

impl Process {
    pub fn on_event(&mut self, event: NodeEvent, outside: &mut Outside, troubles: Troubles) {
        let outcome = match event {
            NodeEvent::BeginPass(number) => {
                self.begin_pass(number, outside);
                Ok(())
            }
            NodeEvent::SyncPass(number) => {
                self.sync_pass(number, outside);
                Ok(())
            }
            NodeEvent::EndPass(number) => self.end_pass(number, outside),
            NodeEvent::Controller => self.run_controller(outside),
            NodeEvent::WriteSnapshot => self.write_snapshot(outside),
            NodeEvent::Follow => {
                self.follow(outside);
                Ok(())
            }
            NodeEvent::Apply(number) => self.apply(number, outside),
            NodeEvent::LookAtStalls => {
                self.look_at_stalls(outside);
                Ok(())
            }
            NodeEvent::Housekeeping(number) => self.keep_house(number, outside),
            NodeEvent::ExpireOffsets => {
                self.expire_offsets(outside);
                Ok(())
            }
            NodeEvent::Cleaner => self.clean(outside),
            NodeEvent::Tick(index) => {
                self.tick(index, outside);
                Ok(())
            }
            NodeEvent::Load(index) => self.load(index, outside),
            NodeEvent::FetchWaited(fetch) => {
                self.end_fetch(fetch, outside);
                Ok(())
            }
        };
        if let Err(failed) = outcome {
            self.failed(&failed, outside, troubles);
        }
        self.hear(outside);
    }

    /// A failure must have a cause; one that takes a directory offline ends the process soon.
    fn failed(&mut self, failed: &Failed, outside: &mut Outside, troubles: Troubles) {
        outside.note("failed", [failed.is_offline().into(), 0, 0]);
        let is_excused = troubles.is_any() || self.disk.is_power_off();
        assert!(is_excused, "a failure without a cause: {failed}");
        self.has_failed |= failed.is_offline();
    }

    /// Takes what those that waited are told.
    pub fn hear(&mut self, outside: &mut Outside) {
        loop {
            let mail = self.mailbox.take();
            if mail.is_empty() {
                return;
            }
            for mail in mail {
                match mail {
                    Mail::PassIsDue(number) => self.look_for_pass(number, outside),
                    Mail::Woken(fetch) => self.look_at_fetch(fetch, outside),
                    Mail::Answered(Waiter::Producer(to, offset), outcome) => {
                        handlers::acknowledge(to, offset, outcome, outside);
                    }
                    Mail::Answered(Waiter::Coordinator(append), outcome) => {
                        self.on_append_answered(append, outcome.is_ok(), outside);
                    }
                }
            }
        }
    }

    fn later(&self, delay: Duration, event: NodeEvent, outside: &mut Outside) {
        outside.after(delay, Event::Node(self.id, self.number, event));
    }

    /// Lets a directory not answer for a while.
    pub fn stall(&mut self, directory: usize, until: Duration) {
        let count = self.directories.len();
        self.directories[directory % count].stalled_until = until;
    }

    /// Whether a directory or the metadata log has failed.
    pub fn is_crippled(&self) -> bool {
        let mut directories = self.replicas.directories().iter();
        self.has_failed || directories.any(|directory| directory.log.failure().is_some())
    }
}

impl Drop for Process {
    /// A partition that waits for a flush and its directory hold each other; the process that held both is gone.
    fn drop(&mut self) {
        let jobs = self.directories.iter().flat_map(|driver| &driver.job);
        let deleted = jobs.flat_map(|job| job.deleted().iter().cloned());
        for partition in self.replicas.all().into_iter().chain(deleted) {
            drop(partition.take_log());
        }
    }
}

/// Why something could not be done.
#[derive(Debug)]
pub enum Failed {
    Storage(StorageError),
    /// A file beside the logs.
    File(ottla_log::files::FileError),
    Logs(LogsError),
    /// The metadata log.
    Metadata(String),
}

impl Failed {
    fn is_offline(&self) -> bool {
        match self {
            Self::Storage(error) | Self::Logs(LogsError::Storage(error)) => {
                matches!(error, StorageError::Offline { .. })
            }
            Self::Metadata(_) => true,
            Self::File(_) | Self::Logs(_) => false,
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Logs(error) => error.fmt(f),
            Self::Metadata(error) => error.fmt(f),
        }
    }
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<ottla_log::files::FileError> for Failed {
    fn from(error: ottla_log::files::FileError) -> Self {
        Self::File(error)
    }
}

impl From<LogsError> for Failed {
    fn from(error: LogsError) -> Self {
        Self::Logs(error)
    }
}

/// A log directory of a disk, without open files yet.
fn log_directory(
    disk: &Simulated,
    path: &std::path::Path,
    open_files: &Arc<ottla_log::OpenFiles<ottla_log::files::simulated::SimulatedFile>>,
) -> Arc<LogDirectory<Simulated>> {
    LogDirectory::sharing(disk.clone(), path, Arc::clone(open_files))
}

/// The time as a process sees it.
fn now(outside: &Outside) -> Now {
    outside.now()
}
