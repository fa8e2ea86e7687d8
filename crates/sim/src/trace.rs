//! The events of a world, as one hash, so that two runs of a seed can be compared. The last events
//! are kept for the message of a failure; all events are kept as text only on request.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

/// The events that are kept.
const KEPT: usize = 80;

/// Something that happened: what, and up to three numbers that say which.
type Note = (Duration, &'static str, [i64; 3]);

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    notes: u64,
    last: VecDeque<Note>,
    /// Every event, if the trace is to be read.
    text: Option<String>,
}

impl Trace {
    pub fn new(is_readable: bool) -> Self {
        Self {
            hash: 0xCBF2_9CE4_8422_2325,
            notes: 0,
            last: VecDeque::with_capacity(KEPT),
            text: is_readable.then(String::new),
        }
    }

    pub fn note(&mut self, at: Duration, what: &'static str, numbers: [i64; 3]) {
        let words = numbers.map(i64::cast_unsigned);
        let named =
            what.len() as u64 ^ u64::from(what.as_bytes().last().copied().unwrap_or(0)) << 8;
        let time = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        for word in words.into_iter().chain([named, time]) {
            let mixed = (self.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.hash = mixed ^ mixed >> 29;
        }
        self.notes += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((at, what, numbers));
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{}", line((at, what, numbers)));
        }
    }

    /// The same for the same events.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn notes(&self) -> u64 {
        self.notes
    }

    pub fn last(&self) -> Vec<String> {
        self.last.iter().copied().map(line).collect()
    }

    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

fn line((at, what, numbers): Note) -> String {
    let [one, two, three] = numbers;
    format!("{:>12.6} {what} {one} {two} {three}", at.as_secs_f64())
}
