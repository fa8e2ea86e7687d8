//! Pure crates use no runtime, files, sockets, clock or randomness, and no map with random order. `log` is not async.
//! `replica` is pure, and names no particular disk.

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

/// Crates that pure crates may not use, because they reach the outside.
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

/// Words that pure code may not use, and what to do instead.
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
    (
        "RandomState",
        "take the keys of a hash from the caller: they are the same in every run of a seed",
    ),
    ("async fn", "return what should happen; the owner waits"),
];
/// The only one of [`OUTSIDE_CRATES`] that `replica` may use: it logs.
const LOGGING: &str = "tracing";
/// `replica` must work on any disk, because the simulation drives it on one that fails.
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
    check_dependencies("log", ASYNC_CRATES, &mut problems);
    let outside = OUTSIDE_CRATES.iter().copied();
    let outside: Vec<&str> = outside.filter(|name| *name != LOGGING).collect();
    check_dependencies("replica", &outside, &mut problems);
    for source in tree.sources.iter().filter(|source| !source.is_tests()) {
        check_source(source, &mut problems);
    }
    problems
}

fn check_source(source: &Source, problems: &mut Vec<String>) {
    let name = source.crate_name().unwrap_or_default();
    if PURE.contains(&name) || name == "replica" {
        check_words(source, OUTSIDE_WORDS, problems);
    }
    if name == "replica" {
        check_words(source, &[DISK], problems);
    }
    if name == "log" || name == "replica" {
        check_words(source, ASYNC_WORDS, problems);
    }
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
    use super::check_source;
    use crate::tidy::source::Source;

    fn problems(path: &str, text: &str) -> usize {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut problems = Vec::new();
        check_source(&source, &mut problems);
        problems.len()
    }

    #[test]
    fn a_clock_in_a_pure_crate_is_found_outside_comments_and_tests() {
        let text = "// Instant::now\nlet now = Instant::now();\n#[cfg(test)]\nmod tests {\n    Instant::now();\n}\n";
        assert_eq!(problems("crates/metadata/src/x.rs", text), 1);
        assert_eq!(problems("crates/replica/src/x.rs", text), 1);
        assert_eq!(problems("crates/broker/src/x.rs", text), 0);
    }

    #[test]
    fn replica_has_no_random_order_no_async_and_no_particular_disk() {
        for line in [
            "use std::collections::HashMap;",
            "use std::hash::RandomState;",
            "use ottla_log::files::disk::Disk;",
            "std::thread::scope(|_| ());",
            "let done = flush.await;",
        ] {
            assert_eq!(problems("crates/replica/src/x.rs", line), 1, "{line}");
        }
        assert_eq!(
            problems("crates/log/src/x.rs", "use std::hash::RandomState;"),
            0
        );
    }
}
