//! Records which lines of the input are written and which are not, and so from which line to go on.

use std::collections::VecDeque;
use std::fmt::Write as _;

use ottla_client::{BatchOutcome, ClientError, ErrorCode};

/// The state of the lines in order, from the first one that is not known to be written.
#[derive(Debug)]
pub struct Ledger {
    /// The number of the line that became the first record.
    first_line: u64,
    /// The ticket of the first entry.
    base: u64,
    entries: VecDeque<Entry>,
    written: u64,
    written_bytes: u64,
    failure: Option<Failure>,
}

/// A line that could not be written.
#[derive(Debug)]
pub struct Failure {
    pub line: u64,
    pub error: ClientError,
    /// Whether it may be written in spite of the error.
    is_in_doubt: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not sent, or not answered yet.
    Open,
    /// Acknowledged.
    Written,
    /// Not in the log.
    Missing,
    /// Sent, but no answer came: it may be in the log.
    Unknown,
}

/// The summary at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// The first line of the input that was read.
    pub first_line: u64,
    /// The first line that is not known to be written.
    pub next_line: u64,
    /// Records written.
    pub written: u64,
    /// How many of these are lines from `next_line` on.
    pub written_beyond: u64,
    /// Lines that may or may not be written.
    pub unknown: u64,
}

impl Ledger {
    /// An empty ledger; the first record comes from line `first_line`.
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

    /// Adds the next line, which was passed to the producer.
    pub fn add(&mut self, bytes: usize) {
        self.entries.push_back(Entry {
            bytes: bytes as u64,
            state: State::Open,
        });
    }

    /// Adds the outcome of a batch.
    pub fn settle(&mut self, outcome: BatchOutcome) {
        let first = outcome.tickets.first().map(|ticket| ticket.0);
        let is_in_doubt = outcome.is_in_doubt;
        let state = match outcome.result {
            Ok(_) => State::Written,
            Err(error) => {
                let line = first.unwrap_or(0) + self.first_line;
                let is_cause = !matches!(error, ClientError::NotSent);
                let is_first = |known: &Failure| line < known.line;
                if is_cause && self.failure.as_ref().is_none_or(is_first) {
                    self.failure = Some(Failure {
                        line,
                        error,
                        is_in_doubt,
                    });
                }
                if is_in_doubt {
                    State::Unknown
                } else {
                    State::Missing
                }
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
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// As [`failure`](Self::failure), by value.
    pub fn into_failure(self) -> Option<Failure> {
        self.failure
    }

    /// The number of lines without an outcome yet.
    pub fn open(&self) -> usize {
        let is_open = |entry: &&Entry| entry.state == State::Open;
        self.entries.iter().filter(is_open).count()
    }

    /// Records written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The bytes of the lines written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

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

impl Failure {
    /// The error message for the line.
    pub fn what(&self) -> String {
        let line = self.line;
        if self.is_in_doubt {
            format!("line {line} of the input is not known to be written")
        } else {
            format!("line {line} of the input was not written")
        }
    }

    /// The line's number, if the line itself is the cause.
    pub fn bad_line(&self) -> Option<u64> {
        let is_too_large = matches!(
            self.error.code(),
            Some(ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge)
        );
        is_too_large.then_some(self.line)
    }
}

impl Balance {
    /// The written lines as text; empty when there are none.
    pub fn lines(&self) -> String {
        let first = self.first_line;
        let last = self.next_line - 1;
        let later = match self.written_beyond {
            1 => "1 later line".to_owned(),
            count => format!("{count} later lines"),
        };
        match (self.next_line - first, self.written_beyond) {
            (0, 0) => String::new(),
            (0, 1) => format!("1 line after line {first}"),
            (0, count) => format!("{count} lines after line {first}"),
            (1, 0) => format!("line {first}"),
            (1, _) => format!("line {first}, and {later}"),
            (_, 0) => format!("lines {first} to {last}"),
            _ => format!("lines {first} to {last}, and {later}"),
        }
    }

    /// The next step: first `mended`, then how to go on, and how to skip `bad_line` if there is
    /// one.
    pub fn next_step(&self, mended: Option<String>, bad_line: Option<u64>, topic: &str) -> String {
        let line = self.next_line;
        let mut text = mended.map_or_else(String::new, |mended| format!("{mended}; then "));
        let _ = write!(text, "go on with --from-line {line}");
        match self.written_beyond {
            0 => {}
            1 => text.push_str(" (1 line is written again)"),
            count => {
                let _ = write!(text, " ({count} lines are written again)");
            }
        }
        if bad_line == Some(line) {
            let next = line + 1;
            let _ = write!(text, ", or leave line {line} out with --from-line {next}");
        }
        let unknown = self.unknown;
        let open = match unknown {
            0 => return text,
            1 => "1 line may be written already, as no answer came for it".to_owned(),
            _ => format!("{unknown} lines may be written already, as no answer came for them"),
        };
        let look = format!("ottla consume {topic} --from -{unknown} --exit");
        let _ = write!(text, "; {open}: `{look}` shows the end of each partition");
        text
    }
}

#[cfg(test)]
mod tests {
    use ottla_client::{BatchOutcome, ClientError, ErrorCode, Ticket, TopicPartition};

    use super::Ledger;

    fn settle(ledger: &mut Ledger, tickets: &[u64], result: Result<i64, ClientError>) {
        ledger.settle(outcome(tickets, result));
    }

    fn outcome(tickets: &[u64], result: Result<i64, ClientError>) -> BatchOutcome {
        BatchOutcome {
            partition: TopicPartition::new("t", 0),
            tickets: tickets.iter().map(|ticket| Ticket(*ticket)).collect(),
            result,
            is_in_doubt: false,
        }
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
        let mut ledger = ledger(5);
        settle(&mut ledger, &[0, 3], Ok(0));
        settle(&mut ledger, &[2], Err(ClientError::UnknownNode(1)));
        settle(&mut ledger, &[1], Err(ClientError::UnknownNode(1)));
        let balance = ledger.balance();
        assert_eq!(balance.lines(), "line 1, and 1 later line");
        assert_eq!(ledger.open(), 1);
        settle(&mut ledger, &[4], Ok(0));
        let balance = ledger.balance();
        assert_eq!(balance.lines(), "line 1, and 2 later lines");
        let step = "go on with --from-line 2 (2 lines are written again)";
        assert_eq!(balance.next_step(None, None, "t"), step);
        let failure = ledger.into_failure().unwrap();
        assert_eq!(failure.what(), "line 2 of the input was not written");
        assert_eq!(failure.bad_line(), None);
    }

    #[test]
    fn only_later_lines_are_told_by_the_line_before_them() {
        let mut ledger = ledger(3);
        settle(&mut ledger, &[1, 2], Ok(0));
        settle(&mut ledger, &[0], Err(ClientError::UnknownNode(1)));
        assert_eq!(ledger.balance().lines(), "2 lines after line 1");
    }

    #[test]
    fn a_bad_line_can_be_mended_or_left_out() {
        let mut ledger = ledger(2);
        settle(&mut ledger, &[0], Ok(0));
        let too_large = ClientError::Refused {
            what: "produce".to_owned(),
            code: ErrorCode::MessageTooLarge,
            message: None,
        };
        settle(&mut ledger, &[1], Err(too_large));
        let balance = ledger.balance();
        let bad_line = ledger.into_failure().unwrap().bad_line();
        assert_eq!(
            balance.next_step(Some("correct it".to_owned()), bad_line, "t"),
            "correct it; then go on with --from-line 2, or leave line 2 out with --from-line 3"
        );
        // Where lines before it are missing too, they would be left out with it.
        assert_eq!(
            balance.next_step(None, Some(3), "t"),
            "go on with --from-line 2"
        );
    }

    #[test]
    fn a_line_in_doubt_is_neither_written_nor_not() {
        let mut ledger = ledger(2);
        // The last attempt found no broker; an earlier one got no answer.
        let error = ClientError::UnknownNode(1);
        ledger.settle(BatchOutcome {
            is_in_doubt: true,
            ..outcome(&[0], Err(error))
        });
        settle(&mut ledger, &[1], Err(ClientError::NotSent));
        let balance = ledger.balance();
        assert_eq!(balance.unknown, 1);
        assert_eq!(
            balance.next_step(None, None, "t"),
            "go on with --from-line 1; 1 line may be written already, as no answer came for it: \
             `ottla consume t --from -1 --exit` shows the end of each partition"
        );
        assert_eq!(
            ledger.into_failure().unwrap().what(),
            "line 1 of the input is not known to be written"
        );
    }
}
