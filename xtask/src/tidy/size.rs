//! Files stay below the limit, tests and generated code apart. Functions and parameters are clippy's.

use super::source::Tree;

const LINES: usize = 600;

pub fn check(tree: &Tree) -> Vec<String> {
    let by_hand = tree
        .sources
        .iter()
        .filter(|source| !source.is_generated() && !source.is_tests());
    by_hand
        .filter_map(|source| {
            let lines = source.product().count();
            (lines > LINES).then(|| {
                format!(
                    "{} has {lines} lines without its tests, at most {LINES}; split it along ideas",
                    source.path
                )
            })
        })
        .collect()
}
