//! What a consumer or producer tells the user besides records and outcomes: outages, and changes of topics.
//!
//! The first failure of a source gives no notice: it is normal when a leader moves. If no broker answers, an outage begins
//! with the second failure in a row. If a broker answers that it is not ready, because it loads a group or has no leader,
//! the outage begins some seconds later. It ends when every source that failed works again.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::{ClientError, Result, TopicPartition};

/// The number of failures of one source in a row with which an outage begins.
const OUTAGE_AFTER: u32 = 2;
/// How long a broker may answer that it is not ready before that is an outage.
const READY_AFTER: Duration = Duration::from_secs(5);

/// Something that the user may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An outage: calls fail for this reason, and are tried again.
    Waiting {
        /// The error and its causes.
        why: String,
    },
    /// The outage is over.
    Resumed {
        /// How long it lasted.
        after: Duration,
    },
    /// A topic has partitions that it did not have before; they are read from their beginning.
    PartitionsAdded { topic: String, count: usize },
    /// A topic does not exist any more; the consumer waits for it.
    TopicGone { topic: String },
    /// A topic was deleted and created again; it is read from its beginning.
    TopicRecreated { topic: String },
    /// The broker deleted records before they were read.
    RecordsDeleted {
        partition: TopicPartition,
        /// The offset that would have been read next.
        from: i64,
        /// The first offset that is still there, from which reading goes on.
        to: i64,
    },
    /// The last records may be lost: with acks=0 they are not acknowledged, and the connection ended.
    Unconfirmed {
        /// The error and its causes.
        why: String,
    },
    /// The log now ends before records that were read.
    Truncated {
        partition: TopicPartition,
        /// The offset that would have been read next.
        from: i64,
        /// The offset from which reading goes on.
        to: i64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { why } => write!(f, "waiting: {why}"),
            Self::Resumed { after } => {
                write!(f, "going on after {:.1} s", after.as_secs_f64())
            }
            Self::PartitionsAdded { topic, count } => write!(
                f,
                "topic {topic} has {count} more {}, read from the beginning",
                if *count == 1 {
                    "partition"
                } else {
                    "partitions"
                }
            ),
            Self::TopicGone { topic } => {
                write!(f, "topic {topic} does not exist any more; waiting for it")
            }
            Self::TopicRecreated { topic } => write!(
                f,
                "topic {topic} was deleted and created again; reading it from its beginning"
            ),
            Self::RecordsDeleted {
                partition,
                from,
                to,
            } => write!(
                f,
                "{partition}: records {from} to {} were deleted before they were read; going on at {to}",
                to - 1
            ),
            Self::Unconfirmed { why } => write!(
                f,
                "with acks=0 nobody acknowledges records, and the last ones may be lost: {why}"
            ),
            Self::Truncated {
                partition,
                from,
                to,
            } => write!(
                f,
                "{partition}: the log was cut off before {from}, up to which it was read; going on at {to}"
            ),
        }
    }
}

/// The calls whose failures are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Calls to the leader of partitions.
    Leader(i32),
    /// The answers of a leader for one partition.
    Partition(TopicPartition),
    /// Calls to the group's coordinator.
    Group,
    /// Requests of metadata.
    Metadata,
}

/// The sources that fail now, and the notices that were not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    failing: BTreeMap<Source, u32>,
    since: Option<Instant>,
    is_told: bool,
    notices: Vec<Notice>,
    /// How long an outage may last before its error is returned; `None` for ever.
    patience: Option<Duration>,
}

impl Outages {
    /// Outages that end with an error after `patience`.
    pub fn new(patience: Option<Duration>) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// A source failed with a retriable error. Returns the error once `patience` is over.
    pub fn failed(&mut self, source: Source, error: ClientError) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let failures = self.failing.entry(source).or_default();
        *failures += 1;
        let is_answer = error.code().is_some();
        let is_outage = !is_answer || since.elapsed() >= READY_AFTER;
        if *failures >= OUTAGE_AFTER && is_outage && !self.is_told {
            self.is_told = true;
            self.notices.push(Notice::Waiting { why: chain(&error) });
        }
        match self.patience {
            Some(patience) if since.elapsed() > patience => Err(error),
            _ => Ok(()),
        }
    }

    pub fn works(&mut self, source: &Source) {
        self.failing.remove(source);
        self.end();
    }

    /// A source that still fails is no longer needed. An outage that ends in this way gives no [`Notice::Resumed`].
    pub fn gave_up(&mut self, source: &Source) {
        self.failing.remove(source);
        if self.failing.is_empty() {
            self.since = None;
            self.is_told = false;
        }
    }

    /// Forgets the sources that are not used any more.
    pub fn retain(&mut self, is_asked: impl Fn(&Source) -> bool) {
        self.failing.retain(|source, _| is_asked(source));
        self.end();
    }

    /// Adds a notice.
    pub fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// The notices since the last call.
    pub fn take(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn end(&mut self) {
        if !self.failing.is_empty() {
            return;
        }
        let Some(since) = self.since.take() else {
            return;
        };
        if std::mem::take(&mut self.is_told) {
            let after = since.elapsed();
            self.notices.push(Notice::Resumed { after });
        }
    }
}

/// The error and its causes.
pub(crate) fn chain(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Notice, Outages, Source};
    use crate::ClientError;

    fn failed(outages: &mut Outages, source: Source) {
        outages.failed(source, ClientError::UnknownNode(1)).unwrap();
    }

    #[test]
    fn an_outage_gives_one_notice_and_its_end_another() {
        let mut outages = Outages::new(None);
        for _ in 0..5 {
            failed(&mut outages, Source::Leader(1));
            failed(&mut outages, Source::Group);
        }
        outages.works(&Source::Leader(1));
        let waiting = "the cluster has no broker 1".to_owned();
        assert_eq!(outages.take(), [Notice::Waiting { why: waiting }]);
        outages.works(&Source::Group);
        assert!(matches!(outages.take()[..], [Notice::Resumed { .. }]));
        outages.works(&Source::Group);
        assert_eq!(outages.take(), []);
    }

    #[test]
    fn a_single_failure_gives_no_notice() {
        let mut outages = Outages::new(None);
        failed(&mut outages, Source::Metadata);
        outages.works(&Source::Metadata);
        assert_eq!(outages.take(), []);
    }

    #[test]
    fn a_source_that_is_not_used_any_more_prolongs_no_outage() {
        let mut outages = Outages::new(None);
        failed(&mut outages, Source::Leader(1));
        failed(&mut outages, Source::Leader(1));
        outages.retain(|source| *source != Source::Leader(1));
        assert_eq!(outages.take().len(), 2);
    }

    #[test]
    fn an_outage_of_a_source_that_was_given_up_ends_without_a_notice() {
        let mut outages = Outages::new(None);
        for _ in 0..2 {
            failed(&mut outages, Source::Leader(1));
        }
        outages.gave_up(&Source::Leader(1));
        assert!(matches!(outages.take()[..], [Notice::Waiting { .. }]));
        // The next outage gives a notice again.
        for _ in 0..2 {
            failed(&mut outages, Source::Leader(2));
        }
        outages.works(&Source::Leader(2));
        assert_eq!(outages.take().len(), 2);
    }

    #[test]
    fn patience_ends_with_the_error() {
        let mut outages = Outages::new(Some(Duration::ZERO));
        let error = || ClientError::UnknownNode(1);
        let first = outages.failed(Source::Group, error());
        let second = first.and_then(|()| outages.failed(Source::Group, error()));
        assert!(second.is_err());
    }
}
