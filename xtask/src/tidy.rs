//! `cargo xtask tidy`: the rules of the tree that no compiler checks. Also a normal test of this crate.
//!
//! Each rule has its own file. A rule returns its problems as sentences, each with the place and
//! the remedy.

mod assumptions;
mod clippy_files;
mod exceptions;
mod handlers;
mod layers;
mod licence;
mod lines;
mod links;
mod modules;
mod names;
mod parameters;
mod purity;
mod size;
mod source;
mod spawns;

use anyhow::{Result, bail};

use source::Tree;

type Rule = fn(&Tree) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("crates depend downwards only", layers::check),
    ("pure crates stay pure", purity::check),
    ("files and modules", modules::check),
    ("files stay small", size::check),
    ("lines are wrapped", lines::check),
    ("functions take few parameters", parameters::check),
    ("threads are started where the map says", spawns::check),
    ("names say something", names::check),
    (
        "clippy.toml files repeat the root's limits",
        clippy_files::check,
    ),
    ("handlers and their table agree", handlers::check),
    ("links in documents lead somewhere", links::check),
    (
        "assumptions about the disk are named by code",
        assumptions::check,
    ),
    ("every manifest names the licence", licence::check),
];

/// Runs the command; returns a summary.
pub fn run() -> Result<String> {
    let tree = Tree::read()?;
    let mut problems = Vec::new();
    for (name, rule) in RULES {
        problems.extend(
            rule(&tree)
                .into_iter()
                .map(|problem| format!("{name}: {problem}")),
        );
    }
    if !problems.is_empty() {
        bail!("{} problems\n{}", problems.len(), problems.join("\n"));
    }
    Ok(format!(
        "{} rules over {} source files and {} documents",
        RULES.len(),
        tree.sources.len(),
        tree.documents.len()
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        if let Err(problems) = super::run() {
            panic!("{problems}");
        }
    }
}
