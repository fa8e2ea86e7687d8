//! Finds errors and exceptions in a broker's log.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// Errors that Kafka logs on its own directories too: a part of the line, and its reason.
const KNOWN: &[(&str, &str)] = &[(
    "EventPerformanceMonitor",
    "an event of its controller took longer than two seconds: the machine is busy",
)];
/// A failed check shows at most this many lines.
const SHOWN: usize = 5;

/// The lines with errors in a broker's log; `None` if there are none.
pub fn complaints(log: &Path) -> Result<Option<String>> {
    let text = fs::read_to_string(log)?;
    let lines: Vec<&str> = text.lines().filter(|line| is_complaint(line)).collect();
    let shown = &lines[..lines.len().min(SHOWN)];
    Ok((!lines.is_empty()).then(|| format!("{} lines: {}", lines.len(), shown.join(" / "))))
}

fn is_complaint(line: &str) -> bool {
    let is_known = KNOWN.iter().any(|(part, _)| line.contains(part));
    let says_so = ["ERROR ", "FATAL ", "Exception", "panicked"]
        .iter()
        .any(|word| line.contains(word));
    says_so && !is_known
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn errors_and_exceptions_are_complaints_and_warnings_are_not() {
        for line in [
            "[main] ERROR kafka.Kafka$ - Exiting Kafka",
            "2026-11-30T02:00:00.000000Z ERROR ottla_broker: the disk failed",
            "java.lang.IllegalStateException: Unknown metadata version",
            "thread 'main' panicked at src/main.rs",
        ] {
            assert!(is_complaint(line), "{line}");
        }
        for line in [
            "[main] WARN org.apache.kafka.x - The topic is slow",
            "[quorum-controller-1-event-handler] ERROR org.apache.kafka.controller.EventPerformanceMonitor - slow",
            "ottla is ready",
        ] {
            assert!(!is_complaint(line), "{line}");
        }
    }
}
