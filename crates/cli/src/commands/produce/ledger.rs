//! Which lines of the input are written, which are not, and from which to go on.

use std::collections::VecDeque;
use std::fmt::Write as _;

use ottla_client::{BatchOutcome, ClientError};

/// The lines from the first that is not known to be written on, in order.
#[derive(Debug)]
pub struct Ledger {
    /// The number of the input's line that became the first record.
    first_line: u64,
    /// The ticket of the first entry.
    base: u64,
    entries: VecDeque<Entry>,
    written: u64,
    written_bytes: u64,
    failure: Option<(u64, ClientError)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is known of it yet.
    Open,
    /// It is acknowledged.
    Written,
    /// It is not in the log.
    Missing,
    /// It may be in the log: it was sent, and no answer came.
    Unknown,
}

/// What stands in the ledger at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// The first line of the input that was read.
    pub first_line: u64,
    /// The first line that is not known to be written.
    pub next_line: u64,
    /// Records written.
    pub written: u64,
    /// Of these, lines from `next_line` on.
    pub written_beyond: u64,
    /// Lines that may be written, nobody knows.
    pub unknown: u64,
}

impl Ledger {
    /// An empty ledger; the first record will be made of this line.
    pub fn new(first_line: u64) -> Self {
        Self {
            first_line,
            base: 0,
            entries: VecDeque::new(),
            written: 0,
            written_bytes: 0,
            failure: None,
        }
    }

    /// Notes that the next line was handed to the producer.
    pub fn add(&mut self, bytes: usize) {
        self.entries.push_back(Entry {
            bytes: bytes as u64,
            state: State::Open,
        });
    }

    /// Notes what became of a batch.
    pub fn settle(&mut self, outcome: BatchOutcome) {
        let first = outcome.tickets.first().map(|ticket| ticket.0);
        let state = match outcome.result {
            Ok(_) => State::Written,
            Err(error) => {
                let state = state_after(&error);
                let line = first.unwrap_or(0) + self.first_line;
                let is_cause = !matches!(error, ClientError::NotSent);
                if is_cause && self.failure.as_ref().is_none_or(|(known, _)| line < *known) {
                    self.failure = Some((line, error));
                }
                state
            }
        };
        for ticket in outcome.tickets {
            let place = usize::try_from(ticket.0 - self.base).unwrap_or(usize::MAX);
            let Some(entry) = self.entries.get_mut(place) else {
                continue;
            };
            entry.state = state;
            if state == State::Written {
                self.written += 1;
                self.written_bytes += entry.bytes;
            }
        }
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.state == State::Written)
        {
            self.entries.pop_front();
            self.base += 1;
        }
    }

    /// The first line that could not be written, and why.
    pub fn failure(&self) -> Option<&(u64, ClientError)> {
        self.failure.as_ref()
    }

    /// The same, for good.
    pub fn into_failure(self) -> Option<(u64, ClientError)> {
        self.failure
    }

    /// Records written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The bytes of the lines written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Where everything stands.
    pub fn balance(&self) -> Balance {
        let count = |of: &[State]| {
            let entries = self.entries.iter();
            entries.filter(|entry| of.contains(&entry.state)).count() as u64
        };
        Balance {
            first_line: self.first_line,
            next_line: self.first_line + self.base,
            written: self.written,
            written_beyond: count(&[State::Written]),
            unknown: count(&[State::Unknown, State::Open]),
        }
    }
}

/// A broker that refuses has not written; where no answer came, nobody knows.
fn state_after(error: &ClientError) -> State {
    match error {
        ClientError::Disconnected { .. }
        | ClientError::TimedOut { .. }
        | ClientError::Malformed { .. } => State::Unknown,
        ClientError::Refused { code, .. } => match code {
            ottla_client::ErrorCode::NetworkException
            | ottla_client::ErrorCode::RequestTimedOut
            | ottla_client::ErrorCode::NotEnoughReplicasAfterAppend => State::Unknown,
            _ => State::Missing,
        },
        ClientError::Resolve { .. }
        | ClientError::Connect { .. }
        | ClientError::Unsupported { .. }
        | ClientError::Encode { .. }
        | ClientError::FrameTooLarge { .. }
        | ClientError::CorruptRecords { .. }
        | ClientError::UnknownNode(_)
        | ClientError::NotSent => State::Missing,
    }
}

impl Balance {
    /// What was written, in words; empty when nothing was.
    pub fn lines(&self) -> String {
        let mut text = match self.next_line - self.first_line {
            0 => String::new(),
            1 => format!("line {}", self.first_line),
            _ => format!("lines {} to {}", self.first_line, self.next_line - 1),
        };
        if self.written_beyond > 0 {
            let others = if text.is_empty() {
                format!("lines behind {}", self.next_line)
            } else {
                format!(" and {} behind {}", self.written_beyond, self.next_line)
            };
            text.push_str(&others);
        }
        text
    }

    /// How to go on.
    pub fn next_step(&self) -> String {
        let line = self.next_line;
        let mut text = format!("go on with line {line}: --from-line {line}");
        if self.written_beyond > 0 {
            let again = self.written_beyond;
            let _ = write!(text, " (it writes {again} records again)");
        }
        if self.unknown > 0 {
            let unknown = self.unknown;
            let _ = write!(
                text,
                "; {unknown} more may be written already, their answer did not come"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use ottla_client::{BatchOutcome, ClientError, Ticket, TopicPartition};

    use super::Ledger;

    fn settle(ledger: &mut Ledger, tickets: &[u64], result: Result<i64, ClientError>) {
        ledger.settle(BatchOutcome {
            partition: TopicPartition::new("t", 0),
            tickets: tickets.iter().map(|ticket| Ticket(*ticket)).collect(),
            result,
        });
    }

    fn ledger(lines: usize) -> Ledger {
        let mut ledger = Ledger::new(1);
        for _ in 0..lines {
            ledger.add(10);
        }
        ledger
    }

    #[test]
    fn the_next_line_is_the_first_that_is_not_written() {
        let mut ledger = ledger(6);
        settle(&mut ledger, &[0, 2], Ok(0));
        settle(&mut ledger, &[4], Err(ClientError::NotSent));
        settle(&mut ledger, &[1], Ok(0));
        let balance = ledger.balance();
        assert_eq!((balance.written, balance.next_line), (3, 4));
        assert_eq!(ledger.written_bytes(), 30);
        assert_eq!(balance.lines(), "lines 1 to 3");
        assert!(ledger.failure().is_none(), "what was not sent is no cause");
    }

    #[test]
    fn lines_that_are_written_out_of_order_are_told() {
        let mut ledger = ledger(4);
        settle(&mut ledger, &[0, 3], Ok(0));
        settle(&mut ledger, &[2], Err(ClientError::UnknownNode(1)));
        settle(&mut ledger, &[1], Err(ClientError::UnknownNode(1)));
        let balance = ledger.balance();
        assert_eq!(balance.lines(), "line 1 and 1 behind 2");
        let step = "go on with line 2: --from-line 2 (it writes 1 records again)";
        assert_eq!(balance.next_step(), step);
        assert_eq!(ledger.into_failure().unwrap().0, 2);
    }

    #[test]
    fn a_line_without_an_answer_is_neither_written_nor_not() {
        let mut ledger = ledger(2);
        let error = ClientError::TimedOut {
            address: "there".into(),
            api: ottla_protocol::messages::ApiKey::Produce,
            after: std::time::Duration::ZERO,
        };
        settle(&mut ledger, &[0], Err(error));
        settle(&mut ledger, &[1], Err(ClientError::NotSent));
        assert_eq!(ledger.balance().unknown, 1);
    }
}
