//! Notifies the service manager of the process's state: systemd's `Type=notify`.
//!
//! The protocol is one text datagram to the socket in `NOTIFY_SOCKET`. Without that variable
//! nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The broker serves clients.
pub const READY: &str = "READY=1";
/// The broker is stopping.
pub const STOPPING: &str = "STOPPING=1";

const SOCKET: &str = "NOTIFY_SOCKET";

/// Sends one state to the service manager, if there is one. A failure is logged: systemd would wait for the message until
/// its own timeout, and the log must show why.
pub fn notify(state: &str) {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(
            %error,
            socket = %socket.display(),
            state,
            "cannot notify the service manager"
        );
    }
}

/// A name that begins with `@` is in Linux's abstract namespace; a zero byte replaces the `@`.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::{READY, send};

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn a_state_is_one_datagram_to_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        assert_eq!(received(&socket), b"READY=1");
    }

    #[test]
    fn a_state_is_one_datagram_to_an_abstract_name() {
        let name = format!("ottla-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), READY).unwrap();
        assert_eq!(received(&socket), b"READY=1");
    }

    #[test]
    fn nobody_at_the_socket_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(send(directory.path().join("none").as_os_str(), READY).is_err());
    }
}
