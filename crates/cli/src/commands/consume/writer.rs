//! Writes to stdout from its own thread, so that a blocked pipe delays neither heartbeats nor
//! signals.

use std::io::{self, Write as _};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::oneshot;
use tokio::time;

use crate::output::Stdout;

/// How often an idle consumer checks whether stdout is still open at the other end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type Written = oneshot::Sender<io::Result<()>>;

/// A handle to the thread that writes to stdout.
#[derive(Debug)]
pub struct Writer {
    chunks: mpsc::Sender<(Vec<u8>, Written)>,
}

impl Writer {
    /// Starts the thread, which runs until the process ends.
    pub fn start() -> Result<Self> {
        let (chunks, received) = mpsc::channel::<(Vec<u8>, Written)>();
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                for (chunk, written) in received {
                    let mut out = Stdout::lock();
                    let result = out.write_all(&chunk).and_then(|()| out.flush());
                    // The consumer may have ended meanwhile.
                    let _ = written.send(result);
                }
            })
            .context("cannot start the thread that writes")?;
        Ok(Self { chunks })
    }

    /// Writes the whole chunk; returns when the operating system has it.
    pub async fn write(&self, chunk: Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::other("the thread that writes has ended");
        let (written, answer) = oneshot::channel();
        self.chunks.send((chunk, written)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Waits until the other end of the pipe or socket is closed.
    pub async fn closed(&self) {
        while !is_closed() {
            time::sleep(LOOK_EVERY).await;
        }
    }
}

fn is_closed() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ended = PollFlags::ERR | PollFlags::HUP;
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().intersects(ended)
}
