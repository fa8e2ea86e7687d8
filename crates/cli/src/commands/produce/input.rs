//! Reads lines of input and parses them into records.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use bytes::Bytes;
use clap::ValueEnum;
use ottla_client::{ProducerRecord, RecordHeader};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::output::bytes_from_json;

/// The queue between the reader and the producer holds this many chunks; the reader waits when it
/// is full.
const QUEUE_CHUNKS: usize = 16;
/// The size of a chunk of lines.
const CHUNK_BYTES: usize = 64 * 1024;

type Source = BufReader<Box<dyn Read + Send>>;

/// A chunk of lines, without their line ends.
pub type Lines = io::Result<Vec<Vec<u8>>>;

/// The format of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A record is a line.
    Lines,
    /// A record is a line of JSON as `ottla consume --output json` prints it.
    Json,
}

/// The options that hold for all records.
#[derive(Debug)]
pub struct Parsing {
    pub format: Format,
    pub topic: String,
    /// The partition, instead of the one that the key selects.
    pub partition: Option<i32>,
    /// The key of all records.
    pub key: Option<Bytes>,
    /// What separates headers from the rest of a line.
    pub header_separator: Option<Bytes>,
    /// What separates key and value in a line.
    pub key_separator: Option<Bytes>,
    /// The text that becomes a null value.
    pub null_value: Option<Bytes>,
    /// The headers of all records.
    pub headers: Vec<(Bytes, Bytes)>,
}

#[derive(Debug)]
pub struct LineParser {
    parsing: Parsing,
    headers: Vec<RecordHeader>,
    line_number: u64,
}

impl LineParser {
    /// A parser whose first line has this number.
    pub fn new(parsing: Parsing, first_line: u64) -> Self {
        let headers = parsing.headers.iter().map(|(key, value)| RecordHeader {
            key: key.clone(),
            value: Some(value.clone()),
        });
        Self {
            headers: headers.collect(),
            parsing,
            line_number: first_line - 1,
        }
    }

    /// The number of the last line that was parsed.
    pub fn line(&self) -> u64 {
        self.line_number
    }

    /// Parses the next line.
    pub fn parse(&mut self, line: Vec<u8>, now_ms: i64) -> Result<ProducerRecord> {
        self.line_number += 1;
        let record = match self.parsing.format {
            Format::Lines => self.parse_line(Bytes::from(line), now_ms),
            Format::Json => self.parse_json(&line, now_ms),
        };
        record.with_context(|| format!("line {} of the input", self.line_number))
    }

    fn parse_line(&self, line: Bytes, now_ms: i64) -> Result<ProducerRecord> {
        let (headers, line) = match &self.parsing.header_separator {
            None => (Vec::new(), line),
            Some(separator) => {
                let Some(at) = find_unescaped(&line, separator) else {
                    let shown = String::from_utf8_lossy(separator);
                    bail!("it has no header separator {shown:?}");
                };
                let headers = self.parse_headers(&line[..at])?;
                (headers, line.slice(at + separator.len()..))
            }
        };
        let (key, value) = match &self.parsing.key_separator {
            None => (self.parsing.key.clone(), line),
            Some(separator) => {
                let Some(at) = find(&line, separator) else {
                    let shown = String::from_utf8_lossy(separator);
                    bail!("it has no key separator {shown:?}");
                };
                (Some(line.slice(..at)), line.slice(at + separator.len()..))
            }
        };
        let mut record = self.record(key, self.unless_null(value), now_ms);
        record.headers.extend(headers);
        Ok(record)
    }

    fn unless_null(&self, value: Bytes) -> Option<Bytes> {
        let is_null = self.parsing.null_value.as_ref() == Some(&value);
        (!is_null).then_some(value)
    }

    /// Parses `KEY=VALUE,KEY=VALUE`, as `ottla consume --headers` prints it. A backslash escapes a
    /// special character.
    fn parse_headers(&self, text: &[u8]) -> Result<Vec<RecordHeader>> {
        let mut headers = Vec::new();
        let mut key = None;
        let mut part = Vec::new();
        let mut bytes = text.iter();
        loop {
            let byte = bytes.next();
            match byte {
                Some(b'\\') => part.extend(bytes.next()),
                Some(b'=') if key.is_none() => key = Some(std::mem::take(&mut part)),
                None if headers.is_empty() && key.is_none() && part.is_empty() => break,
                Some(b',') | None => {
                    let Some(key) = key.take() else {
                        let shown = String::from_utf8_lossy(&part);
                        bail!("its header {shown:?} is not KEY=VALUE");
                    };
                    headers.push(RecordHeader {
                        key: Bytes::from(key),
                        value: self.unless_null(Bytes::from(std::mem::take(&mut part))),
                    });
                    if byte.is_none() {
                        break;
                    }
                }
                Some(other) => part.push(*other),
            }
        }
        Ok(headers)
    }

    fn parse_json(&self, line: &[u8], now_ms: i64) -> Result<ProducerRecord> {
        let document: Value = serde_json::from_slice(line).map_err(|error| not_json(&error))?;
        let Value::Object(fields) = &document else {
            bail!("it is not a JSON object like {{\"key\": …, \"value\": …}}");
        };
        let known = [
            "topic",
            "partition",
            "offset",
            "timestamp",
            "timestamp_type",
            "time",
            "key",
            "value",
            "headers",
        ];
        if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
            bail!(
                "it has an unknown field {unknown:?}; known are {}",
                known.join(", ")
            );
        }
        let bytes = |field| -> Result<Option<Bytes>> {
            let value = fields.get(field).map_or(Ok(None), bytes_from_json)?;
            Ok(value.map(Bytes::from))
        };
        let key = bytes("key")?.or_else(|| self.parsing.key.clone());
        let timestamp = fields
            .get("timestamp")
            .and_then(Value::as_i64)
            .filter(|at| *at >= 0);
        let mut record = self.record(key, bytes("value")?, timestamp.unwrap_or(now_ms));
        if let Some(headers) = fields.get("headers").and_then(Value::as_array) {
            for header in headers {
                let part = |name| header.get(name).map_or(Ok(None), bytes_from_json);
                record.headers.push(RecordHeader {
                    key: Bytes::from(part("key")?.context("a header without a key")?),
                    value: part("value")?.map(Bytes::from),
                });
            }
        }
        Ok(record)
    }

    fn record(&self, key: Option<Bytes>, value: Option<Bytes>, timestamp: i64) -> ProducerRecord {
        ProducerRecord {
            topic: self.parsing.topic.clone(),
            partition: self.parsing.partition,
            key,
            value,
            headers: self.headers.clone(),
            timestamp,
        }
    }
}

/// Takes serde's line number out of the message: the document is one line, and the context names
/// its line of the input.
fn not_json(error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let column = error.column();
    let place = format!(" at line {} column {column}", error.line());
    let what = text.strip_suffix(&place).unwrap_or(&text);
    anyhow!("it is not JSON: {what} (column {column})")
}

/// The first separator that no backslash escapes.
fn find_unescaped(line: &[u8], separator: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < line.len() {
        if line[at..].starts_with(separator) {
            return Some(at);
        }
        at += if line[at] == b'\\' { 2 } else { 1 };
    }
    None
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len())
        .position(|window| window == separator)
}

/// Starts the thread that reads a file or stdin; the chunks arrive on the channel.
pub fn read(file: Option<&Path>) -> Result<mpsc::Receiver<Lines>> {
    let (lines, received) = mpsc::channel(QUEUE_CHUNKS);
    let source: Box<dyn Read + Send> = match file {
        Some(path) => Box::new(open(path)?),
        None => Box::new(io::stdin()),
    };
    let source = BufReader::with_capacity(CHUNK_BYTES, source);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || send_lines(source, &lines))
        .context("cannot start the reader")?;
    Ok(received)
}

/// The name and size of a file; `None` for a pipe or a device.
pub fn size(path: &Path) -> Option<(String, u64)> {
    let metadata = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some((name, metadata.len()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file that the user names, read once"
)]
fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn send_lines(mut source: Source, lines: &mpsc::Sender<Lines>) {
    loop {
        let chunk = read_chunk(&mut source);
        let is_last = chunk.as_ref().map_or(true, Vec::is_empty);
        let is_end = matches!(&chunk, Ok(lines) if lines.is_empty());
        if is_end || lines.blocking_send(chunk).is_err() || is_last {
            return;
        }
    }
}

/// Reads the lines that are available, so that a chunk never waits for later input.
fn read_chunk(source: &mut Source) -> Lines {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while let Some(line) = read_line(source)? {
        bytes += line.len();
        chunk.push(line);
        if bytes >= CHUNK_BYTES || !source.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(chunk)
}

fn read_line(source: &mut Source) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if source.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::{Format, LineParser, Parsing};
    use bytes::Bytes;
    use ottla_client::ProducerRecord;

    fn parse(format: Format, line: &str) -> anyhow::Result<ProducerRecord> {
        let parsing = Parsing {
            format,
            topic: "t".into(),
            partition: None,
            key: None,
            header_separator: None,
            key_separator: Some(Bytes::from_static(b"::")),
            null_value: Some(Bytes::from_static(b"NULL")),
            headers: vec![(Bytes::from_static(b"h"), Bytes::from_static(b"1"))],
        };
        LineParser::new(parsing, 1).parse(line.as_bytes().to_vec(), 7)
    }

    fn with_headers(line: &[u8]) -> anyhow::Result<ProducerRecord> {
        let parsing = Parsing {
            format: Format::Lines,
            topic: "t".into(),
            partition: None,
            key: None,
            header_separator: Some(Bytes::from_static(b"\t")),
            key_separator: Some(Bytes::from_static(b"\t")),
            null_value: Some(Bytes::from_static(b"null")),
            headers: Vec::new(),
        };
        LineParser::new(parsing, 41).parse(line.to_vec(), 7)
    }

    #[test]
    fn headers_of_a_line_are_its_first_part() {
        let record = with_headers(b"a=1\\,2,b\\=c=x=y,d=null\tkey\tvalue").unwrap();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let headers = record.headers.iter();
        let headers: Vec<_> = headers
            .map(|header| (text(&header.key), header.value.as_ref().map(text)))
            .collect();
        let value = |text: &str| Some(text.to_owned());
        let expected = [
            ("a".to_owned(), value("1,2")),
            ("b=c".to_owned(), value("x=y")),
            ("d".to_owned(), None),
        ];
        assert_eq!(headers, expected);
        assert_eq!(
            (record.key.unwrap(), record.value.unwrap()),
            ("key".into(), "value".into())
        );
        assert!(with_headers(b"\tkey\tvalue").unwrap().headers.is_empty());
    }

    #[test]
    fn a_separator_behind_a_backslash_is_part_of_its_header() {
        let record = with_headers(b"a=1\\\t2\\\\\tkey\tvalue").unwrap();
        assert_eq!(record.headers[0].value.as_deref(), Some(&b"1\t2\\"[..]));
        assert_eq!(record.key.unwrap(), "key");
    }

    #[test]
    fn a_header_that_is_none_names_its_line() {
        let error = format!("{:#}", with_headers(b"a\tk\tv").unwrap_err());
        assert_eq!(
            error,
            "line 41 of the input: its header \"a\" is not KEY=VALUE"
        );
    }

    #[test]
    fn a_line_is_split_at_its_first_separator() {
        let record = parse(Format::Lines, "k::v::w").unwrap();
        assert_eq!(record.key.unwrap(), "k");
        assert_eq!(record.value.unwrap(), "v::w");
        assert_eq!(record.timestamp, 7);
        assert_eq!(record.headers.len(), 1);
    }

    #[test]
    fn a_line_without_separator_names_its_number() {
        let error = format!("{:#}", parse(Format::Lines, "k:v").unwrap_err());
        assert_eq!(error, "line 1 of the input: it has no key separator \"::\"");
    }

    #[test]
    fn the_null_value_is_no_value() {
        assert_eq!(parse(Format::Lines, "k::NULL").unwrap().value, None);
        assert_eq!(parse(Format::Lines, "k::").unwrap().value.unwrap(), "");
    }

    #[test]
    fn what_consume_prints_is_read() {
        let line = r#"{"offset":3,"key":{"base64":"/wA="},"value":null,"timestamp":9,
                       "headers":[{"key":"a","value":"b"}]}"#;
        let record = parse(Format::Json, line).unwrap();
        assert_eq!(record.key.unwrap(), &[0xff, 0][..]);
        assert_eq!((record.value, record.timestamp), (None, 9));
        assert_eq!(record.headers[1].key, "a");
        assert!(parse(Format::Json, r#"{"vaule": 1}"#).is_err());
    }

    #[test]
    fn what_is_not_json_is_told_by_one_line_number() {
        let error = format!("{:#}", parse(Format::Json, "{1: 2}").unwrap_err());
        assert_eq!(
            error,
            "line 1 of the input: it is not JSON: key must be a string (column 2)"
        );
    }
}
