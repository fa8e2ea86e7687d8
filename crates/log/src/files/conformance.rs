//! Tests that every implementation of `Files` must pass, and tests of the simulated disk alone.

use super::disk::Disk;
use super::simulated::Simulated;
use super::{DIRECT_ALIGNMENT, Entry, File, Files, Open, Operation, read_whole, replace_durably};
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

fn suite<F: Files>(files: &F, root: &Path) {
    writes_are_read_back(files, root);
    opening_tells_missing_from_present(files, root);
    names_follow_rename_and_remove(files, root);
    truncation_cuts_and_extends(files, root);
    replacing_leaves_no_temporary_file(files, root);
    an_open_file_outlives_its_name(files, root);
}

#[test]
fn the_disk_conforms() {
    let directory = tempfile::tempdir().unwrap();
    suite(&Disk, directory.path());
}

/// Whether the directory is on a file system in memory, whose page cache cannot be dropped.
fn is_in_memory(directory: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let status = rustix::fs::statfs(directory).unwrap();
    status.f_type == TMPFS_MAGIC
}

fn what_is_dropped_is_cold_until_it_is_read<F: Files>(files: &F, root: &Path) {
    const LENGTH: usize = 4 << 20;
    let file = files.open(&root.join("cold"), Open::Create).unwrap();
    // One large write would be one large folio, which Linux drops only as a whole.
    let piece = vec![1; 64 << 10];
    for position in (0..LENGTH).step_by(piece.len()) {
        file.write_at(&[IoSlice::new(&piece)], position as u64)
            .unwrap();
    }
    file.sync_data().unwrap();
    assert!(file.is_cached(0, LENGTH as u64));
    // A look at a page that is not there makes Linux read it, and a page that is being read cannot be dropped: what is
    // cold is seen so after a few tries.
    let is_cold_after = |look: &mut dyn FnMut() -> bool| {
        (0..1000).any(|_| {
            file.forget_cached(1 << 20, 1 << 20);
            look()
        })
    };
    let is_cold = |position, length| is_cold_after(&mut || !file.is_cached(position, length));
    assert!(is_cold(0, LENGTH as u64));
    assert!(is_cold(1 << 20, 1));
    assert!(is_cold((2 << 20) - 100, 1000), "its first byte");
    assert!(is_cold((1 << 20) - 100, 101), "its last byte");
    assert!(!is_cold(0, 1 << 20));
    assert!(!is_cold(1 << 20, 0));
    let mut buffer = vec![0; 1000];
    let only_its_front_is_cached = is_cold_after(&mut || {
        let read = file.read_cached_at(&mut buffer, (1 << 20) - 100).unwrap();
        read.is_none()
    });
    assert!(only_its_front_is_cached);
    let read = file.read_cached_at(&mut buffer, (1 << 20) - 1000).unwrap();
    assert_eq!((read, &buffer), (Some(1000), &vec![1; 1000]));
    let read = file
        .read_cached_at(&mut buffer, LENGTH as u64 - 10)
        .unwrap();
    assert_eq!(read, Some(10), "the file ends");

    // At any address, beyond the end of the file, and with whole blocks.
    for (at, size) in [
        (1 << 20, 1 << 20),
        ((1 << 20) + 1, 5000),
        (LENGTH - 100, 8192),
        (0, 2 << 20),
    ] {
        let mut buffer = vec![0; size + DIRECT_ALIGNMENT];
        let start = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let aligned = &mut buffer[start..start + size];
        let read = file.read_past_cache_at(aligned, at as u64).unwrap();
        assert_eq!(read, size.min(LENGTH - at));
        assert!(aligned[..read].iter().all(|byte| *byte == 1));
    }
    let mut buffer = vec![0; (1 << 20) + DIRECT_ALIGNMENT];
    let start = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT);
    let stays_cold = is_cold_after(&mut || {
        let aligned = &mut buffer[start..start + (1 << 20)];
        file.read_past_cache_at(aligned, 1 << 20).unwrap();
        !file.is_cached(3 << 19, 1)
    });
    assert!(stays_cold);

    file.prefetch(1 << 20, 1 << 20);
    let mut buffer = vec![0; 1 << 20];
    file.read_at(&mut buffer, 1 << 20).unwrap();
    assert_eq!(buffer, vec![1; 1 << 20]);
    assert!(file.is_cached(0, LENGTH as u64));
}

#[test]
fn what_is_dropped_from_the_page_cache_is_cold_until_it_is_read() {
    what_is_dropped_is_cold_until_it_is_read(&Simulated::new(), Path::new("/"));
    let directory = tempfile::tempdir().unwrap();
    if !is_in_memory(directory.path()) {
        what_is_dropped_is_cold_until_it_is_read(&Disk, directory.path());
    }
}

#[test]
fn the_double_conforms() {
    suite(&Simulated::new(), Path::new("/"));
}

fn writes_are_read_back<F: Files>(files: &F, root: &Path) {
    let file = files.open(&root.join("written"), Open::Create).unwrap();
    file.write_at(
        &[
            IoSlice::new(b"hello "),
            IoSlice::new(b""),
            IoSlice::new(b"world"),
        ],
        3,
    )
    .unwrap();
    let mut buffer = [9; 20];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 14);
    assert_eq!(&buffer[..14], b"\0\0\0hello world");
    assert_eq!(file.read_at(&mut buffer, 14).unwrap(), 0);
    let many: Vec<u8> = (0..=255u8).cycle().take(3000).collect();
    let slices: Vec<IoSlice<'_>> = many.chunks(1).map(IoSlice::new).collect();
    file.write_at(&slices, 0).unwrap();
    file.sync_data().unwrap();
    file.reserve(0, 1 << 16).unwrap();
    assert_eq!(file.length().unwrap(), 3000);
    assert_eq!(
        read_whole(files, &root.join("written"), 3000)
            .unwrap()
            .unwrap(),
        many
    );
    assert!(read_whole(files, &root.join("written"), 2999).is_err());
    let space = files.space(root).unwrap();
    assert!(space.free > 0 && space.total >= space.free);
    files.sync_file_system(root).unwrap();
}

fn opening_tells_missing_from_present<F: Files>(files: &F, root: &Path) {
    let path = root.join("absent");
    assert!(files.open(&path, Open::Read).err().unwrap().is_not_found());
    assert!(files.open(&path, Open::Write).err().unwrap().is_not_found());
    assert_eq!(files.status(&path).unwrap(), None);
    assert_eq!(read_whole(files, &path, 1).unwrap(), None);
    assert!(files.list(&path).err().unwrap().is_not_found());
    assert!(files.remove(&path).err().unwrap().is_not_found());
    assert!(files.rename(&path, root).err().unwrap().is_not_found());
    assert!(
        files
            .open(&root.join("no/such/parent"), Open::Create)
            .err()
            .unwrap()
            .is_not_found()
    );
}

fn names_follow_rename_and_remove<F: Files>(files: &F, root: &Path) {
    let directory = root.join("names");
    files.create_directory(&directory).unwrap();
    files.create_directory(&directory).unwrap();
    files.create_directory(&directory.join("sub")).unwrap();
    for name in ["b", "a"] {
        files
            .open(&directory.join(name), Open::Create)
            .unwrap()
            .write_at(&[IoSlice::new(name.as_bytes())], 0)
            .unwrap();
    }
    files
        .rename(&directory.join("a"), &directory.join("b"))
        .unwrap();
    files.sync_directory(&directory).unwrap();
    let entry = |name: &str, is_directory| Entry {
        name: name.to_owned(),
        is_directory,
    };
    assert_eq!(
        files.list(&directory).unwrap(),
        [entry("b", false), entry("sub", true)]
    );
    assert_eq!(
        read_whole(files, &directory.join("b"), 9).unwrap().unwrap(),
        b"a"
    );
    let error = files.remove_directory(&directory).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::DirectoryNotEmpty);
    files.rename(&directory, &root.join("renamed")).unwrap();
    assert_eq!(
        files
            .status(&root.join("renamed/b"))
            .unwrap()
            .unwrap()
            .length,
        1
    );
    files.remove(&root.join("renamed/b")).unwrap();
    files.remove_directory(&root.join("renamed/sub")).unwrap();
    files.remove_directory(&root.join("renamed")).unwrap();
    assert_eq!(files.status(&root.join("renamed")).unwrap(), None);
}

fn truncation_cuts_and_extends<F: Files>(files: &F, root: &Path) {
    let file = files.open(&root.join("cut"), Open::Replace).unwrap();
    file.write_at(&[IoSlice::new(b"abcdef")], 0).unwrap();
    file.truncate(2).unwrap();
    file.truncate(4).unwrap();
    assert_eq!(
        read_whole(files, &root.join("cut"), 9).unwrap().unwrap(),
        b"ab\0\0"
    );
    files.open(&root.join("cut"), Open::Replace).unwrap();
    assert_eq!(file.length().unwrap(), 0);
}

fn replacing_leaves_no_temporary_file<F: Files>(files: &F, root: &Path) {
    let directory = root.join("replace");
    files.create_directory(&directory).unwrap();
    for content in [b"one".as_slice(), b"2"] {
        replace_durably(files, &directory.join("file"), content).unwrap();
        assert_eq!(
            read_whole(files, &directory.join("file"), 9)
                .unwrap()
                .unwrap(),
            content
        );
    }
    assert_eq!(files.list(&directory).unwrap().len(), 1);
}

fn an_open_file_outlives_its_name<F: Files>(files: &F, root: &Path) {
    let file = files.open(&root.join("unlinked"), Open::Create).unwrap();
    file.write_at(&[IoSlice::new(b"still here")], 0).unwrap();
    files.remove(&root.join("unlinked")).unwrap();
    let mut buffer = [0; 5];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 5);
    assert_eq!(&buffer, b"still");
}

fn written(files: &Simulated, path: &str, content: &[u8]) -> super::simulated::SimulatedFile {
    let file = files.open(Path::new(path), Open::Create).unwrap();
    file.write_at(&[IoSlice::new(content)], 0).unwrap();
    file
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_may_lose_the_rest() {
    let files = Simulated::new();
    let file = written(&files, "/a", b"synced");
    file.sync_data().unwrap();
    files.sync_directory(Path::new("/")).unwrap();
    file.write_at(&[IoSlice::new(b" and not")], 6).unwrap();
    let outcomes: std::collections::BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            read_whole(&files.power_cut(seed), Path::new("/a"), 99)
                .unwrap()
                .unwrap()
        })
        .collect();
    assert!(
        outcomes
            .iter()
            .all(|content| content.starts_with(b"synced"))
    );
    assert!(
        outcomes.contains(b"synced".as_slice()) && outcomes.contains(b"synced and not".as_slice())
    );
    assert!(
        outcomes.contains(b"synced and".as_slice()),
        "torn writes happen"
    );
    assert_eq!(
        read_whole(&files.power_cut(7), Path::new("/a"), 99).unwrap(),
        read_whole(&files.power_cut(7), Path::new("/a"), 99).unwrap(),
    );
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_though_the_data_was() {
    let files = Simulated::new();
    written(&files, "/a", b"synced").sync_data().unwrap();
    let found = |seed| {
        files
            .power_cut(seed)
            .status(Path::new("/a"))
            .unwrap()
            .is_some()
    };
    assert!((0..50).any(found) && !(0..50).all(found));
}

#[test]
fn a_failed_sync_loses_the_data_and_the_next_one_does_not_bring_it_back() {
    let files = Simulated::new();
    let file = written(&files, "/a", b"lost");
    files.sync_directory(Path::new("/")).unwrap();
    files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    for seed in 0..20 {
        assert_eq!(
            read_whole(&files.power_cut(seed), Path::new("/a"), 99)
                .unwrap()
                .unwrap(),
            b""
        );
    }
}

#[test]
fn a_full_disk_cuts_the_write_short() {
    let files = Simulated::new();
    let file = written(&files, "/a", b"1234");
    files.limit_space(Some(6));
    let error = file.write_at(&[IoSlice::new(b"5678")], 4).unwrap_err();
    assert!(error.is_full());
    assert_eq!(file.length().unwrap(), 6);
    files.remove(Path::new("/a")).unwrap();
    let space = files.space(Path::new("/")).unwrap();
    assert_eq!((space.free, space.total), (6, 6));
}

#[test]
fn the_power_goes_after_the_given_changes_and_handles_are_counted() {
    let files = Simulated::new();
    let file = written(&files, "/a", b"x");
    assert_eq!((files.open_handles(), files.changes()), (1, 2));
    files.cut_power_after(1);
    file.sync_data().unwrap();
    assert!(file.sync_data().is_err());
    assert!(files.list(Path::new("/")).is_err());
    drop(file);
    assert_eq!(files.open_handles(), 0);
}
