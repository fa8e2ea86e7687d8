//! The schedule of a log directory's regular jobs.

use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

use crate::TopicSettings;

/// How often each job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// `log.retention.check.interval.ms`.
    pub retention: Duration,
    /// `producer.id.expiration.check.interval.ms`.
    pub producers: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_points: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermarks: Duration,
    /// `log.initial.task.delay.ms`: how long after a start retention begins.
    pub initial_delay: Duration,
}

impl Default for Intervals {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            retention: Duration::from_mins(5),
            producers: Duration::from_mins(10),
            recovery_points: Duration::from_mins(1),
            high_watermarks: Duration::from_secs(5),
            initial_delay: Duration::from_secs(30),
        }
    }
}

/// A regular job of a log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Write `replication-offset-checkpoint`.
    WriteHighWatermarks,
    /// Flush all logs, move their recovery points, and write these and the log start offsets.
    MoveRecoveryPoints,
    /// Drop producers that were idle for `producer.id.expiration.ms`.
    ExpireProducers,
    /// Delete segments by `retention.ms` and `retention.bytes`.
    ApplyRetention,
}

/// When each job is due next.
#[derive(Debug)]
pub struct Schedule {
    intervals: Intervals,
    /// Jobs that are due together are done in this order.
    jobs: [(Job, Duration, MonotonicTime); 4],
}

impl Schedule {
    /// The schedule at a start: each job is due after its interval, except retention, which is due after
    /// `initial_delay`.
    pub fn new(intervals: Intervals, now: MonotonicTime) -> Self {
        let after = |job, interval: Duration| (job, interval, now.after(interval));
        Self {
            jobs: [
                after(Job::WriteHighWatermarks, intervals.high_watermarks),
                after(Job::MoveRecoveryPoints, intervals.recovery_points),
                after(Job::ExpireProducers, intervals.producers),
                (
                    Job::ApplyRetention,
                    intervals.retention,
                    now.after(intervals.initial_delay),
                ),
            ],
            intervals,
        }
    }

    /// Upper bound of the driver's wait. Deleted partitions and the free space are checked once a second.
    pub fn longest_wait(&self) -> Duration {
        let Intervals {
            high_watermarks,
            producers,
            ..
        } = self.intervals;
        Duration::from_secs(1).min(high_watermarks).min(producers)
    }

    /// The jobs that are due, in the order to do them. Each is due again after its interval.
    pub fn take_due(&mut self, now: MonotonicTime) -> Vec<Job> {
        let due = self.jobs.iter_mut().filter(|(_, _, due)| *due <= now);
        due.map(|(job, interval, due)| {
            *due = now.after(*interval);
            *job
        })
        .collect()
    }

    /// Whether a topic needs flushes of its own: its `flush.ms` is shorter than the interval of
    /// [`Job::MoveRecoveryPoints`], which flushes all topics.
    pub fn flushes_between(&self, settings: &TopicSettings) -> bool {
        settings.flush_interval < self.intervals.recovery_points
    }
}

#[cfg(test)]
mod tests {
    use super::{Intervals, Job, Schedule};
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    #[test]
    fn each_job_comes_back_at_its_interval_and_retention_first_after_the_initial_delay() {
        let at = |seconds| MonotonicTime(Duration::from_secs(seconds));
        let mut schedule = Schedule::new(Intervals::default(), at(100));
        assert_eq!(schedule.longest_wait(), Duration::from_secs(1));
        assert_eq!(schedule.take_due(at(104)), []);
        assert_eq!(schedule.take_due(at(105)), [Job::WriteHighWatermarks]);
        assert_eq!(schedule.take_due(at(109)), []);
        let together = [Job::WriteHighWatermarks, Job::ApplyRetention];
        assert_eq!(schedule.take_due(at(130)), together);
        let late = schedule.take_due(at(900));
        let all = [
            Job::WriteHighWatermarks,
            Job::MoveRecoveryPoints,
            Job::ExpireProducers,
            Job::ApplyRetention,
        ];
        assert_eq!(late, all);
        assert_eq!(
            schedule.take_due(at(904)),
            [],
            "what was missed is done once"
        );
    }
}
