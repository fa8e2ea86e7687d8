//! Offsets in a file: CSV as `kafka-consumer-groups --reset-offsets --export` writes it and `--from-file` reads it.
//!
//! A line is `topic,partition,offset`, or `group,topic,partition,offset` in a file for several
//! groups. Kafka's tool puts quotes around names with special characters.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use ottla_client::TopicPartition;

/// The offsets that a file holds for a group.
pub fn parse(text: &str, group: &str) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut offsets = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let what = || {
            format!(
                "line {} of the file: {line:?} is not topic,partition,offset or group,topic,partition,offset",
                number + 1
            )
        };
        let fields = fields(line).with_context(what)?;
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        if number == 0 && is_header(&fields) {
            continue;
        }
        let (topic, partition, offset) = match fields[..] {
            [topic, partition, offset] => (topic, partition, offset),
            [of, topic, partition, offset] if of == group => (topic, partition, offset),
            [_, _, _, _] => continue,
            _ => bail!(what()),
        };
        let are_numbers = || {
            format!(
                "line {} of the file: partition and offset are numbers, not {partition:?} and {offset:?}",
                number + 1
            )
        };
        let index = partition.parse().ok().filter(|index: &i32| *index >= 0);
        let partition = index.with_context(are_numbers)?;
        let offset = offset.parse().ok().with_context(are_numbers)?;
        let key = TopicPartition::new(topic, partition);
        if offsets.insert(key.clone(), offset).is_some() {
            bail!("line {} of the file: {key} appears twice", number + 1);
        }
    }
    if offsets.is_empty() {
        bail!("the file holds no offsets for group {group}");
    }
    Ok(offsets)
}

/// Whether the line names the columns. Spreadsheets write such a first line; Kafka's tool does not.
fn is_header(fields: &[&str]) -> bool {
    matches!(
        fields,
        ["topic", "partition", "offset"] | ["group", "topic", "partition", "offset"]
    )
}

/// One line of the file.
pub fn line(partition: &TopicPartition, offset: i64) -> String {
    // A topic's name has no characters that CSV would quote.
    format!("{},{},{offset}", partition.topic, partition.partition)
}

/// The fields of a line; `"a ""b"""` is `a "b"`. `None` when a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut letters = line.trim_end().chars().peekable();
    let mut is_quoted = false;
    while let Some(letter) = letters.next() {
        let field = fields.last_mut()?;
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    (!is_quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::{line, parse};
    use ottla_client::TopicPartition;

    #[test]
    fn what_is_exported_is_read() {
        let partition = TopicPartition::new("orders.v1", 3);
        let read = parse(&line(&partition, 42), "billing").unwrap();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), [(partition, 42)]);
    }

    #[test]
    fn a_file_about_several_groups_gives_each_its_own() {
        let text = "billing,orders,0,5\n\"audit, old\",orders,0,7\n\nbilling,orders,1,6\n";
        let billing: Vec<_> = parse(text, "billing").unwrap().into_values().collect();
        assert_eq!(billing, [5, 6]);
        let audit: Vec<_> = parse(text, "audit, old").unwrap().into_values().collect();
        assert_eq!(audit, [7]);
        assert!(parse(text, "nobody").is_err());
    }

    #[test]
    fn a_first_line_may_name_the_columns() {
        for text in [
            "topic,partition,offset\norders,0,7\n",
            "group,topic,partition,offset\nbilling,orders,0,7\n",
        ] {
            let read: Vec<_> = parse(text, "billing").unwrap().into_values().collect();
            assert_eq!(read, [7], "{text}");
        }
        let later = parse("orders,0,7\ntopic,partition,offset\n", "billing");
        let error = later.unwrap_err().to_string();
        assert!(
            error.contains("line 2 of the file: partition and offset are numbers"),
            "{error}"
        );
    }

    #[test]
    fn a_line_that_is_no_offset_is_named() {
        for text in [
            "orders,0",
            "orders,x,1",
            "orders,-1,1",
            "orders,0,1\norders,0,2",
            "\"orders,0,1",
        ] {
            let error = parse(text, "billing").unwrap_err().to_string();
            assert!(error.contains("of the file"), "{error}");
        }
    }
}
