//! The progress line, which is overwritten in place. It is shown on a terminal only.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

const EVERY: Duration = Duration::from_millis(500);
/// Returns to the first column and erases the line.
const CLEAR: &str = "\r\x1b[K";

#[derive(Debug)]
pub struct Progress {
    is_shown: bool,
    is_on_screen: bool,
    started: Instant,
    last: Instant,
    /// The file's name and size.
    file: Option<(String, u64)>,
}

impl Progress {
    /// Shows nothing if `is_wanted` is false or stderr is not a terminal.
    pub fn new(file: Option<(String, u64)>, is_wanted: bool) -> Self {
        Self {
            is_shown: is_wanted && io::stderr().is_terminal(),
            is_on_screen: false,
            started: Instant::now(),
            last: Instant::now(),
            file,
        }
    }

    /// Updates the line with these counts of records and of bytes of input, if the last update is
    /// old enough.
    pub fn show(&mut self, records: u64, bytes: u64) {
        if !self.is_shown || self.last.elapsed() < EVERY {
            return;
        }
        self.last = Instant::now();
        self.is_on_screen = true;
        let text = self.text(records, bytes);
        // A failed write of the progress line is not an error.
        let _ = write!(io::stderr(), "{CLEAR}{text}");
    }

    /// Erases the line, before another message is printed.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_on_screen) {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }

    fn text(&self, records: u64, bytes: u64) -> String {
        let share = match &self.file {
            Some((name, size)) if *size > 0 => {
                format!(", {} % of {name}", (bytes * 100 / size).min(100))
            }
            _ => String::new(),
        };
        format!("{records} records written{share}, {}", self.rate(bytes))
    }

    /// Bytes and bytes per second, as text; of little input only the bytes.
    pub fn rate(&self, bytes: u64) -> String {
        if bytes < 100_000 {
            return format!("{bytes} B");
        }
        let megabytes = bytes as f64 / 1e6;
        let seconds = self.started.elapsed().as_secs_f64();
        format!(
            "{megabytes:.1} MB, {:.1} MB/s",
            megabytes / seconds.max(1e-3)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn the_share_of_a_file_is_that_of_what_is_written() {
        let progress = Progress::new(Some(("orders.txt".to_owned(), 2_000_000)), true);
        let text = progress.text(5, 500_000);
        assert!(
            text.starts_with("5 records written, 25 % of orders.txt, 0.5 MB, "),
            "{text}"
        );
        let text = Progress::new(None, true).text(5, 500_000);
        assert!(text.starts_with("5 records written, 0.5 MB, "), "{text}");
        assert_eq!(progress.rate(14), "14 B");
    }
}
