//! The pages of a simulated disk that are not in the page cache. Everything written or read is in the cache until it is
//! dropped.
//!
//! Only [`File::is_cached`](crate::files::File::is_cached) depends on it: reading a cold page takes no time here.

use super::{Node, State};
use std::collections::BTreeSet;

const PAGE_BYTES: u64 = 4096;

/// Pages that are not in the page cache, by inode and page number.
pub(super) type ColdPages = BTreeSet<(u64, u64)>;

impl State {
    pub(crate) fn forget_all_cached(&mut self) {
        let files = self.nodes.iter().filter_map(|(inode, node)| match node {
            Node::File { seen, .. } => Some((*inode, seen.len() as u64)),
            Node::Directory { .. } => None,
        });
        for (inode, length) in files.collect::<Vec<_>>() {
            self.forget_cached(inode, 0, length);
        }
    }

    /// As on Linux, a page that is only partly in the range stays.
    pub(crate) fn forget_cached(&mut self, inode: u64, position: u64, length: u64) {
        let length_of_file = self.status(inode).length;
        let end = position.saturating_add(length);
        let end = if end >= length_of_file {
            length_of_file.div_ceil(PAGE_BYTES)
        } else {
            end / PAGE_BYTES
        };
        let pages = position.div_ceil(PAGE_BYTES)..end;
        self.cold.extend(pages.map(|page| (inode, page)));
    }

    pub(crate) fn is_cached(&self, inode: u64, position: u64, length: u64) -> bool {
        let end = position.saturating_add(length).div_ceil(PAGE_BYTES);
        let pages = (inode, position / PAGE_BYTES)..(inode, end);
        length == 0 || self.cold.range(pages).next().is_none()
    }

    pub(crate) fn cache(&mut self, inode: u64, position: u64, length: u64) {
        let end = position.saturating_add(length).div_ceil(PAGE_BYTES);
        self.cold
            .retain(|(of, page)| *of != inode || *page < position / PAGE_BYTES || *page >= end);
    }
}
