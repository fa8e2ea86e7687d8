//! The file LICENSE has the licence text, and each manifest names the licence.

use super::source::Tree;
use crate::toolbox;

/// The licence, as manifests name it.
const LICENCE: &str = "Apache-2.0";
/// The first lines of its text.
const TITLE: [&str; 2] = ["Apache License", "Version 2.0, January 2004"];

pub fn check(tree: &Tree) -> Vec<String> {
    let text = std::fs::read_to_string(toolbox::workspace().join("LICENSE")).unwrap_or_default();
    let mut problems = Vec::new();
    if !is_text(&text) {
        problems.push(format!(
            "LICENSE does not hold the text of {LICENCE}; put it there"
        ));
    }
    for (path, manifest) in &tree.manifests {
        if !names_licence(manifest) {
            problems.push(format!(
                "{path} does not name the licence; write license.workspace = true, or license = \"{LICENCE}\" outside \
                 the workspace"
            ));
        }
    }
    problems
}

fn is_text(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    TITLE.iter().all(|title| lines.next() == Some(title)) && text.contains("END OF TERMS")
}

fn names_licence(manifest: &str) -> bool {
    let named = [
        "license.workspace = true".to_owned(),
        format!("license = \"{LICENCE}\""),
        // The form of package.json.
        format!("\"license\": \"{LICENCE}\","),
    ];
    manifest
        .lines()
        .any(|line| named.iter().any(|name| name == line.trim()))
}

#[cfg(test)]
mod tests {
    use super::{is_text, names_licence};

    #[test]
    fn a_manifest_without_the_licence_is_found() {
        assert!(names_licence("[package]\nlicense.workspace = true\n"));
        assert!(names_licence("[package]\nlicense = \"Apache-2.0\"\n"));
        assert!(!names_licence("[package]\nname = \"a\"\n"));
        assert!(!names_licence("[package]\n# license = \"Apache-2.0\"\n"));
        assert!(!names_licence("[package]\nlicense = \"MIT\"\n"));
    }

    #[test]
    fn another_licence_is_not_taken_for_ours() {
        assert!(!is_text("The MIT License\n"));
        assert!(!is_text("Apache License\nVersion 2.0, January 2004\n"));
    }
}
