//! `DescribeLogDirs` (key 35), versions 1 to 5.
//!
//! - 3: an error for the whole answer. 4: size and free space of each volume. 5: cordoned directories, of which
//!   there are none yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_protocol::messages::{
    DescribeLogDirsRequestData, DescribeLogDirsResponseData, ErrorCode, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::replicas::Directory;

/// The size is not known.
const UNKNOWN: i64 = -1;

/// The partitions in one directory: by topic, index and size.
type Sizes = BTreeMap<String, BTreeMap<i32, i64>>;

/// Lists the replicas in each log directory.
pub fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeLogDirsRequestData,
) -> DescribeLogDirsResponseData {
    let wanted: Option<BTreeSet<(String, i32)>> = request.topics.map(|topics| {
        let pairs = topics.into_iter().flat_map(|topic| {
            let name = topic.topic.as_str().to_owned();
            let indexes = topic.partitions.into_iter();
            indexes.map(move |index| (name.clone(), index))
        });
        pairs.collect()
    });
    let mut by_directory = sizes(broker, wanted.as_ref());
    let directories = broker.replicas.directories().iter();
    let results = directories.map(|directory| {
        let path = directory.log.path();
        describe(directory, by_directory.remove(path).unwrap_or_default())
    });
    let offline = broker.config.storage.offline_log_dirs.iter();
    let results = results.chain(offline.map(|path| failed(path)));
    DescribeLogDirsResponseData::default().with_results(results.collect())
}

fn sizes(broker: &Broker, wanted: Option<&BTreeSet<(String, i32)>>) -> BTreeMap<PathBuf, Sizes> {
    let mut by_directory: BTreeMap<PathBuf, Sizes> = BTreeMap::new();
    for partition in broker.replicas.all() {
        let key = (partition.topic.to_string(), partition.index.0);
        if wanted.is_some_and(|wanted| !wanted.contains(&key)) {
            continue;
        }
        if let Some(size) = partition.with_log(|log| log.size()) {
            let path = partition.directory().log.path().to_path_buf();
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let topics = by_directory.entry(path).or_default();
            topics.entry(key.0).or_default().insert(key.1, size);
        }
    }
    by_directory
}

fn describe(directory: &Directory, sizes: Sizes) -> DescribeLogDirsResult {
    let path = directory.log.path();
    if directory.log.failure().is_some() {
        return failed(path);
    }
    let (total, usable) = volume(path).unwrap_or((UNKNOWN, UNKNOWN));
    let topics = sizes.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, size)| {
            DescribeLogDirsPartition::default()
                .with_partition_index(index)
                .with_partition_size(size)
        });
        DescribeLogDirsTopic::default()
            .with_name(name.into())
            .with_partitions(partitions.collect())
    });
    DescribeLogDirsResult::default()
        .with_log_dir(shown(path))
        .with_topics(topics.collect())
        .with_total_bytes(total)
        .with_usable_bytes(usable)
}

/// A directory that cannot be used.
fn failed(path: &Path) -> DescribeLogDirsResult {
    DescribeLogDirsResult::default()
        .with_log_dir(shown(path))
        .with_error_code(ErrorCode::KafkaStorageError.code())
        .with_total_bytes(UNKNOWN)
        .with_usable_bytes(UNKNOWN)
}

/// The path of a log directory as clients see it: absolute, as Kafka's.
pub fn shown(path: &Path) -> KafkaString {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    absolute.display().to_string().into()
}

/// Total and free bytes of the volume of a path.
fn volume(path: &Path) -> Option<(i64, i64)> {
    let space = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(space.f_frsize)).ok();
    Some((bytes(space.f_blocks)?, bytes(space.f_bavail)?))
}
