//! Crates depend on crates of lower layers only, as ARCHITECTURE.md draws them.

use std::fs;
use std::path::Path;

use super::source::Tree;
use crate::toolbox;

/// The layers from the bottom up. `sim`, `xtask` and tests are outside of them.
const LAYERS: &[&[&str]] = &[
    &["protocol"],
    &["metadata"],
    &["log", "controller", "replication", "coordinator"],
    &["replica", "quorum", "client"],
    &["broker", "console", "schema-registry"],
    &["cli"],
];
const OUTSIDE: &[&str] = &["sim"];

/// Dependencies that only one of our crates may use.
const OWNED: &[(&str, &str)] = &[("raft", "quorum")];

pub fn check(_: &Tree) -> Vec<String> {
    let crates = toolbox::workspace().join("crates");
    let mut problems = Vec::new();
    let Ok(entries) = fs::read_dir(&crates) else {
        return vec![format!("cannot list {}", crates.display())];
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !OUTSIDE.contains(&name.as_str()) {
            check_crate(&name, &dependencies(&entry.path()), &mut problems);
        }
    }
    problems
}

fn check_crate(name: &str, dependencies: &[String], problems: &mut Vec<String>) {
    let Some(layer) = layer(name) else {
        problems.push(format!(
            "crates/{name} is in no layer; give it one in xtask/src/tidy/layers.rs and in ARCHITECTURE.md"
        ));
        return;
    };
    for dependency in dependencies {
        for (owned, owner) in OWNED {
            if dependency == owned && name != *owner {
                problems.push(format!(
                    "crates/{name} depends on {owned}, which only crates/{owner} may name; go through that crate"
                ));
            }
        }
        let Some(ours) = dependency.strip_prefix("ottla-") else {
            continue;
        };
        if self::layer(ours).is_none_or(|below| below >= layer) {
            problems.push(format!(
                "crates/{name} depends on crates/{ours}, which is not below it; move what both need down"
            ));
        }
    }
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// The names under `[dependencies]`.
pub fn dependencies(directory: &Path) -> Vec<String> {
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::check_crate;

    fn problems(name: &str, dependency: &str) -> usize {
        let mut problems = Vec::new();
        check_crate(name, &[dependency.to_owned()], &mut problems);
        problems.len()
    }

    #[test]
    fn sideways_and_upwards_are_refused() {
        assert_eq!(problems("broker", "ottla-log"), 0);
        assert_eq!(problems("log", "ottla-coordinator"), 1);
        assert_eq!(problems("protocol", "ottla-metadata"), 1);
        assert_eq!(problems("broker", "raft"), 1);
        assert_eq!(problems("nowhere", "bytes"), 1);
    }
}
