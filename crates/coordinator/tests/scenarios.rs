//! Runs the stories in `tests/scenarios/`: commands, then the records, replies and events that come of them.
//!
//! A block is commands, `---`, what they lead to, and a blank line. `UPDATE_SCENARIOS=1` writes what happens into
//! the files, to be read before it is committed. Fresh ids count up from 1, so the first member of client `c` is
//! `c-1`; requests are numbered by `#`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stage;

use std::fmt::Write as _;
use std::path::Path;

use stage::Stage;

#[test]
fn scenarios_play_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "the scenarios are not there");
    let mut failures = Vec::new();
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let actual = play(&expected);
        if actual == expected {
            continue;
        }
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            update(&path, &actual);
        } else {
            failures.push(format!(
                "{}:\n{}",
                path.display(),
                difference(&expected, &actual)
            ));
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

fn play(script: &str) -> String {
    let mut stage = Stage::default();
    let mut played = String::new();
    for block in script.trim_end().split("\n\n") {
        let mut outcome = String::new();
        let mut has_commands = false;
        for line in block.lines().take_while(|line| *line != "---") {
            writeln!(played, "{line}").unwrap();
            if !line.starts_with('#') && !line.is_empty() {
                has_commands = true;
                outcome += &stage.run(line);
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
