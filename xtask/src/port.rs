//! The ports of brokers under test: finds a free port, and checks whether a broker serves on a
//! port.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;

/// A port that was free a moment ago.
pub fn free() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether a broker answers a Metadata request, with at least one broker.
pub fn serves(port: u16) -> bool {
    answer(port).is_ok_and(|brokers| brokers > 0)
}

/// Whether a broker answers a Metadata request (version 1, no topics) with this number of brokers.
pub fn knows(port: u16, brokers: u32) -> bool {
    answer(port).is_ok_and(|known| known == brokers)
}

fn answer(port: u16) -> Result<u32> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    // Length 14: api key 3, version 1, correlation id 7, null client id, no topics.
    stream.write_all(&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0])?;
    // Length, correlation id, number of brokers.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(u32::from(answer[11]))
}
