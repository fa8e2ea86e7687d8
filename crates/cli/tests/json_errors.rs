//! Under `--output json` each error is one JSON object on stderr, from the parser of the command
//! line or from a command.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

/// The only line on stderr and the exit status.
fn failure(arguments: &[&str]) -> (Value, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    let ended = command.args(arguments).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    (
        serde_json::from_str(&said).unwrap(),
        ended.status.code().unwrap(),
    )
}

#[test]
fn a_broker_that_cannot_be_reached_is_an_error_with_cause_and_next_step() {
    let (error, status) = failure(&["topic", "list", "-b", "127.0.0.1:1", "--output", "json"]);
    assert_eq!(status, 1);
    assert_eq!(error["error"], "cannot connect to 127.0.0.1:1");
    let cause = error["cause"].as_str().unwrap();
    assert!(cause.starts_with("Connection refused"), "{cause}");
    let next = error["next"].as_str().unwrap();
    assert!(next.contains("--bootstrap-server"), "{next}");
}

#[test]
fn a_format_of_text_is_not_ignored_under_json() {
    let (error, status) = failure(&["consume", "t", "-f", "%s", "--output", "json"]);
    assert_eq!(status, 1);
    assert_eq!(
        error["error"],
        "--format prints text; leave it out, or --output json"
    );
}

#[test]
fn a_command_line_that_cannot_be_parsed_is_an_error_in_json_too() {
    let (error, status) = failure(&["--output=json", "topic", "lst"]);
    assert_eq!(status, 2);
    assert_eq!(error["error"], "unrecognized subcommand 'lst'");
    assert_eq!(error["next"], "did you mean list?");
    let (error, status) = failure(&["log", "dump", "--output", "json"]);
    assert_eq!(status, 2);
    let what = error["error"].as_str().unwrap();
    assert!(what.contains("<PATH>"), "{what}");
    assert_eq!(error["next"], "--help shows how the command is used");
}
