//! The files that documents link to, and the source files that they name, must exist.

use std::path::Path;

use super::source::{Source, Tree};
use crate::toolbox;

pub fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in &tree.documents {
        let directory = toolbox::workspace().join(path);
        let directory = directory.parent().unwrap_or(toolbox::workspace());
        for target in targets(text) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !elsewhere && !directory.join(file).exists() {
                problems.push(format!(
                    "{path} links to {target}, which does not exist; correct the link"
                ));
            }
        }
        for named in named_sources(text) {
            if !tree.sources.iter().any(|source| is_named(source, named)) {
                problems.push(format!(
                    "{path} names `{named}`, which no source is called; name the file that took its place"
                ));
            }
        }
    }
    problems
}

/// The Rust files that a document names in backticks.
fn named_sources(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|named| {
        let is_rust = Path::new(named).extension().is_some_and(|end| end == "rs");
        is_rust && !named.contains([' ', '<', '*', '{'])
    })
}

/// Whether `named` is the end of a source's path. Documents may leave out `crates` and `src`.
fn is_named(source: &Source, named: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path
            .split('/')
            .filter(|part| !matches!(*part, "crates" | "src"));
        parts.map(str::to_owned).collect()
    };
    parts(&source.path).ends_with(&parts(named))
}

/// The targets in `[…](…)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        // A title may follow the target.
        target.split_whitespace().next()
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, is_named, named_sources};

    #[test]
    fn sources_are_named_by_the_end_of_their_paths() {
        let text =
            "`log/segment.rs` and `crates/log/src/segment.rs`, not `fn a` nor `tests/<name>.rs`";
        let named: Vec<&str> = named_sources(text).collect();
        assert_eq!(named, ["log/segment.rs", "crates/log/src/segment.rs"]);
        let source = Source {
            path: "crates/log/src/segment.rs".to_owned(),
            text: String::new(),
        };
        assert!(named.iter().all(|named| is_named(&source, named)));
        assert!(!is_named(&source, "log/segments.rs"));
        assert!(!is_named(&source, "nt.rs"));
    }

    #[test]
    fn targets_of_links_are_found() {
        let text = "see [a](docs/a.md#x) and [b](https://b \"title\")";
        let targets: Vec<&str> = super::targets(text).collect();
        assert_eq!(targets, ["docs/a.md#x", "https://b"]);
    }
}
