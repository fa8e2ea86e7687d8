//! How signals end the command. After the first, the lines read so far are still written. The
//! second gives that up.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{self, Instant};

use crate::stop::Stop;

/// After this time the user is told what the command waits for.
const QUIET_END: Duration = Duration::from_secs(1);

/// The signals that have arrived.
#[derive(Debug)]
pub struct Ending {
    stop: Stop,
    first: Option<(&'static str, Instant)>,
    is_told: bool,
    is_given_up: bool,
}

impl Ending {
    pub fn new(stop: Stop) -> Self {
        Self {
            stop,
            first: None,
            is_told: false,
            is_given_up: false,
        }
    }

    /// The first signal, which ended the reading.
    pub fn signal(&self) -> Option<&'static str> {
        self.first.map(|(signal, _)| signal)
    }

    /// Whether a second signal ended the writing.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Waits for the next signal.
    pub async fn wait(&mut self) {
        let signal = self.stop.wait().await;
        if self.first.is_some() {
            self.is_given_up = true;
        } else {
            self.first = Some((signal, Instant::now()));
        }
    }

    /// The result of `work`, or `None` after a second signal. `tell` is called once in all, when
    /// the work goes on for [`QUIET_END`] after the first signal.
    pub async fn unless_given_up<T>(
        &mut self,
        mut tell: impl FnMut(),
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        while !self.is_given_up {
            let tell_at = self.first.map(|(_, at)| at + QUIET_END);
            let quiet = time::sleep_until(tell_at.unwrap_or_else(Instant::now));
            tokio::select! {
                done = &mut work => return Some(done),
                () = quiet, if tell_at.is_some() && !self.is_told => {
                    self.is_told = true;
                    tell();
                }
                () = self.wait() => {}
            }
        }
        None
    }
}
