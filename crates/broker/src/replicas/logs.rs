//! Logs on disk: opened at a start, made and deleted as topics come and go.
//!
//! A directory of a partition that the metadata does not know is set aside (`-stray`), never destroyed: it may be
//! another cluster's. A deleted partition's directory is renamed (`-delete`) at once and removed later.

mod left;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_log::checkpoint;
use ottla_log::files::disk::Disk;
use ottla_log::files::{FileError, Files};
use ottla_log::{Left, OpenError, OpenLog, PartitionLog, Recovery, StorageError, sync_recovered};
use ottla_metadata::Topic;
use ottla_protocol::ids::{PartitionIndex, Uuid};

use self::left::LeftOf;
use super::Replicas;
use super::directories::{Directory, Working, distinct};
use super::partition::{Partition, PartitionId, Role};
use super::recovery_progress::RecoveryProgress;
use super::settings::{self, TopicSettings};
use crate::clock::Clock;

/// The directory of the metadata log, which is not a partition like the others.
const METADATA_LOG: &str = "__cluster_metadata-0";
/// The end of the name of a directory that waits to be removed.
pub(super) const DELETE_SUFFIX: &str = "-delete";
/// The end of the name of a directory that is set aside.
const STRAY_SUFFIX: &str = "-stray";
/// Logs made at a time: what takes long is waiting for the disk.
const MAKING_THREADS: usize = 8;
/// The longest name of a directory.
const MAX_NAME: usize = 255;

/// Why the logs of this node cannot be opened, changed or closed.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A log cannot be opened.
    #[error("cannot open the log of {name}: {source}")]
    Open {
        /// The partition's directory.
        name: String,
        /// Why.
        source: OpenError,
    },
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The disk cannot.
    #[error(transparent)]
    File(#[from] FileError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Two logs say that they are the same partition's.
    #[error(
        "{name} lies in {} and in {}, both with its topic's id: see by `ottla log verify` which is to be served, and \
         move the other away",
        one.display(),
        other.display()
    )]
    Twice {
        /// The partition's directory.
        name: String,
        /// A log directory that has it.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// An invariant is broken.
    #[error("what was done in a log directory panicked")]
    Panicked,
}

/// A log that is on disk and known to the metadata.
struct Existing<'a> {
    directory: &'a Arc<Directory>,
    name: String,
    /// Whether it says whose it is, which is written last when it is made.
    has_id: bool,
    topic: (Arc<str>, Uuid, PartitionIndex),
    settings: Arc<TopicSettings>,
    left: Left,
}

impl Existing<'_> {
    fn id(&self) -> PartitionId {
        (self.topic.1, self.topic.2)
    }
}

type Wanted<'a> = [(&'a Topic, PartitionIndex, Role)];

/// The partitions of a start.
pub(super) struct Loaded {
    pub(super) partitions: Vec<Arc<Partition>>,
    /// The directories with a log that ends before its recovery point.
    pub(super) with_shorter: Vec<Arc<Directory>>,
}

/// Opens all logs that are on disk and `wanted`; the rest is set aside.
pub(super) fn open_existing(
    replicas: &Replicas,
    wanted: &Wanted<'_>,
    image: &ottla_metadata::MetadataImage,
) -> Result<Loaded, LogsError> {
    let by_name: HashMap<String, (&Topic, PartitionIndex)> = wanted
        .iter()
        .map(|(topic, index, _)| (directory_name(&topic.name, *index), (*topic, *index)))
        .collect();
    let default = replicas.resolve(image, "");
    let mut by_topic = HashMap::new();
    let mut queues = Vec::new();
    for directory in replicas.directories.all() {
        let mut existing = Vec::new();
        let files = directory.log.files();
        let path = directory.log.path();
        let left = LeftOf::read(directory)?;
        for entry in files.list(path)? {
            if entry.is_directory && is_deleted_partition(&entry.name) {
                // The stop came before its time.
                let at = replicas.clock.monotonic().after(default.delete_delay);
                replicas.housekeeping.remove_at(at, path.join(&entry.name));
            }
            if !entry.is_directory || !is_partition(&entry.name) {
                continue;
            }
            let id = topic_id_of(directory, &entry.name)?;
            match by_name.get(&entry.name) {
                Some((topic, index)) if id.is_none_or(|id| id == topic.id) => {
                    let resolved = by_topic
                        .entry(topic.id)
                        .or_insert_with(|| replicas.resolve(image, &topic.name));
                    existing.push(Existing {
                        directory,
                        left: left.of(&topic.name, *index),
                        name: entry.name,
                        has_id: id.is_some(),
                        topic: (Arc::from(topic.name.as_str()), topic.id, *index),
                        settings: Arc::clone(resolved),
                    });
                }
                _ => set_aside(directory, &entry.name)?,
            }
        }
        queues.push(existing);
    }
    keep_one_of_each(&mut queues)?;
    for directory in replicas.directories.all() {
        checkpoint::remove_clean_shutdown(directory.log.files(), directory.log.path())?;
    }
    let logs = queues.iter().map(Vec::len).sum();
    let progress = RecoveryProgress::new(logs, replicas.clock.monotonic());
    let threads = replicas
        .directories
        .recovery_threads(|| settings::recovery_threads(image, &replicas.statics));
    let opened = in_parallel(queues, threads, |existing| {
        let mut of_log = progress.begin_log();
        let clock = &replicas.clock;
        let opened = open_unsynced(replicas, existing, &mut |read| {
            of_log.on_read(read, clock.monotonic());
        })?;
        of_log.on_opened(clock.monotonic());
        Ok(opened)
    })?;
    let shorter = opened
        .iter()
        .filter(|(opened, log)| is_shorter(opened, log));
    let with_shorter = distinct(shorter.map(|(opened, _)| opened.existing.directory));
    let (partitions, outcome) = sync_and_hold(opened, replicas.clock);
    outcome.map(|()| Loaded {
        partitions,
        with_shorter,
    })
}

/// Lets each partition have one log: what a crash left behind while it was made in another directory holds no record, and
/// does not say yet whose it is. It is set aside.
fn keep_one_of_each(queues: &mut [Vec<Existing<'_>>]) -> Result<(), LogsError> {
    let mut kept: HashMap<PartitionId, (Arc<Directory>, bool)> = HashMap::new();
    for existing in queues.iter().flatten() {
        let this = (Arc::clone(existing.directory), existing.has_id);
        match kept.get(&existing.id()) {
            Some((one, true)) if existing.has_id => {
                return Err(LogsError::Twice {
                    name: existing.name.clone(),
                    one: one.log.path().to_path_buf(),
                    other: existing.directory.log.path().to_path_buf(),
                });
            }
            Some(_) if !existing.has_id => {}
            _ => drop(kept.insert(existing.id(), this)),
        }
    }
    for queue in queues {
        let is_kept = |existing: &Existing<'_>| {
            let (directory, _) = &kept[&existing.id()];
            Arc::ptr_eq(directory, existing.directory)
        };
        let others: Vec<_> = queue
            .extract_if(.., |existing| !is_kept(existing))
            .collect();
        for other in others {
            set_aside(other.directory, &other.name)?;
        }
    }
    Ok(())
}

/// Whether a log ends before its recovery point, which is said: what was on stable storage is gone, or a truncation was
/// cut short.
fn is_shorter(opened: &Opened<'_>, log: &PartitionLog<Disk>) -> bool {
    let (end, was) = (log.log_end_offset(), opened.existing.left.recovery_point);
    if end < was {
        tracing::error!(
            partition = opened.existing.name,
            end = end.0,
            recovery_point = was.0,
            "a log ends before its recovery point: the records between are lost, and their offsets are given out again; \
             where that must not be, stop the broker and restore the partition from a copy"
        );
    }
    end < was
}

/// Makes logs durable, together with the others of their directory, and lets them be used. The first failure counts, and
/// holds up no other directory.
fn sync_and_hold(
    opened: Vec<(Opened<'_>, PartitionLog<Disk>)>,
    clock: Clock,
) -> (Vec<Arc<Partition>>, Result<(), LogsError>) {
    let mut by_directory: BTreeMap<&Path, (Vec<Opened<'_>>, Vec<PartitionLog<Disk>>)> =
        BTreeMap::new();
    for (opened, log) in opened {
        let path = opened.existing.directory.log.path();
        let (of_directory, logs) = by_directory.entry(path).or_default();
        of_directory.push(opened);
        logs.push(log);
    }
    let mut partitions = Vec::new();
    let mut outcome = Ok(());
    for (opened, mut logs) in by_directory.into_values() {
        if let Err(error) = sync_recovered(&mut logs) {
            outcome = outcome.and(Err(error.into()));
            continue;
        }
        let pairs = opened.into_iter().zip(logs);
        partitions.extend(pairs.map(|(opened, log)| opened.hold(log, clock)));
    }
    (partitions, outcome)
}

/// Does something to one partition, or one directory; a panic is its failure alone.
pub(super) fn guarded<R>(work: impl FnOnce() -> Result<R, LogsError>) -> Result<R, LogsError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(LogsError::Panicked))
}

/// Does something to many partitions that may wait for the disk, several at a time.
pub(super) fn at_once<T: Send, R: Send>(
    jobs: Vec<T>,
    work: impl Fn(T) -> Result<R, LogsError> + Sync,
) -> Result<Vec<R>, LogsError> {
    in_parallel(vec![jobs], MAKING_THREADS, work)
}

/// Does `work` on `threads` threads for each queue: the waits for the disk of many logs overlap, and their syncs share
/// commits of the file system. The first failure counts; what is under way then is still finished.
pub(super) fn in_parallel<T: Send, R: Send>(
    queues: Vec<Vec<T>>,
    threads: usize,
    work: impl Fn(T) -> Result<R, LogsError> + Sync,
) -> Result<Vec<R>, LogsError> {
    if queues.iter().map(Vec::len).sum::<usize>() <= 1 {
        return queues.into_iter().flatten().map(work).collect();
    }
    let run = |queue: &Mutex<std::vec::IntoIter<T>>| {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::iter::from_fn(next)
            .map(&work)
            .collect::<Result<Vec<R>, _>>()
    };
    let queues: Vec<_> = queues
        .into_iter()
        .map(|jobs| (jobs.len().min(threads), Mutex::new(jobs.into_iter())))
        .collect();
    std::thread::scope(|scope| {
        let run = &run;
        let places = queues
            .iter()
            .flat_map(|(threads, queue)| (0..*threads).map(move |_| queue));
        let workers: Vec<_> = places
            .map(|queue| scope.spawn(move || run(queue)))
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.join().expect("work on a log does not panic")?);
        }
        Ok(done)
    })
}

/// A log that is open, but not durable yet, and what opening has done to it.
struct Opened<'a> {
    existing: Existing<'a>,
    recovery: Recovery,
}

impl Opened<'_> {
    /// The partition over its log, which is durable now.
    fn hold(self, log: PartitionLog<Disk>, clock: Clock) -> Arc<Partition> {
        let Existing {
            directory,
            topic,
            settings,
            ..
        } = self.existing;
        let partition = Partition::new(topic, log, settings, (directory, clock));
        partition.say_opened(&self.recovery.damage, &directory.log);
        partition
    }
}

fn open_unsynced<'a>(
    replicas: &Replicas,
    existing: Existing<'a>,
    progress: &mut dyn FnMut(ottla_log::Progress),
) -> Result<(Opened<'a>, PartitionLog<Disk>), LogsError> {
    let name = &existing.name;
    let open = OpenLog {
        directory: Arc::clone(&existing.directory.log),
        name: name.clone(),
        config: existing.settings.log.clone(),
        topic_id: Some(existing.topic.1),
        left: existing.left,
    };
    let now = replicas.clock.now().wall;
    let (log, recovery) =
        PartitionLog::open_unsynced(open, now, progress).map_err(|source| LogsError::Open {
            name: name.clone(),
            source,
        })?;
    if let Some(cut_off) = &recovery.cut_off {
        tracing::warn!(
            partition = name,
            ?cut_off,
            "recovery cut off the end of a log"
        );
    }
    if !existing.left.is_clean {
        tracing::info!(
            partition = name,
            bytes_read = recovery.bytes_read,
            "recovered a log"
        );
    }
    if recovery.epochs_rebuilt {
        tracing::warn!(
            partition = name,
            "leader-epoch-checkpoint was missing or unreadable; the batches said the leader epochs"
        );
    }
    Ok((Opened { existing, recovery }, log))
}

/// A partition whose log is to be made.
pub(super) struct New<'a> {
    pub(super) topic: &'a Topic,
    pub(super) index: PartitionIndex,
    pub(super) directory: &'a Arc<Directory>,
    pub(super) settings: Arc<TopicSettings>,
}

/// Makes the logs of new partitions, durable all together. Those that could be made are returned, with why others could not.
pub(super) fn create(
    replicas: &Replicas,
    new: Vec<New<'_>>,
    work: &Working<'_>,
) -> (Vec<Arc<Partition>>, Vec<LogsError>) {
    let made = at_once(new, |new| {
        let made = guarded(|| create_unsynced(replicas, new));
        work.goes_on();
        Ok(made)
    });
    let mut errors = Vec::new();
    let mut opened = Vec::new();
    for made in made.unwrap_or_else(|error| vec![Err(error)]) {
        match made {
            Ok(made) => opened.push(made),
            Err(error) => errors.push(error),
        }
    }
    let (partitions, synced) = sync_and_hold(opened, replicas.clock);
    errors.extend(synced.err());
    (partitions, errors)
}

fn create_unsynced<'a>(
    replicas: &Replicas,
    new: New<'a>,
) -> Result<(Opened<'a>, PartitionLog<Disk>), LogsError> {
    let left = Left {
        is_clean: true,
        ..Left::default()
    };
    let (topic, directory) = (new.topic, new.directory);
    let existing = Existing {
        directory,
        name: directory_name(&topic.name, new.index),
        has_id: false,
        topic: (Arc::from(topic.name.as_str()), topic.id, new.index),
        settings: new.settings,
        left,
    };
    // What may still lie there under this name is of a topic that is gone.
    let id = topic_id_of(directory, &existing.name)?;
    if id.is_some_and(|id| id != topic.id) {
        set_aside(directory, &existing.name)?;
    }
    open_unsynced(replicas, existing, &mut |_| {})
}

/// Chooses log directories for new partitions: the one that the metadata names, else the one with the fewest of those that
/// answer.
pub(super) struct Chooser<'a> {
    directories: &'a [Arc<Directory>],
    counts: Vec<usize>,
    /// Those that answer; all, when none does.
    usable: Vec<usize>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(replicas: &'a Replicas) -> Self {
        let directories = replicas.directories.all();
        let now = replicas.clock.monotonic();
        let mut usable: Vec<usize> = (0..directories.len()).collect();
        usable.retain(|number| directories[*number].answers(now));
        if usable.is_empty() {
            usable = (0..directories.len()).collect();
        }
        let mut counts = vec![0; directories.len()];
        if directories.len() > 1 {
            for directory in replicas.directories_in_use() {
                counts[replicas.directories.number_of(&directory)] += 1;
            }
        }
        Self {
            directories,
            counts,
            usable,
        }
    }

    /// The place of the directory among all.
    pub(super) fn choose(&mut self, state: &ottla_metadata::Partition) -> usize {
        let named = self.directories.iter().position(|directory| {
            let id = directory.id.get();
            id.is_some_and(|id| state.directories.contains(id))
        });
        let place = named.unwrap_or_else(|| {
            let fewest = self.usable.iter().min_by_key(|place| self.counts[**place]);
            *fewest.expect("a broker has a log directory")
        });
        self.counts[place] += 1;
        place
    }
}

/// Renames the directory of a deleted partition; housekeeping removes it later.
pub(super) fn delete(replicas: &Replicas, partition: &Partition) -> Result<(), LogsError> {
    let Some(log) = partition.take_log() else {
        return Ok(());
    };
    let path = log.path().to_path_buf();
    let directory = Arc::clone(log.directory());
    log.retire();
    // A pass of the cleaner finds the log gone soon, and must not write into the directory of the next of its name.
    drop(
        partition
            .cleaning
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    directory.forget(&path);
    let name = directory_name(&partition.topic, partition.index);
    let renamed = aside_name(&name, partition.topic_id, DELETE_SUFFIX);
    let files = directory.files();
    files.rename(&path, &directory.path().join(&renamed))?;
    files.sync_directory(directory.path())?;
    let at = replicas
        .clock
        .monotonic()
        .after(partition.settings().delete_delay);
    replicas
        .housekeeping
        .remove_at(at, directory.path().join(renamed));
    Ok(())
}

fn directory_name(topic: &str, index: PartitionIndex) -> String {
    format!("{topic}-{index}")
}

/// A name that says what became of a partition's directory. The topic is cut where it would be too long, as Kafka does;
/// the partition stays, without which Kafka does not start.
fn aside_name(name: &str, id: Uuid, suffix: &str) -> String {
    let (topic, index) = name.rsplit_once('-').unwrap_or((name, "0"));
    let id = id.to_string().replace('-', "");
    let end = format!("-{index}.{id}{suffix}");
    let kept = topic.len().min(MAX_NAME - end.len());
    format!("{}{end}", topic.get(..kept).unwrap_or(topic))
}

/// Whether this is the name that the directory of a deleted partition has got.
fn is_deleted_partition(name: &str) -> bool {
    let parts = name
        .strip_suffix(DELETE_SUFFIX)
        .and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(partition, id)| is_partition(partition) && !id.is_empty())
}

fn is_partition(name: &str) -> bool {
    let is_numbered = name.rsplit_once('-').is_some_and(|(topic, index)| {
        !topic.is_empty() && !index.is_empty() && index.bytes().all(|digit| digit.is_ascii_digit())
    });
    is_numbered && name != METADATA_LOG
}

/// Whose the directory `name` says to be; nothing where there is none, or it was not made to its end.
fn topic_id_of(directory: &Directory, name: &str) -> Result<Option<Uuid>, FileError> {
    let path = directory.log.path().join(name);
    match checkpoint::read_topic_id(directory.log.files(), &path) {
        Err(error) if error.is_not_found() => Ok(None),
        found => found,
    }
}

fn set_aside(directory: &Directory, name: &str) -> Result<(), LogsError> {
    let (files, path) = (directory.log.files(), directory.log.path());
    let id = checkpoint::read_topic_id(files, &path.join(name))?.unwrap_or(Uuid::ZERO);
    let renamed = aside_name(name, id, STRAY_SUFFIX);
    tracing::warn!(
        partition = name,
        renamed,
        "set aside a log that the metadata does not know; remove it when nobody needs it"
    );
    files.rename(&path.join(name), &path.join(renamed))?;
    files.sync_directory(path)?;
    Ok(())
}

/// Removes a partition's directory with all that is in it.
pub(super) fn remove_directory(
    files: Disk,
    path: &Path,
    work: &Working<'_>,
) -> Result<(), FileError> {
    for entry in files.list(path)? {
        files.remove(&path.join(entry.name))?;
        // Of a large file this takes its time.
        work.goes_on();
    }
    files.remove_directory(path)
}

#[cfg(test)]
mod tests {
    use super::{DELETE_SUFFIX, MAX_NAME, aside_name, is_deleted_partition};
    use ottla_protocol::ids::Uuid;

    #[test]
    fn the_longest_topics_directory_keeps_its_partition_when_it_is_renamed() {
        let topic = "t".repeat(249);
        let renamed = aside_name(
            &format!("{topic}-12"),
            Uuid::from_parts(1, 2),
            DELETE_SUFFIX,
        );
        assert_eq!(renamed.len(), MAX_NAME);
        assert!(renamed.contains("t-12."), "{renamed}");
        assert!(is_deleted_partition(&renamed));
        assert!(!is_deleted_partition("notes-delete"));
        assert!(!is_deleted_partition("notes.txt-delete"));
    }
}
