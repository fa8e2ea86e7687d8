//! Runs the scenarios in a crate's `tests/scenarios`: commands with their expected outcomes.
//!
//! A block has commands, a line `---`, the expected outcome, and a blank line. Lines with `#` are comments.
//! `UPDATE_SCENARIOS=1` writes the actual outcomes into the files; review them before the commit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::path::Path;

/// Runs each scenario of `directory` on a fresh stage. A stage runs one command line and returns its outcome.
///
/// # Panics If an outcome differs, or there are fewer scenarios than `at_least`.
pub fn play_all<S: FnMut(&str) -> String>(
    directory: &Path,
    at_least: usize,
    fresh: impl Fn() -> S,
) {
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= at_least, "the scenarios are not there");
    let mut failures = Vec::new();
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = play(&expected, fresh());
        if actual == expected {
            continue;
        }
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            update(&path, &actual);
        } else {
            let shown = difference(&expected, &actual);
            failures.push(format!("{}:\n{shown}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "writes its own fixtures when told to"
)]
fn update(path: &Path, actual: &str) {
    std::fs::write(path, actual).unwrap();
}

fn play(script: &str, mut stage: impl FnMut(&str) -> String) -> String {
    let mut played = String::new();
    for block in script.trim_end().split("\n\n") {
        let mut outcome = String::new();
        let mut has_commands = false;
        for line in block.lines().take_while(|line| *line != "---") {
            writeln!(played, "{line}").unwrap();
            if !line.starts_with('#') && !line.is_empty() {
                has_commands = true;
                outcome += &stage(line);
            }
        }
        if has_commands {
            write!(played, "---\n{outcome}").unwrap();
        }
        played.push('\n');
    }
    played.truncate(played.trim_end().len());
    played.push('\n');
    played
}

fn difference(expected: &str, actual: &str) -> String {
    let (mut expected, mut actual) = (expected.lines(), actual.lines());
    let mut shown = String::new();
    loop {
        match (expected.next(), actual.next()) {
            (None, None) => return shown,
            (Some(one), Some(other)) if one == other => {}
            (one, other) => {
                for (sign, line) in [("-", one), ("+", other)] {
                    if let Some(line) = line {
                        writeln!(shown, "  {sign}{line}").unwrap();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{difference, play};

    #[test]
    fn what_happens_is_written_behind_the_commands() {
        let script = "# story\n\nsay a\nsay b\n---\nwrong\n\nsay c\n";
        let played = play(script, |line| format!("{}!\n", &line[4..]));
        assert_eq!(
            played,
            "# story\n\nsay a\nsay b\n---\na!\nb!\n\nsay c\n---\nc!\n"
        );
        assert_eq!(difference("a\nb\n", "a\nc\n"), "  -b\n  +c\n");
    }
}
