//! Checks the licences of all dependencies: each must let us ship one binary under any terms.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::toolbox;

/// Licences that require only their text and a notice.
const ALLOWED: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
];
/// Crates under another licence, with the reason why that is acceptable.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The Mozilla licence covers only the crate's own files, which we do not change.
    ("imbl", "MPL-2.0+"),
    ("imbl-sized-chunks", "MPL-2.0+"),
    ("bitmaps", "MPL-2.0+"),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks all dependencies; returns a summary.
pub fn run() -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(toolbox::workspace())
        .output()
        .context("could not start cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let others: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .collect();
    let refused: Vec<String> = others
        .iter()
        .filter_map(|package| problem(package))
        .collect();
    if !refused.is_empty() {
        bail!("{}", refused.join("\n"));
    }
    Ok(format!("{} dependencies", others.len()))
}

fn problem(package: &Package) -> Option<String> {
    let licence = package.license.as_deref().unwrap_or("none");
    let is_exception = EXCEPTIONS.contains(&(package.name.as_str(), licence));
    (!is_exception && !is_allowed(licence)).then(|| {
        format!(
            "{} {} is under {licence}; replace it, or add it to EXCEPTIONS in xtask/src/licences.rs with the reason",
            package.name, package.version
        )
    })
}

/// Whether an SPDX expression can be met by licences on the list. Brackets may only be around alternatives, as in every
/// crate's manifest so far; anything else is refused.
fn is_allowed(expression: &str) -> bool {
    // Old manifests write a slash for OR.
    let expression = expression.replace('/', " OR ");
    if let Some((before, rest)) = expression.split_once('(') {
        let Some((inside, after)) = rest.split_once(')') else {
            return false;
        };
        let outside = [
            before.trim().trim_end_matches("AND"),
            after.trim().trim_start_matches("AND"),
        ];
        return is_allowed(inside)
            && outside
                .iter()
                .map(|part| part.trim())
                .all(|part| part.is_empty() || !part.contains(" OR ") && is_allowed(part));
    }
    expression.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|licence| ALLOWED.contains(&licence.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions_are_met_by_the_list_or_not() {
        for allowed in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 AND (MIT OR GPL-2.0)",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "none",
            "(MIT OR GPL-3.0) AND GPL-2.0",
            "AGPL-3.0 OR SSPL-1.0",
            "(MIT",
        ] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn every_dependency_is_allowed() {
        if let Err(problems) = super::run() {
            panic!("{problems}");
        }
    }
}
