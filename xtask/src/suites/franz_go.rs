//! The tests of franz-go's `pkg/kgo`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Outcome, Outcomes};
use crate::toolbox::go;

/// Fewer records than the half million that the tests send unless told.
const RECORDS: &str = "20000";

/// Runs the suite.
pub fn run(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let output = Command::new("go")
        .args([
            "test",
            "-json",
            "-count=1",
            "-run=^Test",
            "-timeout=480s",
            "./pkg/kgo",
        ])
        .env("KGO_SEEDS", bootstrap)
        .env("KGO_TEST_RF", "1")
        .env("KGO_TEST_RECORDS", RECORDS)
        .current_dir(go::source()?)
        .output()?;
    fs::write(log.join("franz-go.log"), &output.stdout)?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// One JSON object a line; subtests count with their parents.
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
            // A test that never ends has started: the last word on it is this one.
            Some("run" | "fail") => Outcome::failed(),
            Some("pass") => Outcome::Passed,
            Some("skip") => Outcome::Skipped,
            // The event for it waits until something else is said, which may be never.
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
