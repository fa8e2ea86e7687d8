//! Java's properties format, in which `server.properties` is written.
//!
//! A comment starts with `#` or `!`. A key ends at `=`, `:` or white space. A backslash at the end of a line joins the line
//! to the next one; elsewhere it escapes one character (`\t`, `\n`, `\r`, `\f`, `\uXXXX`, or the character itself).

/// One entry of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line it starts on, from 1.
    pub line: usize,
    /// The key, without escapes.
    pub key: String,
    /// The value, without escapes.
    pub value: String,
}

/// All entries of a file, in their order.
pub fn parse(text: &str) -> Vec<Entry> {
    logical_lines(text)
        .into_iter()
        .map(|(line, content)| {
            let (key, value) = split(&content);
            Entry {
                line,
                key: unescape(key),
                value: unescape(value),
            }
        })
        .collect()
}

/// The lines with their continuations joined, without blank lines and comments.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut logical: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, natural) in text.split(['\n', '\r']).enumerate() {
        let content = natural.trim_start_matches(is_blank);
        if !continues && (content.is_empty() || content.starts_with(['#', '!'])) {
            continue;
        }
        let escaped = content.len() - content.trim_end_matches('\\').len();
        let ends_open = escaped % 2 == 1;
        let content = if ends_open {
            &content[..content.len() - 1]
        } else {
            content
        };
        match logical.last_mut() {
            Some((_, joined)) if continues => joined.push_str(content),
            _ => logical.push((line_number(text, index), content.to_owned())),
        }
        continues = ends_open;
    }
    logical
}

/// The number of the line that a piece is on; `\r\n` is one end of line.
fn line_number(text: &str, piece: usize) -> usize {
    let before = text.split_inclusive(['\n', '\r']).take(piece);
    let pieces: Vec<&str> = before.collect();
    let empty_halves = pieces
        .windows(2)
        .filter(|pair| pair[0].ends_with('\r') && pair[1] == "\n")
        .count();
    piece - empty_halves + 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|character: char| {
        let ends = !escaped && (is_blank(character) || matches!(character, '=' | ':'));
        escaped = character == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c')
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => plain.push(unicode(&mut characters)),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

/// The character of the next four hexadecimal digits; the replacement character where they are no character.
fn unicode(characters: &mut std::str::Chars<'_>) -> char {
    let digits: String = characters.by_ref().take(4).collect();
    u32::from_str_radix(&digits, 16)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text)
            .into_iter()
            .map(|entry| (entry.line, entry.key, entry.value))
            .collect()
    }

    #[test]
    fn keys_and_values_are_split_as_java_splits_them() {
        for line in [
            "a.b=c d",
            "a.b = c d",
            "a.b:c d",
            "a.b c d",
            "  a.b\t:  c d",
        ] {
            assert_eq!(
                pairs(line),
                [(1, "a.b".to_owned(), "c d".to_owned())],
                "{line}"
            );
        }
        assert_eq!(pairs("a==b"), [(1, "a".to_owned(), "=b".to_owned())]);
        assert_eq!(pairs("a"), [(1, "a".to_owned(), String::new())]);
        assert_eq!(pairs("a\\=b=c "), [(1, "a=b".to_owned(), "c ".to_owned())]);
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_counted() {
        let text = "# a=b\r\n\r\n  ! c=d\r\ne=f\r\n\ng=h # no comment";
        assert_eq!(
            pairs(text),
            [
                (4, "e".to_owned(), "f".to_owned()),
                (6, "g".to_owned(), "h # no comment".to_owned())
            ]
        );
    }

    #[test]
    fn a_backslash_joins_lines_and_escapes() {
        assert_eq!(
            pairs("a=b,\\\n   c\nd=e\\\\\nf=\\u00e9\\t\\q"),
            [
                (1, "a".to_owned(), "b,c".to_owned()),
                (3, "d".to_owned(), "e\\".to_owned()),
                (4, "f".to_owned(), "é\tq".to_owned())
            ]
        );
    }
}
