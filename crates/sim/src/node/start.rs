//! The start and the orderly end of a process, in the order of the broker's `start`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::brokers::Registration;
use ottla_controller::{Member, Settings, bootstrap};
use ottla_log::files::simulated::Simulated;
use ottla_log::{LogDirectory, OpenFiles};
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{
    BrokerRegistration, FeatureRange, Loader, MetadataImage, MetadataVersion, versions,
};
use ottla_protocol::ids::{NodeId, Uuid};
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Now;
use ottla_quorum::{
    ControllerLog, Format, Location, METADATA_DIRECTORY, RaftNode, SnapshotSchedule, Voter,
    VoterEndpoint, read_bootstrap,
};
use ottla_replica::InOrder;

use super::event::ProcessId;
use super::failed::Failed;
use super::host::{Caller, Directory, Mailbox, Replicas};
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

impl From<Failed> for StartFailed {
    fn from(error: Failed) -> Self {
        Self(error.to_string())
    }
}

pub fn failed(error: impl std::fmt::Display) -> StartFailed {
    StartFailed(error.to_string())
}

fn directory_ids(node: NodeId) -> [(&'static Path, Uuid); 2] {
    let ids = [1, 2].map(|number| Uuid::from_parts(4 + u64::from(node.0.unsigned_abs()), number));
    let mut numbered = DIRECTORIES.iter().zip(ids);
    std::array::from_fn(|_| {
        let (path, id) = numbered.next().expect("two directories have two ids");
        (Path::new(path), id)
    })
}

fn voter(node: NodeId) -> Voter {
    let [(_, id), _] = directory_ids(node);
    Voter {
        node_id: node,
        directory_id: id,
        endpoints: vec![VoterEndpoint {
            listener: "CONTROLLER".to_owned(),
            host: host(node),
            port: CONTROLLER_PORT,
        }],
    }
}

/// The port of the controllers' listener.
pub const CONTROLLER_PORT: u16 = 9093;

/// The name of a controller's machine.
pub fn host(node: NodeId) -> String {
    format!("controller-{node}")
}

/// Makes the log directories of a new machine.
pub fn format(disk: &Simulated, node: NodeId, outside: &Outside) {
    format_controller(disk, node, &[node], outside);
}

/// The same for one of several controllers.
pub fn format_controller(disk: &Simulated, node: NodeId, voters: &[NodeId], outside: &Outside) {
    let voters: Vec<Voter> = voters.iter().copied().map(voter).collect();
    format_as(disk, node, &voters, outside);
}

/// The same for a broker whose controller is another node.
pub fn format_broker(disk: &Simulated, node: NodeId, outside: &Outside) {
    format_as(disk, node, &[], outside);
}

fn format_as(disk: &Simulated, node: NodeId, voters: &[Voter], outside: &Outside) {
    let version = MetadataVersion::OF_NEW_CLUSTERS;
    let [(metadata, _), _] = directory_ids(node);
    let formatted = ottla_quorum::format(
        disk,
        &Format {
            cluster_id: CLUSTER,
            node_id: node,
            directories: &directory_ids(node),
            metadata_directory: metadata,
            voters,
            bootstrap: &bootstrap::checkpoint(version),
            version,
            now: outside.now().wall,
        },
    );
    formatted.expect("a new disk takes what formatting writes");
}

fn statics(node: NodeId) -> StaticConfigs {
    let values = [
        ("log.segment.delete.delay.ms", "3000"),
        ("replica.lag.time.max.ms", "3000"),
        // With one replica one is enough.
        ("min.insync.replicas", "2"),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    StaticConfigs {
        node,
        values: values.into(),
    }
}

/// The log directories of a process, without partitions yet.
pub fn directories(node: NodeId, disk: &Simulated, mailbox: &Mailbox) -> Vec<Arc<Directory>> {
    let open_files = Arc::new(OpenFiles::new(OPEN_FILES));
    let directories = directory_ids(node).into_iter().enumerate();
    let directories = directories.map(|(number, (path, id))| {
        let log = LogDirectory::sharing(disk.clone(), path, Arc::clone(&open_files));
        let flusher = (mailbox.clone(), number);
        let directory = Directory::new(log, Some(RESERVE), FLUSH_DELAY, flusher);
        directory.id.get_or_init(|| id);
        directory.reserve.look();
        directory
    });
    directories.collect()
}

/// A node without partitions yet.
pub fn new_replicas(node: NodeId, directories: Vec<Arc<Directory>>) -> Replicas {
    Replicas::new(statics(node), directories)
}

/// Takes over the partitions that the metadata knows: those on disk are opened, and what is missing is made.
pub fn open_replicas(replicas: &Replicas, image: &MetadataImage, now: Now) -> Result<(), Failed> {
    let existing = replicas.find_logs(image, now.monotonic)?;
    let mut opened = Vec::new();
    for existing in existing.into_iter().flatten() {
        opened.push(existing.open(now.wall, &mut |_| {})?);
    }
    replicas.hold(opened)?;
    let everything = replicas.everything_in(image);
    for job in replicas.plan(image, &everything, now.monotonic) {
        let errors = replicas.perform(&job, &InOrder, now);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
    }
    Ok(())
}

/// How a process registers its broker.
pub fn registration(
    process: ProcessId,
    previous_epoch: i64,
    image: &MetadataImage,
) -> Registration {
    let claimed = image.features.iter().map(|(name, level)| FeatureRange {
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
        id: process.node,
        epoch: -1,
        incarnation: Uuid::from_parts(6, process.number),
        features: features.chain([level]).collect(),
        fenced: true,
        directories: directory_ids(process.node)
            .iter()
            .map(|(_, id)| *id)
            .collect(),
        ..BrokerRegistration::default()
    };
    Registration {
        broker,
        previous_epoch,
        is_alive: false,
    }
}

/// Small, so that a world sees snapshots, and proposals of more than one batch. Followers need snapshots, and a start
/// applies entries again.
fn metadata_settings() -> ottla_quorum::Settings {
    ottla_quorum::Settings {
        segment_bytes: 8 << 10,
        snapshot_bytes: 6 << 10,
        batch_bytes: 2 << 10,
        kept_entry_bytes: 1 << 10,
        checkpoint_bytes: 2 << 10,
        ..ottla_quorum::Settings::default()
    }
}

/// Opens a controller, of which there may be several. It does not lead yet.
pub fn open_member(
    process: ProcessId,
    voters: &[NodeId],
    disk: &Simulated,
    outside: &Outside,
) -> Result<(Member<Caller>, ControllerLog<Simulated>), StartFailed> {
    let (node, now) = (process.node, outside.now().wall);
    let voters: Vec<Voter> = voters.iter().copied().map(voter).collect();
    let [(directory, _), _] = directory_ids(node);
    let path = metadata_directory(node);
    let location = Location {
        directory: &path,
        cluster_id: CLUSTER,
    };
    let member = ottla_quorum::Member {
        voter: voter(node),
        voters: &voters,
    };
    let opened = RaftNode::open(disk.clone(), location, member, metadata_settings());
    let (raft, loader) = opened.map_err(failed)?;
    let first = first_records(disk, directory, node)?;
    let settings = Settings {
        statics: statics(node),
        ..Settings::default()
    };
    let member = Member::new(loader, raft.end_offset(), settings);
    let snapshots = SnapshotSchedule::new(Some(Duration::from_secs(20)), now);
    Ok((member, ControllerLog::new(raft, first, snapshots, now)))
}

/// The directory of a controller's metadata log.
pub fn metadata_directory(node: NodeId) -> PathBuf {
    let [(directory, _), _] = directory_ids(node);
    directory.join(METADATA_DIRECTORY)
}

/// What formatting has left for the first leader.
fn first_records(
    disk: &Simulated,
    directory: &Path,
    node: NodeId,
) -> Result<Vec<MetadataRecord>, StartFailed> {
    let records = read_bootstrap(disk, directory).map_err(failed)?;
    let mut records: Vec<MetadataRecord> = records.unwrap_or_default();
    let mut loader = Loader::default();
    loader.load(&records);
    records.extend(bootstrap::min_insync_replicas(
        loader.image(),
        &statics(node),
    ));
    let version = loader.image().metadata_version();
    Ok(bootstrap::activation(records, version))
}
