//! A scenario: commands, and what each must print.
//!
//! `$ ` begins a command for `sh`. The lines below are its stdout, its stderr with `! ` before each
//! line, and `exit N` if it fails. They end at a blank line or the next command. `#` begins a
//! comment. Times, ids, addresses and rates, which differ from run to run, are replaced.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Stage;

/// A command that runs for this many seconds hangs; `timeout` then ends it with status 124.
const LONGEST: &str = "60";

/// The outcome of a scenario.
pub struct Outcome {
    /// Commands that did as expected.
    pub passed: usize,
    /// What the other commands printed.
    pub failures: Vec<String>,
}

/// A command and the lines that it must print.
#[derive(Debug, Default)]
struct Step {
    /// Comments and blank lines before it.
    before: Vec<String>,
    command: String,
    expected: Vec<String>,
}

/// Runs the scenario; with `bless`, the actual output becomes the expected one.
pub fn run(path: &Path, stage: &Stage, bless: bool) -> Result<Outcome> {
    let mut steps = parse(&fs::read_to_string(path)?);
    let mut outcome = Outcome {
        passed: 0,
        failures: Vec::new(),
    };
    for step in &mut steps {
        let printed = execute(&step.command, stage)?;
        if bless {
            step.expected = printed;
        } else if printed == step.expected {
            outcome.passed += 1;
        } else {
            let failure = difference(&step.command, &step.expected, &printed);
            outcome.failures.push(failure);
        }
    }
    if bless {
        fs::write(path, render(&steps))?;
    }
    Ok(outcome)
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut before = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                before: std::mem::take(&mut before),
                command: command.to_owned(),
                expected: Vec::new(),
            });
            is_inside = true;
        } else if line.is_empty() || line.starts_with('#') {
            before.push(line.to_owned());
            is_inside = false;
        } else if is_inside && let Some(step) = steps.last_mut() {
            step.expected.push(line.to_owned());
        }
    }
    steps
}

fn render(steps: &[Step]) -> String {
    let mut lines = Vec::new();
    for step in steps {
        lines.extend(step.before.iter().cloned());
        lines.push(format!("$ {}", step.command));
        lines.extend(step.expected.iter().cloned());
    }
    lines.push(String::new());
    lines.join("\n")
}

fn execute(command: &str, stage: &Stage) -> Result<Vec<String>> {
    let output = stage
        .command("timeout")?
        .args([LONGEST, "sh", "-c", command])
        .output()?;
    let mut lines: Vec<String> = text_lines(&output.stdout).collect();
    lines.extend(text_lines(&output.stderr).map(|line| format!("! {line}")));
    if !output.status.success() {
        let code = output.status.code();
        lines.push(code.map_or("killed".to_owned(), |code| format!("exit {code}")));
    }
    Ok(lines)
}

fn text_lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines: Vec<_> = text.lines().map(normalized).collect();
    lines.into_iter().filter(|line| !line.is_empty())
}

fn difference(command: &str, expected: &[String], printed: &[String]) -> String {
    let mut text = format!("$ {command}");
    for line in expected.iter().filter(|line| !printed.contains(line)) {
        let _ = write!(text, "\n    expected: {line}");
    }
    for line in printed.iter().filter(|line| !expected.contains(line)) {
        let _ = write!(text, "\n     printed: {line}");
    }
    if text.lines().count() == 1 {
        text.push_str("\n    the lines are right, their order or number is not");
    }
    text
}

/// The line with the variable parts replaced, and with runs of spaces as two spaces, because column
/// widths depend on these parts.
fn normalized(line: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for letter in line.trim_end().chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() || "-_.:".contains(letter) {
            word.push(letter);
            continue;
        }
        text.push_str(&mask(&word));
        word.clear();
        if letter != '\n' && !(letter == ' ' && text.ends_with("  ")) {
            text.push(letter);
        }
    }
    cut_words(&mask_durability(&mask_rate(&text))).to_owned()
}

/// What an acknowledged record survives differs between brokers: Ottla has it on the disks.
fn mask_durability(text: &str) -> String {
    let differing = [
        ("in the page caches of", "on <storage> of"),
        ("on the disks of", "on <storage> of"),
        ("of all nodes can lose it", "of all nodes <outcome>"),
        ("of all nodes loses nothing", "of all nodes <outcome>"),
    ];
    let masked = |text: String, (words, mask): &(&str, &str)| text.replace(words, mask);
    differing.iter().fold(text.to_owned(), masked)
}

/// Removes the broker's message after an error code: it differs between brokers.
fn cut_words(text: &str) -> &str {
    if !text.starts_with("error: ") {
        return text;
    }
    let mut end = 0;
    for part in text.split_inclusive(": ") {
        end += part.len();
        let code = part.trim_end_matches([':', ' ']);
        if code.len() > 4 && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            return text[..end].trim_end_matches([':', ' ']);
        }
    }
    text
}

fn mask(word: &str) -> String {
    let bare = word.trim_matches([':', '.']);
    let (before, after) = word.split_once(bare).unwrap_or((word, ""));
    let replaced = if is_time(bare) {
        "<time>"
    } else if bare.len() == 13 && bare.starts_with('1') && bare.bytes().all(|b| b.is_ascii_digit())
    {
        "<ms>"
    } else if is_uuid(bare) {
        "<id>"
    } else if bare.starts_with("ottla-") && bare.len() == "ottla-".len() + 36 {
        "<member>"
    } else if bare
        .strip_prefix("127.0.0.1:")
        .is_some_and(|port| port.len() >= 4)
    {
        "<broker>"
    } else {
        bare
    };
    format!("{before}{replaced}{after}")
}

/// `2026-11-24T10:30:00.000Z`.
fn is_time(word: &str) -> bool {
    let places = word.char_indices();
    let fits = |(at, letter): (usize, char)| match at {
        4 | 7 => letter == '-',
        10 => letter == 'T',
        13 | 16 => letter == ':',
        19 => letter == '.',
        23 => letter == 'Z',
        _ => letter.is_ascii_digit(),
    };
    word.len() == 24 && places.into_iter().all(fits)
}

/// Kafka's ids are 22 letters of base64url, in which both cases occur almost surely.
fn is_uuid(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    word.len() == 22
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && !word.contains(['.', ':'])
}

/// `(1.2 MB, 3.4 MB/s)` at the end of a line.
fn mask_rate(text: &str) -> String {
    let Some((before, after)) = text.split_once(" MB/s)") else {
        return text.to_owned();
    };
    match before.rfind(" (") {
        Some(at) => format!("{} (<rate>){after}", &before[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{normalized, parse, render};

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let cases = [
            (
                "topic a  id JFhG3x5-QsaaSR1fOm5xDw  configs",
                "topic a  id <id>  configs",
            ),
            ("2026-11-24T03:12:19.486Z\tv", "<time>\tv"),
            ("\"timestamp\":1795489939486,", "\"timestamp\":<ms>,"),
            (
                "cannot connect to 127.0.0.1:40123: refused",
                "cannot connect to <broker>: refused",
            ),
            (
                "wrote 3 records (0.0 MB, 1.2 MB/s)",
                "wrote 3 records (<rate>)",
            ),
            (
                "durability: an acks=all record is on the disks of 1 of 1 replicas",
                "durability: an acks=all record is on <storage> of 1 of 1 replicas",
            ),
            ("a      b", "a  b"),
            (
                "error: create topic a: TOPIC_ALREADY_EXISTS: so it is",
                "error: create topic a: TOPIC_ALREADY_EXISTS",
            ),
            (
                "error: group a: GROUP_ID_NOT_FOUND",
                "error: group a: GROUP_ID_NOT_FOUND",
            ),
            ("retention.ms=604800000", "retention.ms=604800000"),
        ];
        for (line, expected) in cases {
            assert_eq!(normalized(line), expected);
        }
    }

    #[test]
    fn a_scenario_is_written_as_it_was_read() {
        let text = "# About topics.\n$ ottla topic list\nTOPIC\n! note\nexit 1\n\n$ true\n";
        assert_eq!(render(&parse(text)), text);
    }
}
