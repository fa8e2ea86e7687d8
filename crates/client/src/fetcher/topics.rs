//! Handles new metadata: added partitions, and topics that were deleted or created again.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::messages::KafkaUuid;
use tokio::time::Instant;

use super::reading::{Lookup, Reading, StartAt};
use super::{Done, Fetcher};
use crate::backoff::pause_after;
use crate::error::ErrorCode;
use crate::notice::{Notice, Source};
use crate::{ClientError, OffsetSpec, Result, TopicMetadata, TopicPartition};

const BEGINNING: Lookup = Lookup::Start(StartAt::Found(OffsetSpec::Earliest));

/// A topic as it was when its positions were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub id: KafkaUuid,
    pub partitions: usize,
}

impl Known {
    pub fn of(topic: &TopicMetadata) -> Self {
        Self {
            id: topic.id,
            partitions: topic.partitions.len(),
        }
    }
}

impl Fetcher {
    /// Keeps the metadata of a topic up to date. Its positions belong to the topic as it is known now.
    pub(crate) fn know(&mut self, topic: &str) {
        let metadata = self.cluster.metadata();
        let known = metadata.topics.get(topic).map(Known::of);
        let entry = self.topics.entry(topic.to_owned()).or_default();
        *entry = entry.or(known);
    }

    /// The topic as it was last seen; `None` while it does not exist.
    pub(crate) fn known(&self, topic: &str) -> Option<Known> {
        self.topics.get(topic).copied().flatten()
    }

    /// The number of answers with metadata so far.
    pub(crate) fn refreshes(&self) -> u64 {
        self.refresh.count
    }

    /// Requests metadata at once, or after a pause that grows with the number of refreshes that did not help.
    pub(super) fn hurry_refresh(&mut self) {
        if self.refresh.is_busy {
            return;
        }
        let now = Instant::now();
        let soon = match self.refresh.failures {
            0 => now,
            failures => now + pause_after(failures),
        };
        self.refresh.at = self.refresh.at.min(soon);
    }

    pub(super) fn start_refresh(&mut self) {
        let refresh = &mut self.refresh;
        if refresh.is_busy || refresh.at > Instant::now() || self.topics.is_empty() {
            return;
        }
        refresh.is_busy = true;
        // If the answer does not help, the next refresh comes after a longer pause.
        refresh.failures += 1;
        let topics: Vec<_> = self.topics.keys().cloned().collect();
        let cluster = Arc::clone(&self.cluster);
        self.in_flight
            .spawn(async move { Done::Refreshed(cluster.refresh(&topics).await) });
    }

    pub(super) fn take_refreshed(
        &mut self,
        answer: Result<BTreeMap<String, ErrorCode>>,
    ) -> Result<()> {
        self.refresh.is_busy = false;
        let errors = match answer {
            Ok(errors) => errors,
            Err(error) if error.is_retriable() => {
                self.refresh.at = Instant::now() + pause_after(self.refresh.failures);
                return self.outages.failed(Source::Metadata, error);
            }
            Err(error) => return Err(error),
        };
        self.outages.works(&Source::Metadata);
        self.refresh.count += 1;
        self.refresh.at = Instant::now() + self.cluster.options().metadata_max_age;
        let names: Vec<_> = self.topics.keys().cloned().collect();
        for name in &names {
            match errors.get(name) {
                None => self.take_topic(name),
                Some(ErrorCode::UnknownTopicOrPartition) => self.lose_topic(name),
                Some(code) if code.is_retriable() => {}
                Some(code) => ClientError::check(code.code(), None, format!("topic {name}"))?,
            }
        }
        self.end_old_outages();
        self.miss_leaders()?;
        if self.is_every_leader_known() {
            self.refresh.failures = 0;
        }
        Ok(())
    }

    /// Counts a failure for each partition that has no leader.
    fn miss_leaders(&mut self) -> Result<()> {
        let metadata = self.cluster.metadata();
        for partition in self.partitions.keys() {
            let found = metadata.partition(partition);
            if found.is_none_or(|found| found.leader.is_some()) {
                continue;
            }
            let what = format!("{partition} has no leader");
            let error = ClientError::refused(what, ErrorCode::LeaderNotAvailable);
            self.outages
                .failed(Source::Partition(partition.clone()), error)?;
        }
        Ok(())
    }

    fn is_every_leader_known(&self) -> bool {
        let metadata = self.cluster.metadata();
        let mut partitions = self.partitions.iter();
        // A partition that fails at its leader needs another refresh, but not at once.
        partitions.all(|(partition, reading)| {
            reading.failures == 0 && metadata.leader(partition).is_some()
        })
    }

    /// Ends the outages of former leaders, and of partitions that are not read any more.
    fn end_old_outages(&mut self) {
        let metadata = self.cluster.metadata();
        let partitions = &self.partitions;
        self.outages.retain(|source| match source {
            Source::Leader(id) => partitions.keys().any(|of| metadata.leader(of) == Some(*id)),
            Source::Partition(partition) => partitions.contains_key(partition),
            Source::Group | Source::Metadata => true,
        });
    }

    fn take_topic(&mut self, name: &str) {
        let metadata = self.cluster.metadata();
        let Some(topic) = metadata.topics.get(name) else {
            return;
        };
        let now = Known::of(topic);
        let before = self.topics.insert(name.to_owned(), Some(now)).flatten();
        let is_of_topic = |partition: &TopicPartition| partition.topic == name;
        // A topic that was lost has no id here, but its partitions wait for it.
        let is_recreated = match before {
            Some(before) => before.id != now.id,
            None => self.partitions.keys().any(is_of_topic),
        };
        if is_recreated {
            self.partitions.retain(|partition, _| {
                !is_of_topic(partition) || topic.partitions.contains_key(&partition.partition)
            });
            for (partition, reading) in &mut self.partitions {
                if is_of_topic(partition) {
                    *reading = Reading::unknown(BEGINNING);
                }
            }
            self.drop_in_flight();
            let topic = name.to_owned();
            self.outages.tell(Notice::TopicRecreated { topic });
        }
        if self.watched.contains(name) {
            self.add_partitions(topic, is_recreated);
        }
    }

    /// Begins to read the partitions of a watched topic that are not read yet.
    fn add_partitions(&mut self, topic: &TopicMetadata, is_recreated: bool) {
        let mut count = 0;
        for index in topic.partitions.keys() {
            let partition = TopicPartition::new(&topic.name, *index);
            self.partitions.entry(partition).or_insert_with(|| {
                count += 1;
                Reading::unknown(BEGINNING)
            });
        }
        if count > 0 && !is_recreated {
            let topic = topic.name.clone();
            self.outages.tell(Notice::PartitionsAdded { topic, count });
        }
    }

    fn lose_topic(&mut self, name: &str) {
        let before = self.topics.insert(name.to_owned(), None).flatten();
        if before.is_some() {
            let topic = name.to_owned();
            self.outages.tell(Notice::TopicGone { topic });
        }
    }
}
