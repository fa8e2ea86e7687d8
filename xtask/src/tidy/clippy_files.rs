//! A crate's own clippy.toml repeats the root's limits: clippy reads only the nearest file.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Tree;
use crate::toolbox;

pub fn check(_: &Tree) -> Vec<String> {
    let root = toolbox::workspace();
    let limits = limits(&root.join("clippy.toml"));
    if limits.is_empty() {
        return vec!["the root has no clippy.toml with limits; write them there".to_owned()];
    }
    let mut problems = Vec::new();
    for file in files(root) {
        let own = self::limits(&file);
        for limit in limits.iter().filter(|limit| !own.contains(*limit)) {
            problems.push(format!(
                "{} does not say `{limit}`; copy the line from the root's",
                file.strip_prefix(root).unwrap_or(&file).display()
            ));
        }
    }
    problems
}

fn files(root: &Path) -> Vec<PathBuf> {
    let crates = fs::read_dir(root.join("crates"))
        .into_iter()
        .flatten()
        .flatten();
    crates
        .map(|entry| entry.path())
        .chain([root.join("xtask")])
        .map(|directory| directory.join("clippy.toml"))
        .filter(|file| file.exists())
        .collect()
}

/// The lines that set a limit or a switch.
fn limits(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("-threshold = ") || line.starts_with("allow-"))
        .map(str::to_owned)
        .collect()
}
