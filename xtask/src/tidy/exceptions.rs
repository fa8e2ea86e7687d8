//! The places that break a rule, by name. The lists only shrink: an entry that is not needed any more is a problem.

use std::collections::BTreeMap;

/// Functions with more than five parameters.
pub const PARAMETERS: &[&str] = &[];

/// Files of the broker that start threads or tasks, outside of `drivers/`, `network/` and `start/`.
pub const SPAWNS: &[&str] = &[];

/// Files of tests that are too long.
pub const LONG_TESTS: &[&str] = &[];

/// Files with longer lines: tables whose rows are calls or macro arguments.
pub const LONG_LINES: &[&str] = &[
    "crates/broker/src/handlers.rs",
    "crates/metadata/src/config_keys/broker.rs",
    "crates/metadata/src/config_keys/later.rs",
    "crates/metadata/src/config_keys/topic.rs",
];

/// Turns the findings of a rule into problems, except those in the list. An entry without a finding is a problem too.
pub fn judge(
    exceptions: &[&str],
    found: impl Iterator<Item = (String, usize)>,
    problem: impl Fn(&str, usize) -> String,
) -> Vec<String> {
    let found: BTreeMap<String, usize> = found.collect();
    let broken = found
        .iter()
        .filter(|(place, _)| !exceptions.contains(&place.as_str()))
        .map(|(place, count)| problem(place, *count));
    let kept = exceptions
        .iter()
        .filter(|place| !found.contains_key(**place))
        .map(|place| {
            format!("{place} keeps to the rule; take it out of xtask/src/tidy/exceptions.rs")
        });
    broken.chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn an_exception_is_let_through_and_must_be_needed() {
        let found = [("a".to_owned(), 7), ("b".to_owned(), 8)];
        let problems = judge(&["a", "c"], found.into_iter(), |place, count| {
            format!("{place} has {count}")
        });
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0], "b has 8");
        assert!(problems[1].starts_with("c keeps to the rule"));
    }
}
