//! The ports of brokers under test: finds a free port, and checks whether a broker serves on a
//! port.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A free port, which no other socket gets until this process ends.
///
/// It is bound, but nobody listens on it: a broker, which sets `SO_REUSEADDR`, can. Without that, a
/// client that tries the address of a killed broker could be given the broker's port as its own.
pub fn free() -> Result<u16> {
    static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let kind = (AddressFamily::INET, SocketType::STREAM);
    let holder = rustix::net::socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&holder, true)?;
    rustix::net::bind(&holder, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&holder)?)?;
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.push(holder);
    Ok(address.port())
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
