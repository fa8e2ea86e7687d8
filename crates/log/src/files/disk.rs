//! The real file system, through `rustix`. Each method is one system call, retried only after an interrupt by a signal.

use super::{Entry, File, FileError, Files, Inodes, Open, Operation, Space, Status};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Upper bound of the slices of one `pwritev` on Linux.
const MAX_SLICES: usize = 1024;

/// Distance in bytes between the samples that tell whether a range is in the page cache. The kernel usually reads and
/// reclaims larger runs. A sample takes 0.4 us; sending this many bytes from the page cache takes 50 us.
const SAMPLE_STEP: usize = 256 << 10;
/// Bytes of one call that asks the kernel to read ahead. It bounds the size of one request to the disk.
const PREFETCH_STEP: u64 = 512 << 10;

#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

#[derive(Debug)]
pub struct DiskFile {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl DiskFile {
    fn failed(&self, operation: Operation) -> impl FnOnce(Errno) -> FileError {
        failed(operation, &self.path)
    }
}

fn failed(operation: Operation, path: &Path) -> impl FnOnce(Errno) -> FileError {
    move |errno| FileError::new(operation, path, errno)
}

impl Files for Disk {
    type File = DiskFile;

    fn open(&self, path: &Path, how: Open) -> Result<DiskFile, FileError> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::Create => OFlags::RDWR | OFlags::CREATE,
            Open::Replace => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        };
        let mode = Mode::from_raw_mode(0o644);
        let descriptor = retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, mode))
            .map_err(failed(Operation::Open, path))?;
        Ok(DiskFile {
            descriptor,
            path: path.to_path_buf(),
        })
    }

    fn create_directory(&self, path: &Path) -> Result<(), FileError> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(FileError::new(Operation::CreateDirectory, path, errno)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, FileError> {
        let listed = |source: io::Error| FileError::new(Operation::List, path, source);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(listed)? {
            let entry = entry.map_err(listed)?;
            let is_directory = entry.file_type().map_err(listed)?.is_dir();
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_directory,
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn status(&self, path: &Path) -> Result<Option<Status>, FileError> {
        match rustix::fs::stat(path) {
            Ok(stat) => Ok(Some(Status {
                length: u64::try_from(stat.st_size).unwrap_or(0),
                modified_ms: stat.st_mtime * 1000
                    + i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileError::new(Operation::Status, path, errno)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        rustix::fs::rename(from, to).map_err(failed(Operation::Rename, from))
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        rustix::fs::unlink(path).map_err(failed(Operation::Remove, path))
    }

    fn remove_directory(&self, path: &Path) -> Result<(), FileError> {
        rustix::fs::rmdir(path).map_err(failed(Operation::Remove, path))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), FileError> {
        let directory = open_directory(path)?;
        retry_on_intr(|| rustix::fs::fsync(&directory))
            .map_err(failed(Operation::SyncDirectory, path))
    }

    fn sync_file_system(&self, path: &Path) -> Result<(), FileError> {
        let directory = open_directory(path)?;
        rustix::fs::syncfs(&directory).map_err(failed(Operation::SyncFileSystem, path))
    }

    fn space(&self, path: &Path) -> Result<Space, FileError> {
        let blocks = rustix::fs::statvfs(path).map_err(failed(Operation::Status, path))?;
        Ok(Space {
            total: blocks.f_blocks.saturating_mul(blocks.f_frsize),
            free: blocks.f_bavail.saturating_mul(blocks.f_frsize),
            // Zero on a file system that allocates inodes as it needs them.
            inodes: (blocks.f_files > 0).then_some(Inodes {
                total: blocks.f_files,
                free: blocks.f_favail,
            }),
        })
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
        .map_err(failed(Operation::Open, path))
}

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = retry_on_intr(|| {
                rustix::io::pread(&self.descriptor, &mut *rest, position + filled as u64)
            })
            .map_err(self.failed(Operation::Read))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], mut position: u64) -> Result<(), FileError> {
        for chunk in slices.chunks(MAX_SLICES) {
            let mut copy = chunk.to_vec();
            let mut rest = copy.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let written =
                    retry_on_intr(|| rustix::io::pwritev(&self.descriptor, rest, position))
                        .map_err(self.failed(Operation::Write))?;
                if written == 0 {
                    return Err(FileError::new(
                        Operation::Write,
                        &self.path,
                        io::ErrorKind::WriteZero,
                    ));
                }
                position += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), FileError> {
        retry_on_intr(|| rustix::fs::fdatasync(&self.descriptor))
            .map_err(self.failed(Operation::Sync))
    }

    fn length(&self) -> Result<u64, FileError> {
        let stat = rustix::fs::fstat(&self.descriptor).map_err(self.failed(Operation::Status))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn truncate(&self, length: u64) -> Result<(), FileError> {
        retry_on_intr(|| rustix::fs::ftruncate(&self.descriptor, length))
            .map_err(self.failed(Operation::Truncate))
    }

    fn reserve(&self, position: u64, length: u64) -> Result<(), FileError> {
        match rustix::fs::fallocate(
            &self.descriptor,
            FallocateFlags::KEEP_SIZE,
            position,
            length,
        ) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
            Err(errno) => Err(FileError::new(Operation::Reserve, &self.path, errno)),
        }
    }

    fn forget_cached(&self, position: u64, length: u64) {
        let length = NonZeroU64::new(length);
        // If the system ignores the advice, it keeps the bytes.
        let _ = rustix::fs::fadvise(&self.descriptor, position, length, Advice::DontNeed);
    }

    fn is_cached(&self, position: u64, length: u64) -> bool {
        let Some(behind_first) = length.checked_sub(1) else {
            return true;
        };
        let last = position + behind_first;
        let mut samples = (position..last).step_by(SAMPLE_STEP).chain([last]);
        samples.all(|sample| self.has_in_memory(sample))
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> Result<Option<usize>, FileError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_without_waiting(rest, position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::AGAIN) => return Ok(None),
                // The system cannot tell, or the read failed: an ordinary read works, or reports the error.
                Err(_) => return self.read_at(buffer, position).map(Some),
            }
        }
        Ok(Some(filled))
    }

    fn read_past_cache_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, FileError> {
        let read = match self.read_directly(buffer, position) {
            Ok(read) => read,
            Err(Errno::IO) => return Err(self.failed(Operation::Read)(Errno::IO)),
            // The file system cannot do it, or the alignment does not fit.
            Err(_) => 0,
        };
        // A direct read ends where whole blocks end.
        let position = position + read as u64;
        let rest = buffer.get_mut(read..).unwrap_or_default();
        let buffered = self.read_at(rest, position)?;
        if buffered > 0 {
            self.forget_cached(position, buffered as u64);
        }
        Ok(read + buffered)
    }

    fn prefetch(&self, position: u64, length: u64) {
        // Without this advice the kernel reads ahead for a sequential reader as far as the device is configured, 8 MiB
        // on some. Syncs would wait for that. The advice stays on the open file, which other readers share.
        let _ = rustix::fs::fadvise(&self.descriptor, 0, None, Advice::Random);
        let end = position.saturating_add(length);
        let mut from = position;
        while let Some(step) = NonZeroU64::new(PREFETCH_STEP.min(end - from)) {
            let _ = rustix::fs::fadvise(&self.descriptor, from, Some(step), Advice::WillNeed);
            from += step.get();
        }
    }
}

impl DiskFile {
    /// Whether the byte at `position` is in the page cache. Also true if the kernel or the file system cannot tell, and
    /// if the read fails: a later read reports that error.
    fn has_in_memory(&self, position: u64) -> bool {
        let read = self.read_without_waiting(&mut [0], position);
        !matches!(read, Err(Errno::AGAIN))
    }

    /// Reads with `O_DIRECT`, on a descriptor of its own, because the flag would change the reads of all who share one.
    fn read_directly(&self, buffer: &mut [u8], position: u64) -> Result<usize, Errno> {
        let path = format!("/proc/self/fd/{}", self.descriptor.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        let direct = retry_on_intr(|| rustix::fs::open(path.as_str(), flags, Mode::empty()))?;
        retry_on_intr(|| rustix::io::pread(&direct, &mut *buffer, position))
    }

    fn read_without_waiting(&self, buffer: &mut [u8], position: u64) -> Result<usize, Errno> {
        let mut slices = [IoSliceMut::new(buffer)];
        retry_on_intr(|| {
            rustix::io::preadv2(
                &self.descriptor,
                &mut slices,
                position,
                ReadWriteFlags::NOWAIT,
            )
        })
    }
}
