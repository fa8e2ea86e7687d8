//! The signals that end a command: SIGINT (Ctrl-C), SIGTERM and SIGHUP. Once watched, they do not
//! end the process by themselves, so that a command can leave its group and print what it did.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The watched signals.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    /// Starts to watch the signals.
    pub fn watch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            hangup: signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?,
        })
    }

    /// Waits for the next signal, and names it.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }

    /// The result of `work`, or `None` when a signal comes first.
    pub async fn unless<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        tokio::select! {
            done = work => done.map(Some),
            _ = self.wait() => Ok(None),
        }
    }
}
