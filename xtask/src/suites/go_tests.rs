//! Runs `go test -json` and parses its output.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Outcome, Outcomes};

/// Runs `go test`, and keeps its output as `name` in the directory `log`.
pub fn run(go_test: &mut Command, log: &Path, name: &str) -> Result<Outcomes> {
    let output = go_test.output()?;
    fs::write(
        log.join(name),
        [&output.stdout[..], &output.stderr].concat(),
    )?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Copies a module, so that it can be changed.
pub fn copy(module: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-R").arg(module).arg(to).status()?;
    ensure!(copied.success(), "cannot copy {}", module.display());
    Ok(())
}

/// Changes all Go files of a directory, without its subdirectories.
pub fn alter(directory: &Path, altered: impl Fn(&str) -> String) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".go") {
            let text = fs::read_to_string(&path)?;
            fs::write(&path, altered(&text))?;
        }
    }
    Ok(())
}

/// Parses one JSON object per line; subtests count with their parents.
fn parse(output: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in output.lines() {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let Some(test) = event["Test"].as_str().filter(|test| !test.contains('/')) else {
            continue;
        };
        let says = |word: &str| {
            let line = event["Output"].as_str().unwrap_or_default();
            line.starts_with(&format!("--- {word}: {test} "))
        };
        let outcome = match event["Action"].as_str() {
            // A test that never ends has only this event, so it counts as failed.
            Some("run" | "fail") => Outcome::failed(),
            Some("pass") => Outcome::Passed,
            Some("skip") => Outcome::Skipped,
            // The `pass` event may come late or never, so the output line counts.
            Some("output") if says("PASS") => Outcome::Passed,
            Some("output") if says("SKIP") => Outcome::Skipped,
            _ => continue,
        };
        outcomes.insert(test.to_owned(), outcome);
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_word_on_a_test_is_its_outcome() {
        let output = r#"
{"Action":"run","Test":"TestOne"}
{"Action":"run","Test":"TestTwo"}
{"Action":"output","Test":"TestTwo","Output":"--- PASS: TestTwo (0.00s)\n"}
{"Action":"run","Test":"TestThree"}
{"Action":"fail","Test":"TestThree/part"}
{"Action":"skip","Test":"TestThree"}
"#;
        let outcomes = parse(output);
        assert_eq!(outcomes.get("TestOne"), Some(&Outcome::failed()));
        assert_eq!(outcomes.get("TestTwo"), Some(&Outcome::Passed));
        assert_eq!(outcomes.get("TestThree"), Some(&Outcome::Skipped));
        assert_eq!(outcomes.len(), 3);
    }
}
