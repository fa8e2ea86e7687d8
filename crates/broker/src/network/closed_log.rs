//! Decides which closed connections are logged: each fault of an address at most once a minute.
//!
//! A client with a wrong configuration connects again and again; a line for each attempt would fill the log. The next line
//! says how many attempts were not logged. Memory is bounded: faults of further addresses are counted by the metrics only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

/// A fault of one address is logged at most once in this time.
const QUIET: Duration = Duration::from_mins(1);
/// Upper bound of the pairs of address and fault in memory.
const MAX_KNOWN: usize = 1000;

/// Why the broker closed a connection, as far as log lines tell reasons apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A TLS handshake on a plaintext listener.
    Tls,
    /// An HTTP request.
    Http,
    /// A frame whose length is negative or above a limit.
    Size,
    /// A header that names no served API.
    Header,
    /// A body that cannot be decoded as its header says.
    Body,
    /// A refused Produce with acks=0.
    Unanswered,
    /// An answer that could not be encoded: a bug of the broker.
    Response,
    /// A request that did not arrive in time.
    Slow,
    /// More connections from the address than it may have.
    TooMany,
}

impl Fault {
    /// Whether the client sent bytes that are not a request this broker serves.
    pub fn is_protocol_violation(self) -> bool {
        match self {
            Self::Tls | Self::Http | Self::Size | Self::Header | Self::Body => true,
            Self::Unanswered | Self::Response | Self::Slow | Self::TooMany => false,
        }
    }
}

#[derive(Debug)]
struct Logged {
    at: MonotonicTime,
    /// Connections since then that were not logged.
    silent: u64,
}

/// When each fault of each address was last logged.
#[derive(Debug, Default)]
pub struct ClosedLog {
    // A short lock on a path that has just failed; no client waits for it.
    last: Mutex<BTreeMap<(IpAddr, Fault), Logged>>,
}

impl ClosedLog {
    /// If this fault is to be logged: the number of those that were not logged since the last line.
    pub fn admit(&self, address: IpAddr, fault: Fault, now: MonotonicTime) -> Option<u64> {
        let is_quiet = |logged: &Logged| now < logged.at.after(QUIET);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (address.to_canonical(), fault);
        let mut silent = 0;
        if let Some(logged) = last.get_mut(&place) {
            if is_quiet(logged) {
                logged.silent += 1;
                return None;
            }
            silent = logged.silent;
        } else if last.len() >= MAX_KNOWN {
            last.retain(|_, logged| is_quiet(logged));
            if last.len() >= MAX_KNOWN {
                return None;
            }
        }
        last.insert(place, Logged { at: now, silent: 0 });
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use ottla_protocol::time::MonotonicTime;

    use super::{ClosedLog, Fault, MAX_KNOWN};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_secs(seconds))
    }

    #[test]
    fn each_fault_of_an_address_is_logged_once_a_minute_with_what_was_silent() {
        let log = ClosedLog::default();
        assert_eq!(log.admit(HERE, Fault::Tls, at(0)), Some(0));
        assert_eq!(log.admit(HERE, Fault::Tls, at(1)), None);
        assert_eq!(log.admit(HERE, Fault::Tls, at(59)), None);
        assert_eq!(log.admit(HERE, Fault::Http, at(59)), Some(0));
        assert_eq!(log.admit(HERE, Fault::Tls, at(60)), Some(2));
        assert_eq!(log.admit(HERE, Fault::Tls, at(61)), None);
    }

    #[test]
    fn many_addresses_cost_no_more_than_the_bound() {
        let log = ClosedLog::default();
        let address = |number: usize| {
            let number = u32::try_from(number).unwrap();
            IpAddr::V4(Ipv4Addr::from_bits(number))
        };
        for number in 0..MAX_KNOWN {
            assert_eq!(log.admit(address(number), Fault::Size, at(0)), Some(0));
        }
        assert_eq!(log.admit(address(MAX_KNOWN), Fault::Size, at(59)), None);
        assert_eq!(log.admit(address(MAX_KNOWN), Fault::Size, at(60)), Some(0));
    }
}
