//! Files stay below the limit, without their tests; generated code is exempt. clippy checks the size of functions.

use super::exceptions::{self, LONG_TESTS};
use super::source::{Source, Tree};

const LINES: usize = 600;
/// The largest number of lines of tests below the code. Longer tests move to a file of their own.
const INLINE_TESTS: usize = 150;

pub fn check(tree: &Tree) -> Vec<String> {
    let by_hand = tree.sources.iter().filter(|source| !source.is_generated());
    let (tests, code): (Vec<&Source>, Vec<&Source>) = by_hand.partition(|source| source.is_tests());
    let mut problems = Vec::new();
    for source in &code {
        let lines = source.product().count();
        if lines > LINES {
            problems.push(format!(
                "{} has {lines} lines without its tests, at most {LINES}; split it along ideas",
                source.path
            ));
        }
    }
    let inline = code.iter().filter_map(|source| {
        let lines = source.text.lines().count() - source.product().count();
        (lines > INLINE_TESTS).then(|| (source.path.clone(), lines))
    });
    let whole = tests.iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES).then(|| (source.path.clone(), lines))
    });
    problems.extend(exceptions::judge(
        LONG_TESTS,
        inline.chain(whole),
        |place, lines| {
            format!(
                "{place} has {lines} lines of tests; at most {INLINE_TESTS} below code, and {LINES} in a file of their own"
            )
        },
    ));
    problems
}

#[cfg(test)]
mod tests {
    use super::{INLINE_TESTS, LINES, check};
    use crate::tidy::source::{Source, Tree};

    /// The problems of one file, without those of exceptions that are not needed.
    fn problems(path: &str, text: String) -> Vec<String> {
        let path = path.to_owned();
        let sources = vec![Source { path, text }];
        let tree = Tree {
            sources,
            documents: Vec::new(),
            manifests: Vec::new(),
        };
        let mut problems = check(&tree);
        problems.retain(|problem| problem.contains("x.rs"));
        problems
    }

    #[test]
    fn long_files_and_long_tests_are_found() {
        let code = "let a = 1;\n";
        let inline = |lines: usize| {
            let tests = code.repeat(lines - 2);
            format!("{code}#[cfg(test)]\nmod tests {{\n{tests}")
        };
        let at = "crates/log/src/x.rs";
        assert_eq!(problems(at, code.repeat(LINES)).len(), 0);
        assert_eq!(problems(at, code.repeat(LINES + 1)).len(), 1);
        assert_eq!(problems(at, inline(INLINE_TESTS)).len(), 0);
        assert_eq!(problems(at, inline(INLINE_TESTS + 1)).len(), 1);
        let at = "crates/log/src/tests/x.rs";
        assert_eq!(problems(at, code.repeat(LINES)).len(), 0);
        assert_eq!(problems(at, code.repeat(LINES + 1)).len(), 1);
    }
}
