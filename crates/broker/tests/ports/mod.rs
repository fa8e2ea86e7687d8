//! Ports for nodes that a test starts, ends and starts again.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A free port of the loopback address, which no other socket gets until this process ends.
///
/// It is bound, but nobody listens on it: a node, which sets `SO_REUSEADDR`, can. Without that, a client that tries the
/// address of a node that has ended could be given that port as its own.
pub fn held() -> u16 {
    static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let flags = SocketFlags::CLOEXEC;
    let holder =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_reuseaddr(&holder, true).unwrap();
    rustix::net::bind(&holder, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&holder).unwrap()).unwrap();
    HELD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(holder);
    address.port()
}
