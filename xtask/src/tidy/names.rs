//! Files and items have no meaningless names.

use super::source::{Source, Tree};

const BANNED: &[&str] = &[
    "manager", "helper", "helpers", "util", "utils", "common", "misc", "types", "impl", "info",
];
/// The keywords before a new name.
const GIVES_NAMES: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "trait",
    "mod",
    "type",
    "const",
    "static",
    "macro_rules!",
    "union",
];

pub fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for source in tree.sources.iter().filter(|source| !source.is_generated()) {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        let stem = file.trim_end_matches(".rs");
        if let Some(word) = banned_word(stem) {
            problems.push(format!(
                "{} is called {word}; name it for what it holds",
                source.path
            ));
        }
        given(source, &mut problems);
    }
    problems
}

fn given(source: &Source, problems: &mut Vec<String>) {
    for (number, line) in source.code() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let [keyword, name] = pair else { continue };
            if !GIVES_NAMES.contains(keyword) {
                continue;
            }
            if let Some(word) = banned_word(name) {
                problems.push(format!(
                    "{}:{number} gives a name with `{word}` in it; say what it is or does",
                    source.path
                ));
            }
        }
    }
}

fn banned_word(name: &str) -> Option<&'static str> {
    let name = name
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()
        .unwrap_or_default();
    let words = words(name);
    BANNED
        .iter()
        .find(|banned| words.iter().any(|word| word == **banned))
        .copied()
}

/// `BrokerInfo`, `broker_info` and `BROKER_INFO` to `broker` and `info`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && after_small) {
            words.push(String::new());
        }
        after_small = letter.is_lowercase() || letter.is_numeric();
        if letter != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::banned_word;

    #[test]
    fn banned_words_are_found_as_words_only() {
        for name in [
            "BrokerInfo",
            "group_manager(",
            "misc",
            "CONFIG_TYPES:",
            "IoUtil<T>",
        ] {
            assert!(banned_word(name).is_some(), "{name}");
        }
        for name in [
            "information",
            "Implied",
            "commonly_used",
            "Timer",
            "f(info:",
        ] {
            assert!(banned_word(name).is_none(), "{name}");
        }
    }
}
