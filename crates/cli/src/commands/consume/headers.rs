//! The headers of a record as text that `ottla produce` can read.

use ottla_client::ConsumedRecord;

/// `key=value,key=value`, with a backslash before each separator in keys and values, so that `ottla
/// produce` can parse it. `behind` is the separator that follows the headers.
pub fn headers_text(record: &ConsumedRecord, null: &str, behind: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let begins = behind.as_bytes().first().copied();
    let special: Vec<_> = b"\\,".iter().copied().chain(begins).collect();
    let special_in_key: Vec<_> = special.iter().copied().chain([b'=']).collect();
    for header in &record.headers {
        if !text.is_empty() {
            text.push(b',');
        }
        escape_into(&mut text, &header.key, &special_in_key);
        text.push(b'=');
        match &header.value {
            Some(value) => escape_into(&mut text, value, &special),
            None => text.extend_from_slice(null.as_bytes()),
        }
    }
    text
}

fn escape_into(text: &mut Vec<u8>, bytes: &[u8], special: &[u8]) {
    for byte in bytes {
        if special.contains(byte) {
            text.push(b'\\');
        }
        text.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_client::{ConsumedRecord, RecordHeader};
    use ottla_protocol::records::TimestampType;

    use super::headers_text;

    #[test]
    fn what_would_end_a_header_when_it_is_read_has_a_backslash_before_it() {
        let record = ConsumedRecord {
            offset: 0,
            timestamp: 0,
            timestamp_type: TimestampType::CreateTime,
            key: None,
            value: None,
            headers: vec![RecordHeader {
                key: Bytes::from_static(b"a=b\tc"),
                value: Some(Bytes::from_static(b"1,2=3\t4\\5")),
            }],
        };
        let text = |behind| String::from_utf8(headers_text(&record, "null", behind)).unwrap();
        assert_eq!(text("\t"), "a\\=b\\\tc=1\\,2=3\\\t4\\\\5");
        assert_eq!(text(" | "), "a\\=b\tc=1\\,2=3\t4\\\\5");
    }
}
