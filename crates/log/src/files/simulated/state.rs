//! The state of a simulated disk. Each file and directory has its content as programs see it (`seen`), its content on
//! stable storage (`durable`), and the changes in between that were not synced yet (`pending`).

mod page_cache;

use self::page_cache::ColdPages;
use super::super::{Operation, Status};
use super::Random;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

const ROOT: u64 = 0;

#[derive(Debug, Clone)]
pub(super) struct State {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) space: Option<u64>,
    pub(super) handles: Option<usize>,
    pub(super) changes_until_cut: Option<u64>,
    /// The power went off in an earlier call. From here on no call does anything, not even in part.
    pub(super) power_is_off: bool,
    pub(super) changes: u64,
    pub(super) counts: BTreeMap<Operation, u64>,
    pub(super) open_handles: usize,
    pub(super) now_ms: i64,
    cold: ColdPages,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) operation: Operation,
    pub(super) remaining: u64,
    pub(super) kind: io::ErrorKind,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File {
        seen: Vec<u8>,
        durable: Vec<u8>,
        pending: Vec<FileChange>,
        modified_ms: i64,
        /// Whether a failed sync of the file system has lost changes, which the next sync of the file reports.
        has_unreported_error: bool,
    },
    Directory {
        seen: Names,
        durable: Names,
        pending: Vec<Vec<NameChange>>,
    },
}

type Names = BTreeMap<String, u64>;

#[derive(Debug, Clone)]
pub(super) enum FileChange {
    Write { position: u64, bytes: Vec<u8> },
    Truncate { length: u64 },
}

/// A name's new inode; `None` if the name is removed.
#[derive(Debug, Clone)]
pub(super) struct NameChange {
    name: String,
    inode: Option<u64>,
}

impl Node {
    pub(super) fn empty_file(now_ms: i64) -> Self {
        Self::File {
            seen: Vec::new(),
            durable: Vec::new(),
            pending: Vec::new(),
            modified_ms: now_ms,
            has_unreported_error: false,
        }
    }

    pub(super) fn empty_directory() -> Self {
        Self::Directory {
            seen: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::empty_directory())]),
            next: ROOT + 1,
            faults: Vec::new(),
            space: None,
            handles: None,
            changes_until_cut: None,
            power_is_off: false,
            changes: 0,
            counts: BTreeMap::new(),
            open_handles: 0,
            now_ms: 0,
            cold: ColdPages::new(),
        }
    }
}

impl State {
    /// Counts an operation; returns the error if it is to fail.
    pub(super) fn before(
        &mut self,
        operation: Operation,
        is_change: bool,
    ) -> Result<(), io::ErrorKind> {
        *self.counts.entry(operation).or_default() += 1;
        if let Some(left) = self.changes_until_cut {
            if left == 0 {
                self.power_is_off = true;
                return Err(io::ErrorKind::BrokenPipe);
            }
            self.changes_until_cut = Some(left - u64::from(is_change));
        }
        self.changes += u64::from(is_change);
        let mut failure = Ok(());
        for fault in self
            .faults
            .iter_mut()
            .filter(|fault| fault.operation == operation)
        {
            fault.remaining -= 1;
            if fault.remaining == 0 {
                failure = Err(fault.kind);
            }
        }
        self.faults.retain(|fault| fault.remaining > 0);
        failure
    }

    pub(super) fn has_free_handle(&self) -> bool {
        self.handles.is_none_or(|limit| self.open_handles < limit)
    }

    pub(super) fn find(&self, path: &Path) -> Result<u64, io::ErrorKind> {
        parts(path).try_fold(ROOT, |inode, name| match self.nodes.get(&inode) {
            Some(Node::Directory { seen, .. }) => {
                seen.get(name).copied().ok_or(io::ErrorKind::NotFound)
            }
            _ => Err(io::ErrorKind::NotFound),
        })
    }

    pub(super) fn is_directory(&self, inode: u64) -> bool {
        matches!(self.nodes.get(&inode), Some(Node::Directory { .. }))
    }

    pub(super) fn names(&self, inode: u64) -> Result<Vec<(String, u64)>, io::ErrorKind> {
        match self.nodes.get(&inode) {
            Some(Node::Directory { seen, .. }) => Ok(seen
                .iter()
                .map(|(name, inode)| (name.clone(), *inode))
                .collect()),
            _ => Err(io::ErrorKind::NotADirectory),
        }
    }

    pub(super) fn status(&self, inode: u64) -> Status {
        match self.nodes.get(&inode) {
            Some(Node::File {
                seen, modified_ms, ..
            }) => Status {
                length: seen.len() as u64,
                modified_ms: *modified_ms,
            },
            _ => Status {
                length: 0,
                modified_ms: 0,
            },
        }
    }

    pub(super) fn create(&mut self, path: &Path, node: Node) -> Result<u64, io::ErrorKind> {
        let inode = self.next;
        self.next += 1;
        self.nodes.insert(inode, node);
        let (directory, name) = self.place(path)?;
        self.change_names(
            directory,
            vec![NameChange {
                name,
                inode: Some(inode),
            }],
        )?;
        Ok(inode)
    }

    pub(super) fn unlink(&mut self, path: &Path) -> Result<(), io::ErrorKind> {
        let (directory, name) = self.place(path)?;
        self.change_names(directory, vec![NameChange { name, inode: None }])
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), io::ErrorKind> {
        let inode = self.find(from)?;
        let (source, old) = self.place(from)?;
        let (target, new) = self.place(to)?;
        let gone = NameChange {
            name: old,
            inode: None,
        };
        let come = NameChange {
            name: new,
            inode: Some(inode),
        };
        if source == target {
            return self.change_names(source, vec![gone, come]);
        }
        self.change_names(target, vec![come])?;
        self.change_names(source, vec![gone])
    }

    fn place(&self, path: &Path) -> Result<(u64, String), io::ErrorKind> {
        let directory = self.find(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((directory, name.to_string_lossy().into_owned()))
    }

    fn change_names(
        &mut self,
        directory: u64,
        changes: Vec<NameChange>,
    ) -> Result<(), io::ErrorKind> {
        let Some(Node::Directory { seen, pending, .. }) = self.nodes.get_mut(&directory) else {
            return Err(io::ErrorKind::NotADirectory);
        };
        apply_names(seen, &changes);
        pending.push(changes);
        Ok(())
    }

    pub(super) fn read(&self, inode: u64, buffer: &mut [u8], position: u64) -> usize {
        let Some(Node::File { seen, .. }) = self.nodes.get(&inode) else {
            return 0;
        };
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        let rest = seen.get(position..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        count
    }

    /// Writes `bytes`, or only the first half of them if `torn`. Bytes beyond the limit of space are not written.
    pub(super) fn write(
        &mut self,
        inode: u64,
        bytes: &[u8],
        at: u64,
        torn: bool,
    ) -> Result<(), io::ErrorKind> {
        let wanted = if torn { bytes.len() / 2 } else { bytes.len() };
        let length = self.status(inode).length;
        let room = self.free_bytes().saturating_add(length.saturating_sub(at));
        let kept = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
        let now_ms = self.now_ms;
        if let Some(Node::File {
            seen,
            pending,
            modified_ms,
            ..
        }) = self.nodes.get_mut(&inode)
        {
            let change = FileChange::Write {
                position: at,
                bytes: bytes.iter().take(kept).copied().collect(),
            };
            apply(seen, &change);
            pending.push(change);
            *modified_ms = now_ms;
        }
        if kept < wanted {
            Err(io::ErrorKind::StorageFull)
        } else {
            Ok(())
        }
    }

    pub(super) fn truncate(&mut self, inode: u64, length: u64) {
        if let Some(Node::File { seen, pending, .. }) = self.nodes.get_mut(&inode) {
            let change = FileChange::Truncate { length };
            apply(seen, &change);
            pending.push(change);
        }
    }

    /// Ends the pending changes of a node: they become durable, or are dropped if the sync of a file failed.
    pub(super) fn settle(&mut self, inode: u64, reaches_platter: bool) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            settle(node, reaches_platter);
        }
    }

    pub(super) fn settle_all(&mut self, reaches_platter: bool) {
        for node in self.nodes.values_mut() {
            if let Node::File {
                pending,
                has_unreported_error,
                ..
            } = node
            {
                *has_unreported_error |= !reaches_platter && !pending.is_empty();
            }
            settle(node, reaches_platter);
        }
    }

    /// Whether changes of a file were lost by a failed sync of the file system; reported once, as on Linux.
    pub(super) fn report_error(&mut self, inode: u64) -> Result<(), io::ErrorKind> {
        if let Some(Node::File {
            has_unreported_error,
            ..
        }) = self.nodes.get_mut(&inode)
            && std::mem::take(has_unreported_error)
        {
            return Err(io::ErrorKind::Other);
        }
        Ok(())
    }

    /// No process is left that could be told.
    fn forget_errors(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File {
                has_unreported_error,
                ..
            } = node
            {
                *has_unreported_error = false;
            }
        }
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.space.unwrap_or(u64::MAX / 2)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let Some(space) = self.space else {
            return self.total_bytes();
        };
        let used: u64 = self
            .linked()
            .into_iter()
            .map(|inode| self.status(inode).length)
            .sum();
        space.saturating_sub(used)
    }

    fn linked(&self) -> Vec<u64> {
        let directories = self.nodes.values().filter_map(|node| match node {
            Node::Directory { seen, .. } => Some(seen.values().copied()),
            Node::File { .. } => None,
        });
        directories.flatten().collect()
    }

    pub(super) fn after_kill(&self) -> Self {
        let mut after = self.clone();
        after.reset();
        after
    }

    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut after = self.clone();
        after.reset();
        for node in after.nodes.values_mut() {
            lose(node, &mut random);
        }
        after
    }

    pub(super) fn heal(&mut self) {
        self.faults.clear();
        self.space = None;
        self.handles = None;
        self.changes_until_cut = None;
        self.power_is_off = false;
    }

    fn reset(&mut self) {
        self.heal();
        self.forget_errors();
        self.open_handles = 0;
        self.counts.clear();
        self.changes = 0;
    }
}

fn parts(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            None
        }
    })
}

fn apply(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Truncate { length } => {
            content.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
        }
        FileChange::Write { position, bytes } => {
            let start = usize::try_from(*position).unwrap_or(usize::MAX);
            let end = start.saturating_add(bytes.len());
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(start..end) {
                place.copy_from_slice(bytes);
            }
        }
    }
}

fn apply_names(names: &mut Names, changes: &[NameChange]) {
    for change in changes {
        match change.inode {
            Some(inode) => names.insert(change.name.clone(), inode),
            None => names.remove(&change.name),
        };
    }
}

fn settle(node: &mut Node, reaches_platter: bool) {
    match node {
        Node::File {
            durable, pending, ..
        } => {
            pending
                .drain(..)
                .filter(|_| reaches_platter)
                .for_each(|change| apply(durable, &change));
        }
        Node::Directory {
            durable, pending, ..
        } => {
            if reaches_platter {
                pending
                    .drain(..)
                    .for_each(|changes| apply_names(durable, &changes));
            }
        }
    }
}

/// What a power cut does to the unsynced changes of one file.
#[derive(Clone, Copy)]
enum Fate {
    All,
    None,
    First(usize),
    Scattered,
    /// The file has grown, but nothing of its new content was written.
    Zeros,
}

/// Applies a power cut to one node.
fn lose(node: &mut Node, random: &mut Random) {
    match node {
        Node::Directory {
            seen,
            durable,
            pending,
        } => {
            let kept = random.index(pending.len() + 1);
            pending
                .iter()
                .take(kept)
                .for_each(|changes| apply_names(durable, changes));
            pending.clear();
            seen.clone_from(durable);
        }
        Node::File {
            seen,
            durable,
            pending,
            ..
        } => {
            let fate = match random.index(5) {
                0 => Fate::All,
                1 => Fate::None,
                2 => Fate::First(random.index(pending.len() + 1)),
                3 => Fate::Zeros,
                _ => Fate::Scattered,
            };
            for (index, change) in pending.drain(..).enumerate() {
                keep(durable, change, index, (fate, random));
            }
            seen.clone_from(durable);
        }
    }
}

fn keep(
    durable: &mut Vec<u8>,
    mut change: FileChange,
    index: usize,
    (fate, random): (Fate, &mut Random),
) {
    let (whole, torn) = match fate {
        Fate::All => (true, false),
        Fate::None => (false, false),
        Fate::First(count) => (index < count, index == count),
        Fate::Scattered => (random.index(2) == 0, random.index(3) == 0),
        Fate::Zeros => return grow(durable, &change, random),
    };
    if !whole && !torn {
        return;
    }
    if let (FileChange::Write { position, bytes }, true) = (&mut change, torn) {
        // A torn write may lose its end, or its beginning when sectors are written out of order.
        let cut = random.index(bytes.len() + 1);
        if random.index(4) == 0 {
            *position += cut as u64;
            bytes.drain(..cut);
        } else {
            bytes.truncate(cut);
        }
    }
    apply(durable, &change);
}

fn grow(durable: &mut Vec<u8>, change: &FileChange, random: &mut Random) {
    if let FileChange::Write { position, bytes } = change {
        let end = usize::try_from(*position).unwrap_or(0) + bytes.len();
        let reached = durable.len() + random.index(end.saturating_sub(durable.len()) + 1);
        durable.resize(reached, 0);
    }
}
