//! Prints to stdout: aligned tables for people, JSON for programs. Messages go to stderr.
//!
//! All that is written to stdout goes through [`Stdout`], so that a reader that has closed it can be told from a broken
//! connection.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::{Value, json};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables and lines.
    Text,
    /// JSON: one document, or one document a line where results stream.
    Json,
}

/// Stdout, locked. A write after its reader has closed it fails with [`ReaderGone`].
#[derive(Debug)]
pub struct Stdout(StdoutLock<'static>);

/// The reader of stdout has closed it, as `head` does. The command ends with success and without a message.
#[derive(Debug)]
struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of stdout has closed it")
    }
}

impl std::error::Error for ReaderGone {}

impl Stdout {
    pub fn lock() -> Self {
        Self(io::stdout().lock())
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(name_reader)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(name_reader)
    }
}

fn name_reader(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// Whether a command failed only because nobody reads its output any more. A connection to a broker breaks with
/// `BrokenPipe` too, and that is a failure.
pub fn is_reader_gone(error: &anyhow::Error) -> bool {
    let causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes
        .filter_map(io::Error::get_ref)
        .any(<dyn std::error::Error + Send + Sync>::is::<ReaderGone>)
}

/// Stdout with a buffer; a caller that streams must flush it.
pub fn stdout() -> BufWriter<Stdout> {
    BufWriter::with_capacity(64 * 1024, Stdout::lock())
}

/// Prints one JSON document.
pub fn print_json(document: &Value) -> Result<()> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, document).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Prints one line.
pub fn print_line(line: &str) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Whether messages are JSON objects; set once, before the command runs.
static MESSAGES_ARE_JSON: AtomicBool = AtomicBool::new(false);

/// Sets the format of [`message`].
pub fn write_messages_as(output: Output) {
    MESSAGES_ARE_JSON.store(output == Output::Json, Ordering::Relaxed);
}

/// Writes a message to stderr; it is not part of the result.
pub fn message(text: &str) {
    if MESSAGES_ARE_JSON.load(Ordering::Relaxed) {
        write_to_stderr(&json!({ "message": text }).to_string());
    } else {
        write_to_stderr(text);
    }
}

/// Writes a line to stderr in every format.
pub fn write_to_stderr(line: &str) {
    // A message that nobody can read is not an error.
    let _ = writeln!(io::stderr(), "{line}");
}

/// A table whose columns are as wide as their widest cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(titles: &[&str]) -> Self {
        Self {
            rows: vec![titles.iter().map(ToString::to_string).collect()],
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints the table to stdout.
    pub fn print(&self) -> Result<()> {
        let mut out = stdout();
        out.write_all(self.render().as_bytes())?;
        Ok(out.flush()?)
    }

    fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Bytes in JSON: a string where they are UTF-8, else `{"base64": …}`.
pub fn bytes_to_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!(text),
        Some((bytes, Err(_))) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// The inverse of [`bytes_to_json`]; a number or boolean stands for its text.
pub fn bytes_from_json(value: &Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        Value::Object(object) if object.len() == 1 && object.contains_key("base64") => {
            let encoded = object["base64"].as_str().unwrap_or_default();
            Ok(Some(STANDARD.decode(encoded)?))
        }
        other => Ok(Some(other.to_string().into_bytes())),
    }
}

/// The numbers as `1, 2, 3`.
pub fn join(numbers: &[i32]) -> String {
    let numbers = numbers.iter().map(ToString::to_string);
    numbers.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use anyhow::Context as _;
    use serde_json::json;

    use super::{Table, bytes_from_json, bytes_to_json, is_reader_gone, name_reader};

    #[test]
    fn a_broken_connection_is_no_reader_that_has_gone() {
        let broken = || io::Error::from(ErrorKind::BrokenPipe);
        let of_stdout = Err::<(), _>(name_reader(broken())).context("printing");
        assert!(is_reader_gone(&of_stdout.unwrap_err()));
        let of_a_socket = Err::<(), _>(broken()).context("asking a broker");
        assert!(!is_reader_gone(&of_a_socket.unwrap_err()));
        let other = name_reader(io::Error::from(ErrorKind::StorageFull));
        assert!(!is_reader_gone(&other.into()));
    }

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_spaces() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a".into(), "100".into()]);
        table.row(["longer".into(), "1".into()]);
        assert_eq!(table.render(), "NAME    N\na       100\nlonger  1\n");
    }

    #[test]
    fn bytes_survive_json() {
        for bytes in [None, Some(&b"text"[..]), Some(&[0xff, 0x00]), Some(b"")] {
            let back = bytes_from_json(&bytes_to_json(bytes)).unwrap();
            assert_eq!(back.as_deref(), bytes);
        }
        let object = json!({"a": 1});
        assert_eq!(bytes_from_json(&object).unwrap().unwrap(), b"{\"a\":1}");
    }
}
