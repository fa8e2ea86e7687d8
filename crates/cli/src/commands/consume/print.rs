//! How a record looks on stdout.

use std::io::Write;

use anyhow::Result;
use ottla_client::{ConsumedRecord, TopicPartition};
use ottla_protocol::records::TimestampType;
use serde_json::{Value, json};

use super::format::Format;
use super::headers::headers_text;
use crate::instant;
use crate::output::{Output, bytes_to_json};

/// Which parts of a record are printed, and how.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Style {
    /// Text or JSON. JSON has all parts, whatever the other fields say.
    pub output: Output,
    pub keys: bool,
    pub headers: bool,
    pub timestamps: bool,
    /// Print topic, partition and offset.
    pub offsets: bool,
    /// The text between the parts.
    pub separator: String,
    /// The text for a missing key or value.
    pub null: String,
    /// `--format`, which replaces the fields above.
    pub format: Option<Format>,
}

impl Style {
    /// Prints one record and a line end. A format adds no line end.
    pub fn print(
        &self,
        out: &mut impl Write,
        partition: &TopicPartition,
        record: &ConsumedRecord,
    ) -> Result<()> {
        match self.output {
            Output::Json => serde_json::to_writer(&mut *out, &to_json(partition, record))?,
            Output::Text => match &self.format {
                Some(format) => return format.print(out, (partition, record), &self.null),
                None => self.print_text(out, partition, record)?,
            },
        }
        Ok(out.write_all(b"\n")?)
    }

    fn print_text(
        &self,
        out: &mut impl Write,
        partition: &TopicPartition,
        record: &ConsumedRecord,
    ) -> Result<()> {
        let separator = &self.separator;
        if self.timestamps {
            write!(out, "{}{separator}", instant::format(record.timestamp))?;
        }
        if self.offsets {
            write!(out, "{partition}:{}{separator}", record.offset)?;
        }
        if self.headers {
            out.write_all(&headers_text(record, &self.null, separator))?;
            out.write_all(separator.as_bytes())?;
        }
        let null = self.null.as_bytes();
        if self.keys {
            out.write_all(record.key.as_deref().unwrap_or(null))?;
            out.write_all(separator.as_bytes())?;
        }
        Ok(out.write_all(record.value.as_deref().unwrap_or(null))?)
    }
}

fn to_json(partition: &TopicPartition, record: &ConsumedRecord) -> Value {
    let headers = record.headers.iter().map(|header| {
        json!({
            "key": bytes_to_json(Some(&header.key)),
            "value": bytes_to_json(header.value.as_deref()),
        })
    });
    let timestamp_type = match record.timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    json!({
        "topic": partition.topic,
        "partition": partition.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": timestamp_type,
        "time": instant::format(record.timestamp),
        "key": bytes_to_json(record.key.as_deref()),
        "value": bytes_to_json(record.value.as_deref()),
        "headers": headers.collect::<Value>(),
    })
}
