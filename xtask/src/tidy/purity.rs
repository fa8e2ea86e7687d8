//! Pure crates use no runtime, files, sockets, clock or randomness, and no map with random order; `log` no async; `replica`
//! no particular disk besides.

use super::layers;
use super::source::{Source, Tree};
use crate::toolbox;

const PURE: &[&str] = &[
    "protocol",
    "metadata",
    "controller",
    "replication",
    "coordinator",
];

/// Crates that bring the outside in.
const OUTSIDE_CRATES: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "futures",
    "socket2",
    "rustix",
    "libc",
    "nix",
    "rand",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
    "axum",
    "tracing",
    "tracing-subscriber",
    "prometheus-client",
    "tempfile",
];
const ASYNC_CRATES: &[&str] = &["tokio", "mio", "async-std", "futures", "axum", "socket2"];

/// What pure code does not say, and what it takes instead.
const OUTSIDE_WORDS: &[(&str, &str)] = &[
    ("std::fs", "take bytes from the caller"),
    ("std::net", "take addresses as data"),
    (
        "std::thread",
        "return what should happen; the owner does it",
    ),
    ("std::process", "return an error; the owner decides"),
    ("Instant::now", "take `time::Now` as an argument"),
    ("SystemTime", "take `time::Now` as an argument"),
    (
        "HashMap",
        "use `BTreeMap` or `imbl::OrdMap`: its order is the same in every run",
    ),
    (
        "HashSet",
        "use `BTreeSet` or `imbl::OrdSet`: its order is the same in every run",
    ),
    ("async fn", "return what should happen; the owner waits"),
];
/// `replica` serves any disk: a simulation drives it over one that fails.
const DISK: (&str, &str) = ("files::disk", "be generic over `Files`");
const ASYNC_WORDS: &[(&str, &str)] = &[
    ("async ", "it is synchronous; the broker waits"),
    (".await", "it is synchronous"),
];

pub fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for name in PURE {
        check_dependencies(name, OUTSIDE_CRATES, &mut problems);
    }
    for name in ["log", "replica"] {
        check_dependencies(name, ASYNC_CRATES, &mut problems);
    }
    for source in &tree.sources {
        let Some(name) = source.crate_name() else {
            continue;
        };
        if source.is_tests() {
            continue;
        }
        if PURE.contains(&name) {
            check_words(source, OUTSIDE_WORDS, &mut problems);
        }
        if name == "replica" {
            check_words(source, OUTSIDE_WORDS, &mut problems);
            check_words(source, &[DISK], &mut problems);
        }
        if name == "log" || name == "replica" {
            check_words(source, ASYNC_WORDS, &mut problems);
        }
    }
    problems
}

fn check_dependencies(name: &str, banned: &[&str], problems: &mut Vec<String>) {
    let directory = toolbox::workspace().join("crates").join(name);
    for dependency in layers::dependencies(&directory) {
        if banned.contains(&dependency.as_str()) {
            problems.push(format!(
                "crates/{name} depends on {dependency}; what needs it belongs into an outer crate"
            ));
        }
    }
}

fn check_words(source: &Source, banned: &[(&str, &str)], problems: &mut Vec<String>) {
    for (number, line) in source.code() {
        for (word, instead) in banned {
            if line.contains(word) {
                problems.push(format!(
                    "{}:{number} says `{}`; {instead}",
                    source.path,
                    word.trim()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OUTSIDE_WORDS, check_words};
    use crate::tidy::source::Source;

    #[test]
    fn a_clock_in_a_pure_crate_is_found_outside_comments_and_tests() {
        let text = "// Instant::now\nlet now = Instant::now();\n#[cfg(test)]\nmod tests {\n    Instant::now();\n}\n";
        let source = Source {
            path: "crates/metadata/src/x.rs".to_owned(),
            text: text.to_owned(),
        };
        let mut problems = Vec::new();
        check_words(&source, OUTSIDE_WORDS, &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}
