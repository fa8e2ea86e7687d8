//! The write side of a connection: encoded replies, sent with as few system calls as they allow.
//!
//! Parts in memory are sent by vectored writes, parts in log files by `sendfile`, without a copy into this process.
//! Before each piece of a file is sent, it is looked up in the page cache. [`ColdReads`] reads what is not there, and it
//! is sent from memory.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes};
use ottla_log::StorageError;
use ottla_log::files::File;
use ottla_log::files::disk::Disk;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::drivers::cold_reads::{ColdReads, Loading, PIECE, Records};
use crate::reply::{Part, Stored};

/// Parts handed to one system call.
const PARTS: usize = 64;

/// Replies that have not been sent yet, oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: VecDeque<Part>,
    bytes: usize,
    /// Cold records at the front that are being read; nothing is sent meanwhile.
    loading: Option<Loading>,
}

impl Outbox {
    /// Adds the parts of a reply behind those that wait.
    pub fn push(&mut self, parts: Vec<Part>) {
        for part in parts {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether some parts are in log files.
    pub fn reads_files(&self) -> bool {
        let is_stored = |part: &Part| matches!(part, Part::Stored(_));
        self.parts.iter().any(is_stored)
    }

    /// Unsent bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether sending waits for the disk.
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Waits until the cold records at the front can be sent; for ever when none are being read. Cancel safe.
    pub async fn loaded(&mut self) -> io::Result<()> {
        let Some(loading) = &mut self.loading else {
            return std::future::pending().await;
        };
        let loaded = loading.wait().await;
        self.loading = None;
        match (loaded.map_err(read_failed)?, self.parts.front_mut()) {
            (Some(bytes), _) => self.put_in_front(bytes),
            (None, Some(Part::Stored(stored))) => stored.cached = stored.next_piece(),
            (None, _) => {}
        }
        Ok(())
    }

    /// Puts records in memory in front of the range of a file in which they are the first.
    fn put_in_front(&mut self, bytes: Bytes) {
        if let Some(Part::Stored(stored)) = self.parts.front_mut() {
            stored.sent += bytes.len();
            stored.cached = stored.sent;
            if stored.sent == stored.plan.length {
                self.parts.pop_front();
            }
            self.parts.push_front(Part::Bytes(bytes));
        }
    }

    /// Sends what the socket takes now and what is in memory. Returns the number of bytes sent.
    pub fn write_to(
        &mut self,
        stream: &TcpStream,
        cold_reads: &ColdReads<Disk>,
    ) -> io::Result<usize> {
        let mut sent = 0;
        while self.bytes > 0 && !self.is_loading() {
            let written = match self.parts.front_mut() {
                Some(Part::Stored(stored)) => match stored.look(cold_reads) {
                    Some(Records::Read(bytes)) => {
                        self.put_in_front(bytes);
                        continue;
                    }
                    Some(Records::Loading(loading)) => {
                        self.loading = Some(loading);
                        break;
                    }
                    None => send_stored(stream, stored),
                },
                _ => self.send_bytes(stream),
            };
            match written {
                Ok(count) => {
                    self.advance(count);
                    sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.look_again();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// The socket is full, perhaps for long: the page cache must be asked again before the next piece is sent.
    fn look_again(&mut self) {
        if let Some(Part::Stored(stored)) = self.parts.front_mut() {
            stored.cached = stored.sent;
        }
    }

    /// Sends the parts in memory up to the first part in a file. If one follows, the kernel holds back bytes that do
    /// not fill a packet.
    fn send_bytes(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let mut used = 0;
        let mut flags = SendFlags::NOSIGNAL;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            match part {
                Part::Bytes(bytes) => *slice = IoSlice::new(bytes),
                Part::Stored(_) => {
                    flags |= SendFlags::MORE;
                    break;
                }
            }
            used += 1;
        }
        stream.try_io(Interest::WRITABLE, || {
            let nothing_beside = &mut SendAncillaryBuffer::default();
            Ok(sendmsg(stream, &slices[..used], nothing_beside, flags)?)
        })
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        let mut left = count;
        while let Some(front) = self.parts.front_mut() {
            if left < front.len() {
                match front {
                    Part::Bytes(bytes) => bytes.advance(left),
                    Part::Stored(stored) => stored.sent += left,
                }
                return;
            }
            left -= front.len();
            self.parts.pop_front();
        }
    }
}

impl Stored {
    /// Where the piece that is sent next ends.
    fn next_piece(&self) -> usize {
        self.plan.length.min(self.sent + PIECE)
    }

    /// Looks for the next piece in the page cache, unless the last one found is not sent yet. If it is not there, the result
    /// is what `cold_reads` has. A reader of cold records goes on with them without a look: the look would make the kernel
    /// read a page.
    fn look(&mut self, cold_reads: &ColdReads<Disk>) -> Option<Records> {
        if self.sent < self.cached {
            return None;
        }
        let (position, end) = (self.plan.position + self.sent as u64, self.next_piece());
        let length = end - self.sent;
        let file = self.plan.file()?;
        if cold_reads.has(&self.plan, self.sent) || !file.is_cached(position, length as u64) {
            return Some(cold_reads.records(&self.plan, self.sent));
        }
        self.cached = end;
        None
    }
}

/// Logs that the disk failed; a socket does not fail in this way.
fn read_failed(error: StorageError) -> io::Error {
    tracing::error!(%error, "cannot read records; the log directory is offline until the broker is started again");
    io::Error::other(error)
}

fn send_stored(stream: &TcpStream, stored: &Stored) -> io::Result<usize> {
    let plan = &stored.plan;
    let file = plan.file().expect("a plan that is sent has a file");
    let mut position = plan.position + stored.sent as u64;
    let left = stored.cached - stored.sent;
    let sent = stream.try_io(Interest::WRITABLE, || {
        Ok(sendfile(stream, file, Some(&mut position), left)?)
    });
    let sent = sent.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::IO) => read_failed(plan.failed(error)),
        _ => error,
    })?;
    if sent == 0 {
        let message = "a log file ended before the records that were announced";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok(sent)
}
