//! The start and the orderly end of a process, in the order of the broker's `start`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::request::{RegisterBroker, UnfenceBroker};
use ottla_controller::{Active, Settings, bootstrap};
use ottla_log::OpenFiles;
use ottla_log::files::simulated::Simulated;
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{BrokerRegistration, FeatureRange, MetadataImage, MetadataVersion, versions};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_quorum::{
    FirstBatch, Format, Location, METADATA_DIRECTORY, MetadataLog, SnapshotSchedule, Voter,
    VoterEndpoint, activate, read_bootstrap,
};
use ottla_replica::InOrder;

use super::controller::{Caller, CommittedLog, ControllerDriver};
use super::coordinators::Coordinators;
use super::directories::DirectoryDriver;
use super::follower::Follower;
use super::handlers::Waiting;
use super::housekeeping::Housekeeping;
use super::{Directory, Failed, Mailbox, Process, log_directory};
use crate::outside::Outside;

const CLUSTER: &str = "AAECAwQFBgcICQoLDA0ODw";
/// The log directories; the first has the metadata log.
const DIRECTORIES: [&str; 2] = ["/one", "/two"];
/// What clients' records may not use.
const RESERVE: u64 = 48 << 10;
const OPEN_FILES: usize = 12;
/// `ottla.flush.max.delay.ms`.
const FLUSH_DELAY: Duration = Duration::from_millis(200);

/// Why a process did not start.
#[derive(Debug)]
pub struct StartFailed(pub String);

fn failed(error: impl std::fmt::Display) -> StartFailed {
    StartFailed(error.to_string())
}

fn directory_ids() -> [(&'static Path, Uuid); 2] {
    let ids = [Uuid::from_parts(5, 1), Uuid::from_parts(5, 2)];
    let mut numbered = DIRECTORIES.iter().zip(ids);
    std::array::from_fn(|_| {
        let (path, id) = numbered.next().expect("two directories have two ids");
        (Path::new(path), id)
    })
}

fn voter(node: NodeId) -> Voter {
    let [(_, id), _] = directory_ids();
    Voter {
        node_id: node,
        directory_id: id,
        endpoints: vec![VoterEndpoint {
            listener: "CONTROLLER".to_owned(),
            host: "localhost".to_owned(),
            port: 9093,
        }],
    }
}

/// Makes the log directories of a new machine.
pub fn format(disk: &Simulated, node: NodeId, outside: &Outside) {
    let version = MetadataVersion::OF_NEW_CLUSTERS;
    let [(metadata, _), _] = directory_ids();
    let formatted = ottla_quorum::format(
        disk,
        &Format {
            cluster_id: CLUSTER,
            node_id: node,
            directories: &directory_ids(),
            metadata_directory: metadata,
            voter: Some(&voter(node)),
            bootstrap: &bootstrap::checkpoint(version),
            version,
            now: outside.now().wall,
        },
    );
    formatted.expect("a new disk takes what formatting writes");
}

/// Small, so that a world sees snapshots, and proposals of more than one batch.
fn metadata_settings() -> ottla_quorum::Settings {
    ottla_quorum::Settings {
        segment_bytes: 64 << 10,
        snapshot_bytes: 24 << 10,
        batch_bytes: 2 << 10,
        ..ottla_quorum::Settings::default()
    }
}

fn statics(node: NodeId) -> StaticConfigs {
    let values = [("log.segment.delete.delay.ms", "3000")];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    StaticConfigs {
        node,
        values: values.into(),
    }
}

impl Process {
    /// Starts a process on a disk. When this returns the node has its logs open, and joins its cluster.
    pub fn start(
        id: NodeId,
        number: u64,
        disk: &Simulated,
        outside: &mut Outside,
    ) -> Result<Self, StartFailed> {
        let (log, image) = open_metadata(id, disk, outside)?;
        let mailbox = Mailbox::default();
        let open_files = Arc::new(OpenFiles::new(OPEN_FILES));
        let directories: Vec<Arc<Directory>> = directory_ids()
            .iter()
            .enumerate()
            .map(|(number, (path, id))| {
                let log = log_directory(disk, path, &open_files);
                let flusher = (mailbox.clone(), number);
                let directory = Directory::new(log, Some(RESERVE), FLUSH_DELAY, flusher);
                directory.id.get_or_init(|| *id);
                directory.reserve.look();
                directory
            })
            .collect();
        let settings = Settings {
            statics: statics(id),
            ..Settings::default()
        };
        let drivers = directories.iter().map(Arc::clone).map(DirectoryDriver::new);
        let mut process = Self {
            id,
            number,
            directories: drivers.collect(),
            replicas: ottla_replica::Node::new(statics(id), directories),
            controller: ControllerDriver::new(Active::new(image.clone(), settings), log),
            image,
            epoch: -1,
            has_failed: false,
            disk: disk.clone(),
            follower: Follower::default(),
            coordinators: Coordinators::default(),
            waiting: Waiting::default(),
            housekeeping: Housekeeping::default(),
            mailbox,
        };
        process.open_logs(outside).map_err(failed)?;
        process.register(outside);
        Ok(process)
    }

    /// Opens the partitions that the metadata knows, and makes what is missing.
    fn open_logs(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let now = outside.now();
        let existing = self.replicas.find_logs(&self.image, now.monotonic)?;
        let mut opened = Vec::new();
        for existing in existing.into_iter().flatten() {
            opened.push(existing.open(now.wall, &mut |_| {})?);
        }
        self.replicas.hold(opened)?;
        let everything = self.replicas.everything_in(&self.image);
        for job in self.replicas.plan(&self.image, &everything, now.monotonic) {
            let errors = self.replicas.perform(&job, &InOrder, now);
            if let Some(error) = errors.into_iter().next() {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn register(&mut self, outside: &mut Outside) {
        let claimed = self
            .image
            .features
            .iter()
            .map(|(name, level)| FeatureRange {
                name: name.clone(),
                minimum: 0,
                maximum: *level,
            });
        let features = claimed.filter(|range| range.name != versions::FEATURE);
        let level = FeatureRange {
            name: versions::FEATURE.to_owned(),
            minimum: MetadataVersion::MINIMUM.0,
            maximum: MetadataVersion::OFFERED.0,
        };
        let broker = BrokerRegistration {
            id: self.id,
            epoch: -1,
            incarnation: Uuid::from_parts(6, self.number),
            features: features.chain([level]).collect(),
            fenced: true,
            directories: directory_ids().iter().map(|(_, id)| *id).collect(),
            ..BrokerRegistration::default()
        };
        self.ask(Caller::Registration, RegisterBroker(broker).into(), outside);
    }

    pub(super) fn on_registered(&mut self, epoch: i64, outside: &mut Outside) {
        self.epoch = epoch;
        let unfence = UnfenceBroker {
            broker: self.id,
            epoch,
        };
        self.ask(Caller::Unfencing, unfence.into(), outside);
    }

    /// The node is part of its cluster: clients are served.
    pub(super) fn on_unfenced(&mut self, outside: &mut Outside) {
        outside.note("serves as", [self.number.cast_signed(), self.epoch, 0]);
        outside.serving.insert(self.id);
        self.reconcile(outside);
        self.start_housekeeping(outside);
    }

    /// Ends in an orderly way: what is appended is flushed, and each directory that closes whole is marked.
    pub fn stop(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        self.stop_cleaning();
        let mut outcome = Ok(());
        for number in 0..self.directories.len() {
            let closed = self.flush_all(number).and_then(|()| self.close(number));
            outcome = outcome.and(closed);
        }
        self.hear(outside);
        outcome
    }

    fn close(&mut self, number: usize) -> Result<(), Failed> {
        let directory = &self.directories[number].directory;
        let closed = self
            .replicas
            .close_directory(directory, &InOrder, self.epoch);
        Ok(closed?)
    }
}

/// Opens the metadata log, leads it, and writes what its first leader has to.
fn open_metadata(
    node: NodeId,
    disk: &Simulated,
    outside: &Outside,
) -> Result<(CommittedLog, MetadataImage), StartFailed> {
    let now = outside.now().wall;
    let [(directory, _), _] = directory_ids();
    let path: PathBuf = directory.join(METADATA_DIRECTORY);
    let location = Location {
        directory: &path,
        cluster_id: CLUSTER,
    };
    let inspected = MetadataLog::inspect(disk.clone(), location, voter(node)).map_err(failed)?;
    let first = if inspected.image().features.contains_key(versions::FEATURE) {
        None
    } else {
        Some(first_batch(disk, directory, node)?)
    };
    let opened = inspected.lead(metadata_settings(), now).map_err(failed)?;
    let (mut log, mut loader) = (opened.log, opened.loader);
    activate(&mut log, &mut loader, first, now).map_err(failed)?;
    let log = CommittedLog {
        log,
        snapshots: SnapshotSchedule::new(Some(Duration::from_mins(1)), now),
        writing: None,
        now,
    };
    Ok((log, loader.image().clone()))
}

/// What formatting has left for the first leader.
fn first_batch(
    disk: &Simulated,
    directory: &Path,
    node: NodeId,
) -> Result<FirstBatch, StartFailed> {
    let records = read_bootstrap(disk, directory).map_err(failed)?;
    let mut records: Vec<MetadataRecord> = records.unwrap_or_default();
    let mut loader = ottla_metadata::Loader::new(MetadataImage::default());
    loader.load(&records);
    records.extend(bootstrap::min_insync_replicas(
        loader.image(),
        &statics(node),
    ));
    let version = loader.image().metadata_version();
    Ok(FirstBatch {
        records: bootstrap::activation(records, version),
        version,
    })
}
