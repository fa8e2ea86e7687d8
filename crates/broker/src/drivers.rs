//! The threads of the process, and how the rest of it reaches them.
//!
//! The decisions of a thread are in pure code; here it is started, woken, stopped and joined. [`Drivers`] has the
//! threads that work on the partitions of this node. Opening and closing logs, retention and checkpoints block on the
//! disk, so they run on these threads and never on those of the runtime.

pub mod applier;
pub mod auto_join;
pub mod cleaner;
mod closing;
pub mod cold_reads;
pub mod controller;
pub mod coordinator;
pub mod dead_brokers;
pub mod disk_work;
pub mod due_elections;
pub mod fetchers;
mod flusher;
pub mod housekeeper;
pub mod monitor;
pub mod opening;
pub mod quorum_peers;
pub mod raft_quorum;
mod recovery_progress;
mod rest;
pub mod scrubber;
pub mod snapshot_fetch;
pub mod stopping;
pub mod syncs;
pub mod threads;
pub mod unreachable_brokers;
pub mod voter_concerns;
mod working;

use std::sync::{Arc, OnceLock};

use ottla_metadata::{Changes, MetadataImage};
use ottla_replica::cleaner::report::CompactionReport;
use ottla_replica::cleaner::settings::CleanerSettings;
use ottla_replica::housekeeping::Intervals;
use ottla_replica::scrub::{ScrubReport, ScrubSettings};
use ottla_replica::topic_settings::recovery_threads;

use self::applier::{Applier, log_failures};
use self::cleaner::Cleaner;
use self::housekeeper::Housekeeper;
use self::opening::{LogsError, StepError};
use self::scrubber::Scrubber;
use self::threads::Threads;
use crate::replicas::{Partition, Replicas};

/// The threads that work on the partitions of this node.
#[derive(Debug)]
pub struct Drivers {
    replicas: Arc<Replicas>,
    flushers: Threads,
    applier: Applier,
    housekeeper: Housekeeper,
    cleaner: Cleaner,
    scrubber: Scrubber,
    /// How many logs of a directory are opened, or closed, at a time; set when they are opened.
    recovery_threads: OnceLock<usize>,
}

impl Drivers {
    /// No thread runs before [`Drivers::load`].
    pub fn new(replicas: Arc<Replicas>) -> Arc<Self> {
        Arc::new(Self {
            replicas,
            flushers: Threads::default(),
            applier: Applier::default(),
            housekeeper: Housekeeper::default(),
            cleaner: Cleaner::default(),
            scrubber: Scrubber::default(),
            recovery_threads: OnceLock::new(),
        })
    }

    /// Opens the logs that the directories hold and the metadata knows, creates those that are missing, sets aside those
    /// that the metadata does not know, and starts the threads. Blocks on the disk.
    pub fn load(&self, image: &MetadataImage, intervals: Intervals) -> Result<(), LogsError> {
        let replicas = &self.replicas;
        flusher::start(&self.flushers, replicas).map_err(LogsError::Thread)?;
        self.applier.start(replicas).map_err(LogsError::Thread)?;
        let statics = replicas.node().statics();
        let threads = *self
            .recovery_threads
            .get_or_init(|| recovery_threads(image, statics));
        opening::open_existing(replicas, image, threads)?;
        let mut errors = self.apply(image, &replicas.node().everything_in(image));
        if let Some(first) = errors.pop() {
            log_failures(&errors);
            return Err(first.into());
        }
        self.housekeeper
            .start(replicas, intervals)
            .map_err(LogsError::Thread)?;
        self.configure(image);
        Ok(())
    }

    /// Applies changes of metadata to the partitions, and returns the errors. Blocks on the disks, except on stalled
    /// ones: see [`Replicas::follow_late_changes`].
    pub fn apply(&self, image: &MetadataImage, changes: &Changes) -> Vec<StepError> {
        let errors = self.applier.apply(&self.replicas, image, changes);
        if !changes.configs.is_empty() {
            self.configure(image);
        }
        errors
    }

    /// Logs which directories are stalled, and which answer again, and starts workers of the cleaner in the place of those
    /// that wait there.
    pub fn watch_directories(&self) {
        let now = self.replicas.now();
        for directory in self.replicas.directories() {
            working::log_stall(directory, now);
        }
        self.cleaner.replace_stalled(&self.replicas);
    }

    /// Flushes and closes every log, so that the next start reads nothing, and each directory by itself. Blocks on the
    /// disks.
    pub fn close(&self, broker_epoch: i64) -> Result<(), LogsError> {
        self.cleaner.stop();
        self.scrubber.stop();
        self.housekeeper.stop();
        let end_threads = |number: usize, directory_answers: &dyn Fn()| {
            self.applier.stop(number);
            directory_answers();
            self.housekeeper.join(number);
            directory_answers();
            self.replicas.directories()[number].flusher.stop();
            self.flushers.join(number);
            directory_answers();
        };
        let closing = closing::Closing {
            replicas: &self.replicas,
            end_threads: &end_threads,
            // Nothing to close where nothing was opened.
            threads: *self.recovery_threads.get_or_init(|| 1),
            broker_epoch,
        };
        let closed = closing.close_all();
        self.cleaner.join();
        self.scrubber.join();
        closed
    }

    /// The compaction of each partition for which `asks` is true. Partitions whose disk has failed are left out.
    pub fn compaction(&self, asks: impl Fn(&Partition) -> bool) -> Vec<CompactionReport> {
        let now = self.replicas.clock().now().wall;
        let mut reports: Vec<_> = self
            .replicas
            .all()
            .iter()
            .filter(|partition| asks(partition))
            .filter_map(|partition| self.cleaner.report(&self.replicas, partition, now)?.ok())
            .collect();
        reports.sort_by(|one, other| {
            (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
        });
        reports
    }

    /// What the scrub has done since the start.
    pub fn scrub(&self) -> ScrubReport {
        self.scrubber.report()
    }

    /// The settings of the scrub; nothing before the logs are open.
    pub fn scrub_settings(&self) -> Option<ScrubSettings> {
        self.scrubber.settings()
    }

    /// The settings of the cleaner; nothing before the logs are open.
    pub fn cleaner_settings(&self) -> Option<CleanerSettings> {
        self.cleaner.settings()
    }

    /// Records are served without the cleaner and the scrub too: a thread that cannot be started is logged.
    fn configure(&self, image: &MetadataImage) {
        let statics = self.replicas.node().statics();
        let settings = CleanerSettings::resolve(image, statics);
        if let Err(error) = self.cleaner.configure(&self.replicas, settings) {
            tracing::error!(%error, "cannot start a worker of the cleaner; it is tried again when a config changes");
        }
        let settings = ScrubSettings::resolve(image, statics);
        if let Err(error) = self.scrubber.configure(&self.replicas, settings) {
            tracing::error!(%error, "cannot start the scrub; it is tried again when its configs change");
        }
    }
}
