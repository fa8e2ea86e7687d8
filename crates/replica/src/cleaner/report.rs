//! Why a partition was or was not compacted, in one line, for `ottla why compaction`, the metrics and `/ready`.

use std::fmt;
use std::time::Duration;

use ottla_log::compaction::{Obstacle, Plan, Quarantined, Reason, Verdict};
use ottla_protocol::time::Timestamp;

use super::schedule::History;

/// The state of compaction for one partition.
#[derive(Debug, Clone)]
pub struct CompactionReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Whether the log is due for compaction now, and why.
    pub plan: Plan,
    /// Its passes since the start.
    pub history: History,
    /// The batches that the last pass could not read.
    pub quarantine: Vec<Quarantined>,
    /// Whether the cleaner is enabled.
    pub is_enabled: bool,
    /// A log that has been due for less than this is not late, because the cleaner needs time to notice.
    pub grace: Duration,
    /// The time of this report.
    pub now: Timestamp,
}

impl CompactionReport {
    /// Whether something is wrong with a compacted partition.
    pub fn is_degraded(&self) -> bool {
        let is_overdue = self.plan.overdue > self.grace;
        self.is_compacted()
            && (is_overdue || !self.quarantine.is_empty() || self.history.failure.is_some())
    }

    fn is_compacted(&self) -> bool {
        !matches!(
            self.plan.verdict,
            Verdict::NotDue {
                why: Obstacle::Policy,
                ..
            }
        )
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.plan.verdict {
            Verdict::Due(_) if !self.is_enabled => {
                f.write_str("due, but the cleaner is off (log.cleaner.enable, log.cleaner.threads)")
            }
            Verdict::Due(Reason::DirtyRatio) => {
                f.write_str("due: more is dirty than min.cleanable.dirty.ratio allows")
            }
            Verdict::Due(Reason::MaxLag) => write!(
                f,
                "due: a record has waited {} longer than max.compaction.lag.ms",
                Span(self.plan.overdue)
            ),
            Verdict::NotDue { why, .. } => f.write_str(match why {
                Obstacle::Policy => "not compacted: cleanup.policy is without compact",
                Obstacle::NothingDirty => {
                    "not due: nothing is dirty but the active segment, which is never compacted"
                }
                Obstacle::TooYoung => {
                    "not due: the next segment holds records younger than min.compaction.lag.ms"
                }
                Obstacle::Undecided => {
                    "not due: the next segment holds records of an open transaction, or not replicated"
                }
                Obstacle::NotDurable => {
                    "not due: the next segment waits for the recovery point to be written"
                }
                Obstacle::DirtyRatio => {
                    "not due: less is dirty than min.cleanable.dirty.ratio asks for"
                }
            }),
        }
    }

    fn quarantined(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quarantine.as_slice() {
            [] => f.write_str("; nothing in quarantine"),
            [first, ..] => write!(
                f,
                "; {} batches in quarantine, the first from offset {} to {}: {}",
                self.quarantine.len(),
                first.first_offset,
                first.last_offset,
                first.reason
            ),
        }
    }
}

impl fmt::Display for CompactionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        write!(f, "{}-{}: ", self.topic, self.partition)?;
        self.verdict(f)?;
        if !self.is_compacted() {
            // The dirty part does not matter for a topic that is not compacted.
            return self.quarantined(f);
        }
        write!(
            f,
            "; dirty from offset {} to {}, {} of {} bytes ({:.0} %)",
            plan.first_dirty,
            plan.first_uncleanable,
            plan.cleanable_bytes,
            plan.clean_bytes + plan.cleanable_bytes,
            100.0 * plan.dirty_ratio()
        )?;
        if let Verdict::NotDue {
            next_due: Some(due),
            ..
        } = plan.verdict
        {
            let left = u64::try_from(due.0.saturating_sub(self.now.0)).unwrap_or(0);
            write!(f, "; due in {}", Span(Duration::from_millis(left)))?;
        }
        match self.history.compacted_at {
            Some(at) => {
                let ago = u64::try_from(self.now.0.saturating_sub(at.0)).unwrap_or(0);
                write!(
                    f,
                    "; last compacted {} ago",
                    Span(Duration::from_millis(ago))
                )?;
            }
            None => f.write_str("; not compacted since the start")?,
        }
        if let Some(failure) = &self.history.failure {
            write!(
                f,
                "; failed {} times, last: {}",
                failure.times, failure.reason
            )?;
        }
        self.quarantined(f)
    }
}

/// A duration, rounded for display.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            7200..172_800 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Failure, History};
    use super::CompactionReport;
    use ottla_log::compaction::{Obstacle, Plan, Quarantined, Reason, Verdict};
    use ottla_protocol::ids::Offset;
    use ottla_protocol::time::{MonotonicTime, Timestamp};
    use std::time::Duration;

    fn report() -> CompactionReport {
        CompactionReport {
            topic: "t".to_owned(),
            partition: 3,
            plan: Plan {
                first_dirty: Offset(10),
                first_uncleanable: Offset(30),
                clean_bytes: 300,
                cleanable_bytes: 100,
                overdue: Duration::ZERO,
                verdict: Verdict::NotDue {
                    why: Obstacle::DirtyRatio,
                    next_due: Some(Timestamp(1_090_000)),
                },
            },
            history: History::default(),
            quarantine: Vec::new(),
            is_enabled: true,
            grace: Duration::from_secs(15),
            now: Timestamp(1_000_000),
        }
    }

    #[test]
    fn one_line_says_why_what_is_dirty_when_it_is_due_and_what_is_in_quarantine() {
        let mut report = report();
        assert_eq!(
            report.to_string(),
            "t-3: not due: less is dirty than min.cleanable.dirty.ratio asks for; dirty from offset 10 to 30, \
             100 of 400 bytes (25 %); due in 90 s; not compacted since the start; nothing in quarantine"
        );
        assert!(!report.is_degraded());
        report.history.compacted_at = Some(Timestamp(0));
        report.quarantine.push(Quarantined {
            first_offset: Offset(4),
            last_offset: Offset(5),
            segment: Offset(0),
            position: 7,
            bytes: 8,
            reason: "bad checksum".to_owned(),
        });
        let line = report.to_string();
        assert!(line.contains("last compacted 16 min ago; 1 batches in quarantine, the first from offset 4 to 5: bad checksum"), "{line}");
        assert!(report.is_degraded());
    }

    #[test]
    fn a_partition_that_is_not_compacted_has_nothing_dirty() {
        let mut report = report();
        report.plan.verdict = Verdict::NotDue {
            why: Obstacle::Policy,
            next_due: None,
        };
        assert_eq!(
            report.to_string(),
            "t-3: not compacted: cleanup.policy is without compact; nothing in quarantine"
        );
    }

    #[test]
    fn a_partition_past_its_largest_lag_or_failing_is_degraded() {
        let mut report = report();
        report.plan.verdict = Verdict::Due(Reason::MaxLag);
        report.plan.overdue = Duration::from_secs(10);
        assert!(!report.is_degraded(), "the cleaner has not looked yet");
        report.plan.overdue = Duration::from_hours(3);
        assert!(report.is_degraded());
        assert!(
            report
                .to_string()
                .contains("a record has waited 3 h longer")
        );
        report.plan.overdue = Duration::ZERO;
        report.history.failure = Some(Failure {
            reason: "no space".to_owned(),
            times: 2,
            retry_at: MonotonicTime(Duration::ZERO),
        });
        assert!(report.is_degraded());
        assert!(
            report
                .to_string()
                .contains("failed 2 times, last: no space")
        );
        report.is_enabled = false;
        assert!(report.to_string().contains("the cleaner is off"));
    }
}
