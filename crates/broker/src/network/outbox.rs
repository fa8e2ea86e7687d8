//! The write side of a connection: encoded replies, sent with as few system calls as they allow.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

/// Pieces handed to one system call.
const PIECES: usize = 64;

/// Replies that have not been sent yet, oldest first.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Adds a reply's pieces behind what waits.
    pub fn push(&mut self, parts: Vec<Bytes>) {
        for part in parts {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Unsent bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends as much as the socket takes now. Returns how much that was.
    pub fn write_to(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let mut sent = 0;
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let used = self.parts.len().min(PIECES);
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            match stream.try_write_vectored(&slices[..used]) {
                Ok(count) => {
                    self.advance(count);
                    sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        let mut left = count;
        while let Some(front) = self.parts.front_mut() {
            if left < front.len() {
                front.advance(left);
                return;
            }
            left -= front.len();
            self.parts.pop_front();
        }
    }
}
