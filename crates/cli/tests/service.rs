//! `ottla serve` under a service manager: configured by environment variables, watched through a
//! socket, stopped by a signal.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_mins(2);

/// Killed when dropped, so that a failing test leaves no process.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next message to the socket.
fn received(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn systemd_is_told_of_the_start_and_of_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let notify = directory.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    // Only a broker that does not start makes this time out.
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let data = directory.path().join("data");
    let process = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["serve", "--environment"])
        .env("NOTIFY_SOCKET", &notify)
        .env("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:0")
        .env("KAFKA_LOG_DIRS", &data)
        .env("KAFKA_OTTLA_HTTP_LISTEN", "")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut broker = Broker(process);
    assert_eq!(received(&socket), "READY=1");
    assert!(
        data.join("meta.properties").exists(),
        "it took its keys from the environment"
    );
    let id = Pid::from_raw(i32::try_from(broker.0.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(received(&socket), "STOPPING=1");
    assert!(broker.0.wait().unwrap().success());
}

#[test]
fn the_environment_is_read_only_when_asked() {
    let refused = |arguments: &[&str]| {
        let ended = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .arg("serve")
            .args(arguments)
            // Always refused, so that no broker starts.
            .args(["--override", "node.id=-5"])
            .env("KAFKA_NUM_PARTITION", "3")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    let said = refused(&["--environment"]);
    assert!(said.contains("did you mean num.partitions?"), "{said}");
    assert!(!refused(&[]).contains("num.partition"));
}
