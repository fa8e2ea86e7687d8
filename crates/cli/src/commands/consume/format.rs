//! The format of `--format`, with the tokens of kcat's `-f`: `%t %p %o %k %s`.

use std::io::Write;
use std::str::FromStr;

use anyhow::Result;
use ottla_client::{ConsumedRecord, TopicPartition};

use super::headers::headers_text;
use crate::instant;

/// The text of `--help`.
pub const HELP: &str = "\
Print each record by this format instead: %t topic, %p partition, %o offset, %k key, %s value, %h headers, \
%T time in milliseconds, %D time as text, %K %S length of key and value (-1 for none), %R length of the value as a \
32-bit big-endian number, %% a percent sign; \\n \\r \\t \\0 \\xNN \\\\. No line end is added";

/// A format, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    ValueLengthBytes,
    Headers,
    Milliseconds,
    Time,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => literal.push(escaped(&mut letters)?),
                '%' => {
                    let token = letters.next();
                    let part = match token {
                        Some('%') => {
                            literal.push(b'%');
                            continue;
                        }
                        Some('t') => Part::Topic,
                        Some('p') => Part::Partition,
                        Some('o') => Part::Offset,
                        Some('k') => Part::Key,
                        Some('K') => Part::KeyLength,
                        Some('s') => Part::Value,
                        Some('S') => Part::ValueLength,
                        Some('R') => Part::ValueLengthBytes,
                        Some('h') => Part::Headers,
                        Some('T') => Part::Milliseconds,
                        Some('D') => Part::Time,
                        Some(other) => {
                            return Err(format!(
                                "%{other} is not a token; tokens are %t %p %o %k %K %s %S %R %h %T %D and %%"
                            ));
                        }
                        None => {
                            return Err(
                                "it ends in a single %; write %% for a percent sign".to_owned()
                            );
                        }
                    };
                    if !literal.is_empty() {
                        parts.push(Part::Bytes(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
                other => {
                    let mut bytes = [0; 4];
                    literal.extend_from_slice(other.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Bytes(literal));
        }
        Ok(Self(parts))
    }
}

fn escaped(letters: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match letters.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = letters.by_ref().take(2).collect();
            let is_whole = digits.len() == 2 && digits.bytes().all(|it| it.is_ascii_hexdigit());
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| is_whole);
            byte.ok_or_else(|| format!("\\x{digits} is not a byte of two hexadecimal digits"))
        }
        _ => Err("an escape is \\n, \\r, \\t, \\0, \\xNN or \\\\".to_owned()),
    }
}

impl Format {
    /// Prints a record, with `null` in place of a missing key or value.
    pub fn print(
        &self,
        out: &mut impl Write,
        (partition, record): (&TopicPartition, &ConsumedRecord),
        null: &str,
    ) -> Result<()> {
        let length = |bytes: Option<&[u8]>| {
            bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX))
        };
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        for part in &self.0 {
            match part {
                Part::Bytes(bytes) => out.write_all(bytes)?,
                Part::Topic => out.write_all(partition.topic.as_bytes())?,
                Part::Partition => write!(out, "{}", partition.partition)?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Key => out.write_all(key.unwrap_or(null.as_bytes()))?,
                Part::KeyLength => write!(out, "{}", length(key))?,
                Part::Value => out.write_all(value.unwrap_or(null.as_bytes()))?,
                Part::ValueLength => write!(out, "{}", length(value))?,
                Part::ValueLengthBytes => out.write_all(&length(value).to_be_bytes())?,
                Part::Headers => out.write_all(&headers_text(record, null, ""))?,
                Part::Milliseconds => write!(out, "{}", record.timestamp)?,
                Part::Time => write!(out, "{}", instant::format(record.timestamp))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_client::{ConsumedRecord, RecordHeader, TopicPartition};
    use ottla_protocol::records::TimestampType;

    use super::Format;

    fn printed(format: &str, key: Option<&'static str>) -> Vec<u8> {
        let record = ConsumedRecord {
            offset: 7,
            timestamp: 946_684_800_000,
            timestamp_type: TimestampType::CreateTime,
            key: key.map(Bytes::from),
            value: Some(Bytes::from("value")),
            headers: vec![RecordHeader {
                key: Bytes::from("a"),
                value: Some(Bytes::from("1,2")),
            }],
        };
        let mut out = Vec::new();
        let format: Format = format.parse().unwrap();
        let partition = TopicPartition::new("t", 3);
        format
            .print(&mut out, (&partition, &record), "NULL")
            .unwrap();
        out
    }

    #[test]
    fn each_token_prints_its_part() {
        let format = r"%t [%p] %o: %k=%s %h %T %D %K %S 100%%\x41\t\\\n";
        let expected =
            "t [3] 7: key=value a=1\\,2 946684800000 2000-01-01T00:00:00.000Z 3 5 100%A\t\\\n";
        assert_eq!(printed(format, Some("key")), expected.as_bytes());
        assert_eq!(printed("%k %K", None), b"NULL -1");
        assert_eq!(printed("%R", None), [0, 0, 0, 5]);
    }

    #[test]
    fn what_is_no_token_or_escape_is_refused() {
        for format in ["%y", "%", r"\q", r"\xg0", r"\x4", r"\x+4", r"\"] {
            assert!(format.parse::<Format>().is_err(), "{format}");
        }
    }
}
