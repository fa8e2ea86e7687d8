//! kafka-python's `test/integration`, from its source package.
//!
//! The package lacks two files of its test directory; they are supplied here. Tests that start
//! their own brokers with SASL or TLS are not run, because neither broker is configured for them
//! here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Outcome, Outcomes};
use crate::toolbox::maven::KAFKA_VERSION;
use crate::toolbox::python;

const SERVICE: &str = "\
class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def open(self):
        pass

    start = stop = open


SpawnedService = None
";

/// Runs the suite.
pub fn run(bootstrap: &str, log: &Path) -> Result<Outcomes> {
    let source = source()?;
    let output = Command::new(python::interpreter_with_tests()?)
        .args([
            "-m",
            "pytest",
            "-v",
            "--tb=short",
            "--show-capture=no",
            "-p",
            "no:cacheprovider",
        ])
        // One test hangs on Kafka too; the timeout lets the others run.
        .args(["-o", "addopts=", "--timeout=60", "--timeout-method=signal"])
        .args([
            "test/integration/test_admin_integration.py",
            "test/integration/test_consumer_integration.py",
        ])
        .arg("test/integration/test_producer_integration.py")
        .env("KAFKA_VERSION", KAFKA_VERSION)
        .env("KAFKA_URI", format!("kafka://{bootstrap}"))
        .current_dir(source)
        .output()?;
    fs::write(log.join("kafka-python.log"), &output.stdout)?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Lines like `test/integration/test_a.py::test_b[c] PASSED  [ 10%]`.
fn parse(output: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in output.lines() {
        let mut words = line.split_whitespace();
        let (Some(test), Some(word)) = (words.next(), words.next()) else {
            continue;
        };
        let Some(test) = test.strip_prefix("test/integration/") else {
            continue;
        };
        let outcome = match word {
            "PASSED" => Outcome::Passed,
            "FAILED" | "ERROR" => Outcome::failed(),
            "SKIPPED" => Outcome::Skipped,
            _ => continue,
        };
        outcomes.insert(test.to_owned(), outcome);
    }
    outcomes
}

fn source() -> Result<PathBuf> {
    let source = python::source("kafka-python", "kafka_python")?;
    fs::write(source.join("test/__init__.py"), "")?;
    fs::write(source.join("test/service.py"), SERVICE)?;
    // The tests look for this directory even with an external broker.
    fs::create_dir_all(source.join(format!("servers/{KAFKA_VERSION}/kafka-bin")))?;
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_from_what_pytest_prints() {
        let output = "test/integration/test_a.py::one[x] PASSED   [ 50%]\n\
                      test/integration/test_a.py::two FAILED [100%]\nFAILED test/integration/test_a.py::two\n";
        let outcomes = parse(output);
        assert_eq!(outcomes.get("test_a.py::one[x]"), Some(&Outcome::Passed));
        assert_eq!(outcomes.get("test_a.py::two"), Some(&Outcome::failed()));
        assert_eq!(outcomes.len(), 2);
    }
}
