//! Opens many connections that stay open; each got one answer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A client without an answer after this time waits for others to close.
const PATIENCE: Duration = Duration::from_secs(1);
/// Length 14: Metadata (3), version 1, correlation id 7, no client id, no topics.
const METADATA: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];

/// Opens up to `wanted` connections, one after the other; those that are answered stay open and are returned.
pub fn open(address: &str, wanted: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    while open.len() < wanted {
        match answered(address) {
            Ok(stream) => open.push(stream),
            Err(_) => break,
        }
    }
    open
}

/// Whether a new client is answered.
pub fn are_served(address: &str) -> bool {
    answered(address).is_ok()
}

fn answered(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&METADATA)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(stream)
}
