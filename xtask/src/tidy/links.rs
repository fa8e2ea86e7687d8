//! Links between documents lead to files that exist.

use super::source::Tree;
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
    }
    problems
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
    #[test]
    fn targets_of_links_are_found() {
        let text = "see [a](docs/a.md#x) and [b](https://b \"title\")";
        let targets: Vec<&str> = super::targets(text).collect();
        assert_eq!(targets, ["docs/a.md#x", "https://b"]);
    }
}
